"""Phonons of a crystal with force constants: dynamical matrix, long-range part, modes, thermal properties."""
