"""Errors, names, records, shards, provenance, integrity and lineage of products."""
