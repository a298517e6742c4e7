"""Records, provenance, the ledger of published numbers and the command line."""
