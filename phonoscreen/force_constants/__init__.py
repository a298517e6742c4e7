"""Force constants from displacements and forces: symmetry bases, fits, sum rules, checks of the forces."""
