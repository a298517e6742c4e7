rule index_outputs:
    """Which existing outputs each structure has, so that a shard runs again when those of its structures change."""
    input:
        files=existing_outputs,
        manifest="results/structures/manifest.parquet",
    output:
        indices=expand("results/outputs/{{kind}}/{shard}.json", shard=SHARDS),
    log:
        "logs/index_outputs/{kind}.log",
    benchmark:
        "benchmarks/index_outputs/{kind}.tsv"
    conda:
        "../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("index_outputs"),
        runtime=NEEDS.runtime("index_outputs"),
    params:
        code=code_of("scripts/index_outputs.py"),
        folder=folder_of_outputs,
    script:
        "../scripts/index_outputs.py"
