"""Phonon properties of cubic crystals from learned atomic forces."""

__version__ = "0.2.0.dev0"
