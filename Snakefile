"""The study: reads and checks the settings, includes the rules, names the targets."""

import os

from snakemake.utils import min_version

from phonoscreen.workflow.code import code_of
from phonoscreen.workflow.inputs import (
    ablations,
    augmentation,
    engine_settings,
    experiment_model,
    model_settings,
    replayed_model,
    source_files,
)
from phonoscreen.workflow.settings import check_settings
from phonoscreen.workflow.shards import (
    curve_points,
    curve_sources,
    member_names,
    shard_names,
)

min_version("9.27")


configfile: "config.yaml"


check_settings(config)

# Jobs share the cores: no library starts threads of its own beyond those its rule asks for.
for variable in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
):
    os.environ.setdefault(variable, "1")

SHARDS = shard_names(config["shards"])
MEMBERS = member_names(config["force_model"]["committee"])
ROUNDS = range(config["active_learning"]["rounds_max"] + 1)
LAST_ROUND = ROUNDS[-1]
SOURCES = ["reference", "predicted"]
# Points of the experiment's learning curves, and the sources of forces among them.
POINTS = curve_points(config["experiment"])
POINT_SOURCES = curve_sources(POINTS)
FIGURES = [
    f"figure{name}"
    for name in ("2", "3", "4", "5", "6", "7", "S1", "S2", "S3", "S4", "S5", "S6")
]


wildcard_constraints:
    shard=r"\d{4}",
    round=r"\d+",
    member=r"\d+",
    source="|".join([*SOURCES, *POINT_SOURCES]),
    model="|".join(config["experiment"]["models"]),
    size=r"\d+",
    repeat=r"\d+",
    figure="|".join(FIGURES),


rule all:
    """Target: everything."""
    input:
        "results/structures/manifest.parquet",
        expand("results/relaxed/{shard}.extxyz", shard=SHARDS),
        expand("results/transport/{source}/{shard}.h5", source=SOURCES, shard=SHARDS),
        expand("results/bonding/{shard}.parquet", shard=SHARDS),
        "results/model/card.md",
        expand("results/figures/{figure}.pdf", figure=FIGURES),
        "results/tables/table1.csv",
        "results/summary.md",
        "results/summary.html",
    localrule: True


include: "rules/inputs.smk"
include: "rules/structures.smk"
include: "rules/labels.smk"
include: "rules/active_learning.smk"
include: "rules/ablation.smk"
include: "rules/force_constants.smk"
include: "rules/transport.smk"
include: "rules/convergence.smk"
include: "rules/bonding.smk"
include: "rules/experiment.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/summary.smk"
include: "rules/targets.smk"
