"""One module per figure; each draws from tables only and in one style."""
