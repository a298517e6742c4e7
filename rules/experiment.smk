"""Learning curves of the force models, calibration, replayed selection (docs/experiment_models.md)."""

from phonoscreen.workflow.experiment import (
    check_experiment,
    curve_points,
    curve_sources,
    experiment_model,
    replayed_model,
)

check_experiment(config)

CURVES = config["experiment"]
# Points of the learning curves, and the sources of forces among them.
POINTS = curve_points(CURVES)
POINT_SOURCES = curve_sources(POINTS)
FORCES |= {source: f"experiment/forces/{source}" for source in POINT_SOURCES}
EXPERIMENT_FIGURES = ["curves", "phonons", "calibration", "selection"]
REPLAYS = [
    f"{strategy}_{repeat}"
    for strategy in CURVES["selection"]["strategies"]
    for repeat in range(CURVES["selection"]["repeats"])
]


wildcard_constraints:
    model="|".join(CURVES["models"]),
    size=r"\d+",
    repeat=r"\d+",


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


rule assemble_subset:
    """Training data of one point of the learning curves: the first compounds of a stratified order."""
    input:
        supercells=expand("results/supercells/{shard}.h5", shard=SHARDS),
        labels=expand("results/checked_labels/{shard}.h5", shard=SHARDS),
        manifest="results/structures/manifest.parquet",
    output:
        arrays="results/experiment/datasets/{size}_{repeat}.h5",
        table="results/experiment/datasets/{size}_{repeat}.parquet",
    log:
        "logs/assemble_subset/{size}_{repeat}.log",
    benchmark:
        "benchmarks/assemble_subset/{size}_{repeat}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("assemble_subset"),
        runtime=NEEDS.runtime("assemble_subset"),
    params:
        code=code_of("scripts/assemble_subset.py"),
        held_out_fraction=config["training"]["held_out_fraction"],
        max_supercells_per_structure=config["training"]["max_supercells_per_structure"],
        seed=config["seed"],
    script:
        "../scripts/assemble_subset.py"


rule train_point:
    """One member at one point of a learning curve."""
    input:
        dataset="results/experiment/datasets/{size}_{repeat}.h5",
    output:
        weights="results/experiment/{model}/{size}/{repeat}/members/{member}/model.safetensors",
        settings="results/experiment/{model}/{size}/{repeat}/members/{member}/model.json",
        history="results/experiment/{model}/{size}/{repeat}/members/{member}/history.parquet",
    log:
        "logs/train_point/{model}_{size}_{repeat}_{member}.log",
    benchmark:
        "benchmarks/train_point/{model}_{size}_{repeat}_{member}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("train_point"),
        runtime=NEEDS.runtime("train_point"),
        gpu=NEEDS.gpus("train_point"),
        device=config["force_model"]["device"],
    params:
        code=code_of("scripts/train_point.py"),
        model=settings_of_model,
        largest=max(point["size"] for point in POINTS),
        seed=config["seed"],
    script:
        "../scripts/train_point.py"


rule measure_point:
    """Force errors of one point, atom by atom, on known compounds and on compounds never seen."""
    input:
        unpack(members_of_point),
        supercells=expand("results/supercells/{shard}.h5", shard=SHARDS),
        labels=expand("results/checked_labels/{shard}.h5", shard=SHARDS),
        manifest="results/structures/manifest.parquet",
        dataset="results/experiment/datasets/{size}_{repeat}.parquet",
    output:
        atoms="results/experiment/{model}/{size}/{repeat}/atoms.parquet",
    log:
        "logs/measure_point/{model}_{size}_{repeat}.log",
    benchmark:
        "benchmarks/measure_point/{model}_{size}_{repeat}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("measure_point"),
        runtime=NEEDS.runtime("measure_point"),
        gpu=NEEDS.gpus("measure_point"),
        device=config["force_model"]["device"],
    params:
        code=code_of("scripts/measure_point.py"),
        trained_supercells=config["training"]["max_supercells_per_structure"],
    script:
        "../scripts/measure_point.py"


rule predict_point:
    """Forces of one point on the displaced supercells of compounds never seen and of as many known ones."""
    input:
        unpack(members_of_source),
        supercells="results/supercells/{shard}.h5",
        records="results/supercells/{shard}.parquet",
        manifest="results/structures/manifest.parquet",
        dataset=dataset_of_source,
    output:
        arrays="results/experiment/forces/{source}/{shard}.h5",
        records="results/experiment/forces/{source}/{shard}.parquet",
    log:
        "logs/predict_point/{source}_{shard}.log",
    benchmark:
        "benchmarks/predict_point/{source}_{shard}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("predict_point"),
        runtime=NEEDS.runtime("predict_point"),
        gpu=NEEDS.gpus("predict_point"),
        device=config["force_model"]["device"],
    params:
        code=code_of("scripts/predict_point.py"),
        seed=config["seed"],
    script:
        "../scripts/predict_point.py"


