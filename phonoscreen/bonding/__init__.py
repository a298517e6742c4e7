"""Crystal orbital Hamilton populations."""
