rule collect_structures:
    """Candidates from a database, a folder of files or a list of compounds."""
    input:
        pool=collection_files,
        prototypes="resources/prototypes.yaml",
        elements="resources/elements.yaml",
    output:
        structures="results/structures/candidates.extxyz",
        table="results/structures/candidates.parquet",
    log:
        "logs/collect_structures.log",
    benchmark:
        "benchmarks/collect_structures.tsv"
    conda:
        "../envs/structures.yaml"
    params:
        code=code_of("scripts/collect_structures.py"),
        source=config["source"],
    script:
        "../scripts/collect_structures.py"
