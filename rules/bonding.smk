rule analyse_bonding:
    """Bonding and antibonding states from COHP for structures of one shard."""
    input:
        outputs=bonding_outputs,
        records=bonding_records,
        relaxed="results/relaxed/{shard}.h5",
        relaxed_records="results/relaxed/{shard}.parquet",
        transport_records="results/transport/predicted/{shard}.parquet",
        manifest=manifest_for_bonding,
    output:
        arrays="results/bonding/{shard}.h5",
        records="results/bonding/{shard}.parquet",
    log:
        "logs/analyse_bonding/{shard}.log",
    benchmark:
        "benchmarks/analyse_bonding/{shard}.tsv"
    conda:
        "../envs/bonding.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("analyse_bonding"),
        runtime=NEEDS.runtime("analyse_bonding"),
    params:
        code=code_of("scripts/analyse_bonding.py"),
        engine=config["bonding"]["engine"],
        installed=bonding_program(config["bonding"]["engine"]),
        outputs=unwatched(config["bonding"]["outputs"]),
        structures_max=config["bonding"]["structures_max"],
        budget_cpu_minutes=config["bonding"]["budget_cpu_minutes"],
        seed=config["seed"],
    script:
        "../scripts/analyse_bonding.py"
