"""Input functions of the rules: what depends on wildcards, and files of the user by any name."""


def files_of_source(wildcards):
    """Files that the candidates come from."""
    return [local(path) for path in source_files(config["source"])]


def existing_outputs(wildcards):
    """Outputs of other programs that the study reads."""
    return [local(path) for path in output_files(output_folder(config, wildcards.kind))]


def folder_of_outputs(wildcards, output):
    """Folder of these outputs; its name decides nothing, so that it is not watched."""
    return output_folder(config, wildcards.kind)


def force_sets(wildcards):
    """Digests of the force sets that the study's labels are taken from, if they are."""
    taken = config["reference"]["engine"] == "force_sets"
    return "results/force_sets/digests.json" if taken else []


def collected_outputs(wildcards):
    """List of the existing outputs of the reference for the structures of one shard, if there are any to read."""
    if config["reference"]["engine"] == "force_sets":
        return force_sets(wildcards)
    if output_folder(config, "reference") is None:
        return []
    return f"results/outputs/reference/{wildcards.shard}.json"


def bonding_outputs(wildcards):
    """List of the existing outputs of LOBSTER for the structures of one shard, if there are any to read."""
    if output_folder(config, "bonding") is None:
        return []
    return f"results/outputs/bonding/{wildcards.shard}.json"


def charges_outputs(wildcards):
    """List of the files that hold Born charges of the structures of one shard, if there are any to read."""
    if output_folder(config, "charges") is None:
        return []
    return f"results/outputs/charges/{wildcards.shard}.json"


def bonding_records(wildcards):
    """COHP that was calculated before, if the study takes any."""
    bonding = config["bonding"]
    if bonding["engine"] != "gpaw" or bonding["records"] is None:
        return []
    return [local(bonding["records"])]


def manifest_for_bonding(wildcards):
    """What the choice of structures for COHP depends on: the whole study, or the shard where all are analysed."""
    bonding = config["bonding"]
    if (
        bonding["structures_max"] is not None
        or bonding["budget_cpu_minutes"] is not None
    ):
        return "results/structures/manifest.parquet"
    return f"results/structures/manifest/{wildcards.shard}.parquet"


def labels_until(wildcards):
    """Labels of the rounds before this one."""
    return expand(
        "results/rounds/{round}/checked_labels.h5", round=range(int(wildcards.round))
    )


def selections_until(wildcards):
    """Selections of the rounds before this one."""
    return expand(
        "results/rounds/{round}/selection.parquet", round=range(int(wildcards.round))
    )


def convergence_until(wildcards):
    """How the rounds before this one ended."""
    return expand(
        "results/rounds/{round}/convergence.json", round=range(int(wildcards.round))
    )


def convergence_before(wildcards):
    """How the round before ended; nothing for round 0."""
    return convergence_until(wildcards)[-1:]


def member_before(wildcards):
    """The same member after the round before; in round 0 that of a published model, if there is one to start from.

    A published model with fewer members is the beginning of several: seeds and batches tell them apart.
    """
    if int(wildcards.round) == 0:
        return [
            local(path)
            for path in published_member(
                config["training"]["pretrained"], int(wildcards.member)
            )
        ]
    folder = f"results/rounds/{int(wildcards.round) - 1}/members/{wildcards.member}"
    return [f"{folder}/model.safetensors", f"{folder}/model.json"]


def model_before(wildcards):
    """Settings of the published model that round 0 begins with, if there is one."""
    folder = config["training"]["pretrained"]
    return [local(f"{folder}/model.json")] if folder else []


def compounds_before(wildcards):
    """List of the compounds that the published model has learned from which round 0 begins with, if there is one."""
    return [
        local(path) for path in published_compounds(config["training"]["pretrained"])
    ]


def forces_of(wildcards):
    """Forces of one source: reference labels, or the published model's."""
    folder = FORCES[wildcards.source]
    return {
        "forces": f"results/{folder}/{wildcards.shard}.h5",
        "forces_records": f"results/{folder}/{wildcards.shard}.parquet",
    }


def charges_of(kind, shards):
    """Born charges of some shards (h5 or parquet), where the study has a stage for them."""
    own = config["charges"]["source"] != "reference"
    return (
        expand("results/charges/{shard}.{kind}", shard=shards, kind=kind) if own else []
    )


def charges_of_shard(wildcards):
    """Born charges of one shard."""
    return charges_of("h5", [wildcards.shard])


def charges_records_of_shard(wildcards):
    """What became of the Born charges of one shard."""
    return charges_of("parquet", [wildcards.shard])


def tables_of(wildcards):
    """Tables one figure draws."""
    return {
        table: f"results/tables/{table}.parquet"
        for table in tables_of_figure(wildcards.figure)
    }


def code_of_figure(wildcards):
    """Code that draws one figure."""
    return code_of(
        "scripts/draw_figure.py", f"phonoscreen/figures/{wildcards.figure}.py"
    )


def calculations_of(stage, shards):
    """Shares of the calculations of some shards, each a job; none where another engine than a DFT code calculates."""
    if stage not in shared_stages(config):
        return []
    return expand(
        "results/calculations/{stage}/{shard}-{batch}.parquet",
        stage=stage,
        shard=shards,
        batch=range(SHARES),
    )


def calculated_relaxations(wildcards):
    """Relaxations that several jobs share before the shard is relaxed; with one job it calculates itself."""
    return calculations_of("relaxations", [wildcards.shard]) if SHARES > 1 else []


def calculated_supercells(wildcards):
    """The same for the supercells of a shard."""
    return calculations_of("supercells", [wildcards.shard]) if SHARES > 1 else []


def all_calculations(wildcards):
    """All calculations before any selection."""
    stages = ("relaxations", "supercells")
    return [path for stage in stages for path in calculations_of(stage, SHARDS)]
