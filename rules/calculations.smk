rule calculate_relaxations:
    """One share of the relaxations of a shard by the DFT code of the study."""
    input:
        structures="results/structures/initial/{shard}.extxyz",
    output:
        table="results/calculations/relaxations/{shard}-{batch}.parquet",
    log:
        "logs/calculate_relaxations/{shard}-{batch}.log",
    benchmark:
        "benchmarks/calculate_relaxations/{shard}-{batch}.tsv"
    conda:
        engine_environment(config["reference"])
    threads: 1
    resources:
        mem_mb=NEEDS.memory("calculate_relaxations"),
        runtime=NEEDS.runtime("calculate_relaxations"),
        gpu=NEEDS.gpus("calculate_relaxations"),
        tasks=NEEDS.tasks("calculate_relaxations"),
    params:
        code=unwatched(code_of("scripts/calculate_relaxations.py", ENGINE_CODE)),
        reference=unwatched(engine_settings(config["reference"], "relax")),
        relax=unwatched(relaxation_limits(config)),
        symmetry_tolerance_angstrom=unwatched(
            config["filter"]["symmetry_tolerance_angstrom"]
        ),
        jobs_per_shard=SHARES,
        machine=machine_state(config["reference"]),
        how=how_to_calculate(config["reference"]),
        outputs=unwatched(output_folder(config, "reference")),
    script:
        "../scripts/calculate_relaxations.py"


rule calculate_supercells:
    """One share of the supercells of a shard by the DFT code of the study."""
    input:
        supercells="results/supercells/{shard}.h5",
        supercell_records="results/supercells/{shard}.parquet",
        assignment="results/bases/{shard}.parquet",
        manifest="results/structures/manifest/{shard}.parquet",
    output:
        table="results/calculations/supercells/{shard}-{batch}.parquet",
    log:
        "logs/calculate_supercells/{shard}-{batch}.log",
    benchmark:
        "benchmarks/calculate_supercells/{shard}-{batch}.tsv"
    conda:
        engine_environment(config["reference"])
    threads: 1
    resources:
        mem_mb=NEEDS.memory("calculate_supercells"),
        runtime=NEEDS.runtime("calculate_supercells"),
        gpu=NEEDS.gpus("calculate_supercells"),
        tasks=NEEDS.tasks("calculate_supercells"),
    params:
        code=unwatched(code_of("scripts/calculate_supercells.py", ENGINE_CODE)),
        reference=unwatched(engine_settings(config["reference"], "supercell")),
        parts=config["reference"]["label"],
        jobs_per_shard=SHARES,
        machine=machine_state(config["reference"]),
        how=how_to_calculate(config["reference"]),
        outputs=unwatched(output_folder(config, "reference")),
    script:
        "../scripts/calculate_supercells.py"


rule list_calculations:
    """Every calculation of the DFT code: finished, failed, or waiting to be run elsewhere."""
    input:
        tables=all_calculations,
    output:
        list="results/calculations/list.csv",
    log:
        "logs/list_calculations.log",
    benchmark:
        "benchmarks/list_calculations.tsv"
    conda:
        engine_environment(config["reference"])
    threads: 1
    resources:
        mem_mb=NEEDS.memory("list_calculations"),
        runtime=NEEDS.runtime("list_calculations"),
        gpu=NEEDS.gpus("list_calculations"),
        tasks=NEEDS.tasks("list_calculations"),
    params:
        code=code_of("scripts/list_calculations.py", ENGINE_CODE),
        reference=unwatched(engine_settings(config["reference"], "supercell")),
        how=how_to_calculate(config["reference"]),
    script:
        "../scripts/list_calculations.py"
