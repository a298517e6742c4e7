"""Sources, prototypes, filters, relaxation and displaced supercells."""
