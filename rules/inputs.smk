"""Input functions of the rules: what depends on wildcards."""


def labels_until(wildcards):
    """Labels of the rounds before this one."""
    return expand(
        "results/rounds/{round}/labels/{shard}.h5",
        round=range(int(wildcards.round)),
        shard=SHARDS,
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
    """The same member after the round before; in round 0 that of a published model, if there is one to start from."""
    if int(wildcards.round) == 0:
        folder = config["training"]["pretrained"]
        weights = f"{folder}/member{wildcards.member}.safetensors"
        return [weights, f"{folder}/model.json"] if folder else []
    folder = f"results/rounds/{int(wildcards.round) - 1}/members/{wildcards.member}"
    return [f"{folder}/model.safetensors", f"{folder}/model.json"]


def forces_of(wildcards):
    """Forces of one source: reference labels, the published model's, or those of a point of the experiment."""
    folders = {"reference": "labels", "predicted": "predicted"}
    folder = folders.get(wildcards.source, f"experiment/forces/{wildcards.source}")
    return {
        "forces": f"results/{folder}/{wildcards.shard}.h5",
        "forces_records": f"results/{folder}/{wildcards.shard}.parquet",
    }


def point_folder(point):
    """Folder of one point of a learning curve."""
    return f"results/experiment/{point['model']}/{point['size']}/{point['repeat']}"


def members_at(point):
    """Weights and settings of the members of one point."""
    folders = [f"{point_folder(point)}/members/{name}" for name in point["members"]]
    return {
        "weights": [f"{folder}/model.safetensors" for folder in folders],
        "settings": [f"{folder}/model.json" for folder in folders],
    }


def members_of_point(wildcards):
    """Members of the point that a rule's wildcards name."""
    named = {
        "model": wildcards.model,
        "size": int(wildcards.size),
        "repeat": int(wildcards.repeat),
    }
    return members_at(next(p for p in POINTS if named.items() <= p.items()))


def members_of_source(wildcards):
    """Members whose mean a source of forces is."""
    return members_at(POINT_SOURCES[wildcards.source])


def settings_of_model(wildcards):
    """Sections force_model and training of the model that a rule's wildcards name."""
    return experiment_model(config, wildcards.model)


def dataset_of_source(wildcards):
    """Compounds that the members of a source of forces were trained on."""
    return f"results/experiment/datasets/{POINT_SOURCES[wildcards.source]['size']}_0.parquet"


def tables_of(wildcards):
    """Tables one figure draws."""
    return {
        table: f"results/tables/{table}.parquet"
        for table in TABLES_OF[wildcards.figure]
    }


def code_of_figure(wildcards):
    """Code that draws one figure."""
    return code_of(f"scripts/draw_{wildcards.figure}.py")
