rule collect_force_sets:
    """Forces that others calculated: every calculation checked, all crystals in one file."""
    input:
        files=output_files(config["source"]["path"]),
    output:
        sets="results/force_sets/sets.h5",
        calculations="results/force_sets/calculations.parquet",
        digests="results/force_sets/digests.json",
    log:
        "logs/collect_force_sets.log",
    benchmark:
        "benchmarks/collect_force_sets.tsv"
    conda:
        "../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("collect_force_sets"),
        runtime=NEEDS.runtime("collect_force_sets"),
    params:
        code=code_of("scripts/collect_force_sets.py"),
        folder=unwatched(config["source"]["path"]),
        allow_mixed=config["source"]["allow_mixed"],
    script:
        "../scripts/collect_force_sets.py"
