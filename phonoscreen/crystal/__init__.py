"""Crystals: cell and atoms, units, supercells, symmetry, primitive cells, meshes of wave vectors."""
