"""Atomic environments, force models, training, committee and selection."""
