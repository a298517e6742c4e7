"""Tables gathered from shards and the statistics of the study."""
