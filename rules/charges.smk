rule calculate_charges:
    """Born charges and dielectric tensors of the relaxed crystals of one shard."""
    input:
        outputs=charges_outputs,
        relaxed="results/relaxed/{shard}.h5",
        relaxed_records="results/relaxed/{shard}.parquet",
    output:
        arrays="results/charges/{shard}.h5",
        records="results/charges/{shard}.parquet",
    log:
        "logs/calculate_charges/{shard}.log",
    benchmark:
        "benchmarks/calculate_charges/{shard}.tsv"
    conda:
        engine_environment(config["reference"])
    threads: 1
    resources:
        mem_mb=NEEDS.memory("calculate_charges"),
        runtime=NEEDS.runtime("calculate_charges"),
        gpu=NEEDS.gpus("calculate_charges"),
        tasks=NEEDS.tasks("calculate_charges"),
    params:
        code=code_of("scripts/calculate_charges.py", *charges_code(config)),
        charges=charges_settings(config),
        machine=machine_state(config["reference"]),
        how=unwatched(how_to_calculate(config["reference"])),
        outputs=unwatched(output_folder(config, "reference")),
        folder=unwatched(config["charges"]["folder"]),
    script:
        "../scripts/calculate_charges.py"
