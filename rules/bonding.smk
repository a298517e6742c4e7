rule analyse_bonding:
    """Bonding and antibonding states from COHP for structures of one shard."""
    input:
        relaxed="results/relaxed/{shard}.h5",
        transport="results/transport/predicted/{shard}.parquet",
        manifest="results/structures/manifest.parquet",
    output:
        arrays="results/bonding/{shard}.h5",
        records="results/bonding/{shard}.parquet",
    log:
        "logs/analyse_bonding/{shard}.log",
    benchmark:
        "benchmarks/analyse_bonding/{shard}.tsv"
    conda:
        "../envs/bonding.yaml"
    params:
        code=code_of("scripts/analyse_bonding.py"),
        bonding=config["bonding"],
    script:
        "../scripts/analyse_bonding.py"