rule replay_selection:
    """Active learning replayed on labelled compounds with one strategy and one seed."""
    input:
        supercells=expand("results/supercells/{shard}.h5", shard=SHARDS),
        labels=expand("results/checked_labels/{shard}.h5", shard=SHARDS),
        manifest="results/structures/manifest.parquet",
    output:
        table="results/experiment/selection/{strategy}_{repeat}.parquet",
    log:
        "logs/replay_selection/{strategy}_{repeat}.log",
    benchmark:
        "benchmarks/replay_selection/{strategy}_{repeat}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("replay_selection"),
        runtime=NEEDS.runtime("replay_selection"),
    params:
        code=code_of("scripts/replay_selection.py"),
        model=replayed_model(config),
        selection=CURVES["selection"],
        seed=config["seed"],
    script:
        "../scripts/replay_selection.py"


rule tabulate_experiment:
    """Tables of the experiment."""
    input:
        manifest="results/structures/manifest.parquet",
        points=[f"{point_folder(p)}/atoms.parquet" for p in POINTS],
        baselines="results/baselines/components.h5",
        replays=expand("results/experiment/selection/{replay}.parquet", replay=REPLAYS),
        forces_records=expand(
            "results/experiment/forces/{source}/{shard}.parquet",
            source=POINT_SOURCES,
            shard=SHARDS,
        ),
        stability_records=expand(
            "results/stability/{source}/{shard}.parquet",
            source=["reference", *POINT_SOURCES],
            shard=SHARDS,
        ),
        stability_arrays=expand(
            "results/stability/{source}/{shard}.h5",
            source=["reference", *POINT_SOURCES],
            shard=SHARDS,
        ),
        transport_records=expand(
            "results/transport/{source}/{shard}.parquet",
            source=["reference", *POINT_SOURCES],
            shard=SHARDS,
        ),
    output:
        forces="results/experiment/tables/forces.parquet",
        structures="results/experiment/tables/structures.parquet",
        elements="results/experiment/tables/elements.parquet",
        prototypes="results/experiment/tables/prototypes.parquet",
        calibration="results/experiment/tables/calibration.parquet",
        bins="results/experiment/tables/bins.parquet",
        phonons="results/experiment/tables/phonons.parquet",
        properties="results/experiment/tables/properties.parquet",
        promises="results/experiment/tables/promises.parquet",
        selection="results/experiment/tables/selection.parquet",
    log:
        "logs/tabulate_experiment.log",
    benchmark:
        "benchmarks/tabulate_experiment.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_experiment"),
        runtime=NEEDS.runtime("tabulate_experiment"),
    params:
        code=code_of("scripts/tabulate_experiment.py"),
        points=POINTS,
        sources=POINT_SOURCES,
        seed=config["seed"],
    script:
        "../scripts/tabulate_experiment.py"


rule draw_experiment:
    """One figure of the experiment, from tables only."""
    input:
        forces="results/experiment/tables/forces.parquet",
        bins="results/experiment/tables/bins.parquet",
        calibration="results/experiment/tables/calibration.parquet",
        phonons="results/experiment/tables/phonons.parquet",
        properties="results/experiment/tables/properties.parquet",
        promises="results/experiment/tables/promises.parquet",
        selection="results/experiment/tables/selection.parquet",
        outdated="results/outdated.json",
    output:
        pdf=report(
            "results/experiment/figures/{drawing}.pdf",
            caption="../report/experiment.rst",
            category="Experiment",
            labels={"figure": "{drawing}", "format": "PDF"},
        ),
        png=report(
            "results/experiment/figures/{drawing}.png",
            caption="../report/experiment.rst",
            category="Experiment",
            labels={"figure": "{drawing}", "format": "PNG"},
        ),
        caption="results/experiment/figures/{drawing}.md",
    log:
        "logs/draw_experiment/{drawing}.log",
    benchmark:
        "benchmarks/draw_experiment/{drawing}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("draw_experiment"),
        runtime=NEEDS.runtime("draw_experiment"),
    params:
        code=code_of("scripts/draw_experiment.py"),
        engine=config["reference"]["engine"],
        model=REFERENCE["model"],
    script:
        "../scripts/draw_experiment.py"


rule write_experiment:
    """The experiment for a reader: the paper's numbers beside those of each model."""
    input:
        forces="results/experiment/tables/forces.parquet",
        elements="results/experiment/tables/elements.parquet",
        prototypes="results/experiment/tables/prototypes.parquet",
        calibration="results/experiment/tables/calibration.parquet",
        properties="results/experiment/tables/properties.parquet",
        promises="results/experiment/tables/promises.parquet",
        selection="results/experiment/tables/selection.parquet",
        figures=expand(
            "results/experiment/figures/{drawing}.png", drawing=EXPERIMENT_FIGURES
        ),
        captions=expand(
            "results/experiment/figures/{drawing}.md", drawing=EXPERIMENT_FIGURES
        ),
        numbers=local(f"{RESOURCES}/published/numbers.yaml"),
    output:
        markdown="results/experiment/report.md",
        html=report(
            "results/experiment/report.html",
            caption="../report/experiment.rst",
            category="Experiment",
            labels={"figure": "all, with their numbers", "format": "HTML"},
        ),
    log:
        "logs/write_experiment.log",
    benchmark:
        "benchmarks/write_experiment.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("write_experiment"),
        runtime=NEEDS.runtime("write_experiment"),
    params:
        code=code_of("scripts/write_experiment.py"),
        engine=config["reference"]["engine"],
        model=REFERENCE["model"],
    script:
        "../scripts/write_experiment.py"


rule experiment:
    """Target: the experiment on force models, its tables, figures and page."""
    input:
        "results/experiment/report.md",
    localrule: True
