"""Force models: what all share (base), which there are (registry), and one file for each."""
