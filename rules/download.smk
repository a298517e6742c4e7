rule download_structures:
    """What a database service answers, page by page, as one snapshot."""
    input:
        prototypes=f"{RESOURCES}/prototypes.yaml",
    output:
        snapshot=config["source"]["snapshot"],
    log:
        "logs/download_structures.log",
    benchmark:
        "benchmarks/download_structures.tsv"
    # Where the launcher runs: nodes of a cluster seldom reach the databases.
    localrule: True
    conda:
        "../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("download_structures"),
        runtime=NEEDS.runtime("download_structures"),
    params:
        code=code_of("scripts/download_structures.py"),
        source={
            key: value for key, value in config["source"].items() if key != "snapshot"
        },
        filter=config["filter"],
    script:
        "../scripts/download_structures.py"
