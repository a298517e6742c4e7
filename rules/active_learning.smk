def labels_until(wildcards):
    """Labels of the rounds before this one."""
    return expand(
        "results/rounds/{round}/labels/{shard}.h5",
        round=range(int(wildcards.round)),
        shard=SHARDS,
    )


def selections_until(wildcards):
    """Selections of the rounds before this one."""
    return expand("results/rounds/{round}/selection.parquet", round=range(int(wildcards.round)))


def convergence_before(wildcards):
    """How the round before ended; nothing for round 0."""
    return expand(
        "results/rounds/{round}/convergence.json",
        round=range(int(wildcards.round))[-1:],
    )


def member_before(wildcards):
    """The same member after the round before; nothing for round 0."""
    return expand(
        "results/rounds/{round}/members/{member}/{file}",
        round=range(int(wildcards.round))[-1:],
        member=wildcards.member,
        file=["model.safetensors", "model.json"],
    )


rule assemble_dataset:
    """Training data of one round: all labels so far, split by structure."""
    input:
        supercells=expand("results/supercells/{shard}.h5", shard=SHARDS),
        labels=expand("results/labels/{shard}.h5", shard=SHARDS),
        manifest="results/structures/manifest.parquet",
        selected_labels=labels_until,
        selections=selections_until,
    output:
        arrays="results/rounds/{round}/dataset.h5",
        table="results/rounds/{round}/dataset.parquet",
    log:
        "logs/assemble_dataset/{round}.log",
    benchmark:
        "benchmarks/assemble_dataset/{round}.tsv"
    conda:
        "../envs/forcefield.yaml"
    params:
        code=code_of("scripts/assemble_dataset.py"),
        held_out_fraction=config["training"]["held_out_fraction"],
        max_supercells_per_structure=config["training"]["max_supercells_per_structure"],
        seed=config["seed"],
    script:
        "../scripts/assemble_dataset.py"


rule train_member:
    """One member of the committee."""
    input:
        dataset="results/rounds/{round}/dataset.h5",
        table="results/rounds/{round}/dataset.parquet",
        previous=member_before,
        convergence=convergence_before,
    output:
        weights="results/rounds/{round}/members/{member}/model.safetensors",
        model="results/rounds/{round}/members/{member}/model.json",
        history="results/rounds/{round}/members/{member}/history.parquet",
    log:
        "logs/train_member/{round}_{member}.log",
    benchmark:
        "benchmarks/train_member/{round}_{member}.tsv"
    conda:
        "../envs/forcefield.yaml"
    params:
        code=code_of("scripts/train_member.py"),
        force_model=model_settings(config["force_model"]),
        training=config["training"],
        seed=config["seed"],
    script:
        "../scripts/train_member.py"
