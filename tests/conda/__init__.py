"""A conda for machines that reach no channel: packages made of wheels, a real solver, the calls that Snakemake makes.

It proves that the environment files parse, that their pins fit together and that they suffice. It does not prove that
conda-forge holds these versions.
"""
