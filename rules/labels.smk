rule label_forces:
    """Reference forces of the displaced supercells of one shard."""
    input:
        outputs=collected_outputs,
        calculations=calculated_supercells,
        supercells="results/supercells/{shard}.h5",
        supercell_records="results/supercells/{shard}.parquet",
        assignment="results/bases/{shard}.parquet",
        manifest="results/structures/manifest/{shard}.parquet",
    output:
        arrays="results/labels/{shard}.h5",
        records="results/labels/{shard}.parquet",
    log:
        "logs/label_forces/{shard}.log",
    benchmark:
        "benchmarks/label_forces/{shard}.tsv"
    conda:
        engine_environment(config["reference"])
    threads: 1
    resources:
        mem_mb=NEEDS.memory("label_forces"),
        runtime=NEEDS.runtime("label_forces"),
        gpu=NEEDS.gpus("label_forces"),
        tasks=NEEDS.tasks("label_forces"),
    params:
        code=unwatched(code_of("scripts/label_forces.py", ENGINE_CODE)),
        reference=unwatched(engine_settings(config["reference"], "supercell")),
        parts=config["reference"]["label"],
        machine=machine_state(config["reference"]),
        how=unwatched(how_to_calculate(config["reference"])),
        outputs=unwatched(output_folder(config, "reference")),
    script:
        "../scripts/label_forces.py"


rule check_labels:
    """Labels of one shard without those whose forces show a mistake in sign, unit or order of atoms."""
    input:
        labels="results/labels/{shard}.h5",
        records="results/labels/{shard}.parquet",
        supercells="results/supercells/{shard}.h5",
        assignment="results/bases/{shard}.parquet",
        bases="results/bases/{shard}.h5",
    output:
        arrays="results/checked_labels/{shard}.h5",
        records="results/checked_labels/{shard}.parquet",
    log:
        "logs/check_labels/{shard}.log",
    benchmark:
        "benchmarks/check_labels/{shard}.tsv"
    conda:
        "../envs/lattice.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("check_labels"),
        runtime=NEEDS.runtime("check_labels"),
    params:
        code=code_of("scripts/check_labels.py"),
    script:
        "../scripts/check_labels.py"


rule evaluate_baselines:
    """Universal potentials on the labelled supercells of structures outside the training part."""
    input:
        supercells=expand("results/supercells/{shard}.h5", shard=MODEL_SHARDS),
        labels=expand("results/checked_labels/{shard}.h5", shard=MODEL_SHARDS),
        manifest=expand(
            "results/structures/manifest/{shard}.parquet", shard=MODEL_SHARDS
        ),
    output:
        table="results/baselines/forces.parquet",
        components="results/baselines/components.h5",
    log:
        "logs/evaluate_baselines.log",
    benchmark:
        "benchmarks/evaluate_baselines.tsv"
    conda:
        "../envs/reference.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("evaluate_baselines"),
        runtime=NEEDS.runtime("evaluate_baselines"),
        gpu=NEEDS.gpus("evaluate_baselines"),
    params:
        code=code_of("scripts/evaluate_baselines.py"),
        baselines=config["baselines"],
    script:
        "../scripts/evaluate_baselines.py"
