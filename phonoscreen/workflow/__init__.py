"""What the Snakefile imports: shards, targets, code digests, the settings and their check."""
