"""Symmetry-adapted force constants, dynamical matrices and stability."""
