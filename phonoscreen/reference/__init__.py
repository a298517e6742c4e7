"""Where reference forces come from: DFT engines, universal potentials, collected outputs."""
