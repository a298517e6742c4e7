rule solve_bte:
    """Phonon properties and thermal conductivity of every stable structure of one shard."""
    input:
        force_constants="results/force_constants/{source}/{shard}.h5",
        records="results/stability/{source}/{shard}.parquet",
        relaxed="results/relaxed/{shard}.h5",
        bases="results/bases/bases.h5",
    output:
        arrays="results/transport/{source}/{shard}.h5",
        records="results/transport/{source}/{shard}.parquet",
    log:
        "logs/solve_bte/{source}_{shard}.log",
    benchmark:
        "benchmarks/solve_bte/{source}_{shard}.tsv"
    conda:
        "../envs/transport.yaml"
    params:
        code=code_of("scripts/solve_bte.py"),
        transport=config["transport"],
    script:
        "../scripts/solve_bte.py"
