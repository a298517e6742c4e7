"""What a rule does with one shard: the only room that knows shard files, outcomes and settings together."""
