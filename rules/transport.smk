rule solve_bte:
    """Phonon properties and thermal conductivity of every stable structure of one shard."""
    input:
        force_constants="results/force_constants/{source}/{shard}.h5",
        records="results/stability/{source}/{shard}.parquet",
        relaxed="results/relaxed/{shard}.h5",
        bases="results/bases/{shard}.h5",
    output:
        arrays="results/transport/{source}/{shard}.h5",
        records="results/transport/{source}/{shard}.parquet",
    log:
        "logs/solve_bte/{source}_{shard}.log",
    benchmark:
        "benchmarks/solve_bte/{source}_{shard}.tsv"
    conda:
        "../envs/transport.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("solve_bte"),
        runtime=NEEDS.runtime("solve_bte"),
        tasks=NEEDS.tasks("solve_bte"),
        matrix_mb=NEEDS.matrix_mb(),
    params:
        code=code_of("scripts/solve_bte.py"),
        transport=transport_settings(config),
    script:
        "../scripts/solve_bte.py"


rule check_supercells:
    """Thermal conductivity of a few structures with the next larger supercell, from reference forces."""
    input:
        structures="results/structures/candidates.extxyz",
        manifest="results/structures/manifest.parquet",
        charges=charges_of("h5", SHARDS),
        model=[local(path) for path in relaxing_files(config)],
        prototypes=local(f"{RESOURCES}/prototypes.yaml"),
    output:
        records="results/checks/supercell_size.parquet",
    log:
        "logs/check_supercells.log",
    benchmark:
        "benchmarks/check_supercells.tsv"
    conda:
        "../envs/checks.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("check_supercells"),
        runtime=NEEDS.runtime("check_supercells"),
        gpu=NEEDS.gpus("check_supercells"),
        tasks=NEEDS.tasks("check_supercells"),
        matrix_mb=NEEDS.matrix_mb(),
    params:
        code=code_of("scripts/check_supercells.py", ENGINE_CODE, *relaxing_code(config)),
        structures=config["supercell_check"]["structures"],
        reference_relax=relaxing_settings(config),
        reference=engine_settings(config["reference"], "supercell"),
        machine=machine_state(config["reference"]),
        how=unwatched(how_to_calculate(config["reference"])),
        outputs=unwatched(output_folder(config, "reference")),
        relax=relaxation_limits(config),
        symmetry_tolerance_angstrom=config["filter"]["symmetry_tolerance_angstrom"],
        supercell=config["supercell"],
        force_constants=config["force_constants"],
        transport=transport_settings(config),
        seed=config["seed"],
    script:
        "../scripts/check_supercells.py"


rule cross_check_transport:
    """A few structures of each source solved again with phono3py, from the same force constants."""
    input:
        force_constants=expand(
            "results/force_constants/{source}/{shard}.h5", source=SOURCES, shard=SHARDS
        ),
        records=expand(
            "results/transport/{source}/{shard}.parquet", source=SOURCES, shard=SHARDS
        ),
        relaxed=expand("results/relaxed/{shard}.h5", shard=SHARDS),
        bases=expand("results/bases/{shard}.h5", shard=SHARDS),
    output:
        records="results/checks/transport.parquet",
    log:
        "logs/cross_check_transport.log",
    benchmark:
        "benchmarks/cross_check_transport.tsv"
    conda:
        "../envs/transport.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("cross_check_transport"),
        runtime=NEEDS.runtime("cross_check_transport"),
        matrix_mb=NEEDS.matrix_mb(),
    params:
        code=code_of("scripts/cross_check_transport.py"),
        structures_per_source=config["cross_check"]["structures_per_source"],
        transport=transport_settings(config),
    script:
        "../scripts/cross_check_transport.py"


rule cross_check_force_constants:
    """A few structures of each source fitted again with hiphive and with symfc, to the same forces."""
    input:
        charges=charges_of("h5", SHARDS),
        forces_reference=expand("results/labels/{shard}.h5", shard=SHARDS),
        forces_predicted=expand("results/predicted/{shard}.h5", shard=SHARDS),
        records_reference=expand(
            "results/force_constants/reference/{shard}.parquet", shard=SHARDS
        ),
        records_predicted=expand(
            "results/force_constants/predicted/{shard}.parquet", shard=SHARDS
        ),
        supercells=expand("results/supercells/{shard}.h5", shard=SHARDS),
        assignment=expand("results/bases/{shard}.parquet", shard=SHARDS),
    output:
        records="results/checks/force_constants.parquet",
    log:
        "logs/cross_check_force_constants.log",
    benchmark:
        "benchmarks/cross_check_force_constants.tsv"
    conda:
        "../envs/lattice.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("cross_check_force_constants"),
        runtime=NEEDS.runtime("cross_check_force_constants"),
    params:
        code=code_of("scripts/cross_check_force_constants.py"),
        sources=SOURCES,
        structures_per_source=config["cross_check"]["structures_per_source"],
        force_constants=config["force_constants"],
    script:
        "../scripts/cross_check_force_constants.py"
