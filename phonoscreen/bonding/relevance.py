"""Which bonds of a crystal count as relevant."""

RELEVANT_SHARE = 0.1
"""Share of the strongest ICOHP from which on a bond counts as relevant; lobsterpy's default."""
