"""Phonon properties of cubic crystals from learned atomic forces."""

__version__ = "0.1.0"
