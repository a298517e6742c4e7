"""Harmonic properties, three-phonon scattering, Boltzmann equation and coherences."""
