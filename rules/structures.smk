rule collect_structures:
    """Candidates from a database, a folder of files or a list of compounds."""
    input:
        source=files_of_source,
        prototypes=local(f"{RESOURCES}/prototypes.yaml"),
    output:
        structures="results/structures/candidates.extxyz",
        table="results/structures/candidates.parquet",
    log:
        "logs/collect_structures.log",
    benchmark:
        "benchmarks/collect_structures.tsv"
    # Where the launcher runs: nodes of a cluster seldom reach the databases.
    localrule: True
    conda:
        "../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("collect_structures"),
        runtime=NEEDS.runtime("collect_structures"),
    params:
        code=code_of("scripts/collect_structures.py"),
        source=unwatched(config["source"]),
        service=service_of(config),
        filter={
            key: config["filter"][key]
            for key in (
                "classes",
                "formation_energy_max_ev_per_atom",
                "hull_distance_max_ev_per_atom",
            )
        },
    script:
        "../scripts/collect_structures.py"


rule filter_structures:
    """The manifest: candidates that pass the filters, their class, part and shard."""
    input:
        structures="results/structures/candidates.extxyz",
        table="results/structures/candidates.parquet",
        prototypes=local(f"{RESOURCES}/prototypes.yaml"),
        published=local(f"{RESOURCES}/published/table1.yaml"),
    output:
        manifest="results/structures/manifest.parquet",
        records="results/structures/filter_records.parquet",
        offered="results/structures/offered.parquet",
        offered_csv="results/structures/offered.csv",
        initial=expand("results/structures/initial/{shard}.extxyz", shard=SHARDS),
        of_shard=expand("results/structures/manifest/{shard}.parquet", shard=SHARDS),
    log:
        "logs/filter_structures.log",
    benchmark:
        "benchmarks/filter_structures.tsv"
    conda:
        "../envs/structures.yaml"
    threads: 16
    resources:
        mem_mb=NEEDS.memory("filter_structures"),
        runtime=NEEDS.runtime("filter_structures"),
    params:
        code=code_of("scripts/filter_structures.py"),
        filter=config["filter"],
        shards=SHARDS,
        seed=config["seed"],
    script:
        "../scripts/filter_structures.py"


rule relax_structures:
    """Relax cell and free coordinates with the symmetry kept."""
    input:
        structures="results/structures/initial/{shard}.extxyz",
        # As for forces: what model.json says beside the weights may change, such as their calibration.
        model=[
            ancient(local(path)) if path.endswith(".json") else local(path)
            for path in relaxing_files(config)
        ],
        calculations=calculated_relaxations,
        force_sets=force_sets,
    output:
        arrays="results/relaxed/{shard}.h5",
        records="results/relaxed/{shard}.parquet",
        structures="results/relaxed/{shard}.extxyz",
    log:
        "logs/relax_structures/{shard}.log",
    benchmark:
        "benchmarks/relax_structures/{shard}.tsv"
    conda:
        relaxing_environment(config)
    threads: 1
    resources:
        mem_mb=NEEDS.memory("relax_structures"),
        runtime=NEEDS.runtime("relax_structures"),
        gpu=NEEDS.gpus("relax_structures"),
        tasks=NEEDS.tasks("relax_structures"),
    params:
        code=unwatched(code_of("scripts/relax_structures.py", *relaxing_code(config))),
        reference=unwatched(relaxing_settings(config)),
        relax=unwatched(relaxation_limits(config)),
        symmetry_tolerance_angstrom=unwatched(
            config["filter"]["symmetry_tolerance_angstrom"]
        ),
        machine=machine_state(config["reference"]),
        how=unwatched(how_to_calculate(config["reference"])),
        outputs=unwatched(output_folder(config, "reference")),
    script:
        "../scripts/relax_structures.py"


rule displace_supercells:
    """Supercells with every atom displaced by the same length in a random direction."""
    input:
        relaxed="results/relaxed/{shard}.h5",
        relaxed_records="results/relaxed/{shard}.parquet",
        assignment="results/bases/{shard}.parquet",
    output:
        arrays="results/supercells/{shard}.h5",
        records="results/supercells/{shard}.parquet",
    log:
        "logs/displace_supercells/{shard}.log",
    benchmark:
        "benchmarks/displace_supercells/{shard}.tsv"
    conda:
        "../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("displace_supercells"),
        runtime=NEEDS.runtime("displace_supercells"),
    params:
        code=code_of("scripts/displace_supercells.py"),
        displacement_angstrom=config["supercell"]["displacement_angstrom"],
        seed=config["seed"],
    script:
        "../scripts/displace_supercells.py"
