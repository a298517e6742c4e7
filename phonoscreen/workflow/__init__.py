"""What the Snakefile imports (standard library only): shards, targets, code digests."""
