"""Settings of a study: types, limits, defaults and descriptions, and their check."""
