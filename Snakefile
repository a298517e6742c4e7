"""The study: reads and checks the settings, includes the rules of every stage, names the targets."""

import os
import sys

from snakemake.utils import min_version

# The library beside this file, whatever else is installed.
sys.path.insert(0, str(workflow.current_basedir))

from phonoscreen.audit.errors import announce_accepted
from phonoscreen.audit.integrity import check_before_start
from phonoscreen.audit.outdated import find_outdated, statement
from phonoscreen.audit.protected import UNWATCHED, announce_asked
from phonoscreen.audit.provenance import announce_storage
from phonoscreen.audit.remake import announce_call, unlock_command
from phonoscreen.workflow.code import ROOT, code_of, keep_facts
from phonoscreen.workflow.environment import prepare_jobs
from phonoscreen.workflow.inputs import (
    augmentation,
    bonding_program,
    charges_code,
    charges_settings,
    engine_code,
    engine_environment,
    engine_settings,
    figure_names,
    how_to_calculate,
    machine_state,
    model_code,
    model_settings,
    output_files,
    output_folder,
    published_compounds,
    published_member,
    relaxation_limits,
    relaxing_code,
    relaxing_environment,
    relaxing_files,
    relaxing_settings,
    service_of,
    source_files,
    tables_of_figure,
    to_download,
    training_settings,
    transport_settings,
)
from phonoscreen.workflow.launcher import explain_lock, note_finished, write_launcher
from phonoscreen.workflow.protection import (
    current_settings,
    forced_names,
    unwatched,
)
from phonoscreen.workflow.resources import Needs
from phonoscreen.workflow.settings.check import check_settings
from phonoscreen.workflow.settings.files import check_files
from phonoscreen.workflow.settings.study import Study
from phonoscreen.workflow.shards import (
    jobs_per_shard,
    member_names,
    shard_names,
    shared_stages,
)

min_version("9.27")


configfile: f"{ROOT}/config.yaml"


report: f"{ROOT}/report/workflow.rst"


# A profile's own Snakefile may set these two before it includes this file: the settings that it changes, and the class
# of the settings where it has more of them. Whatever a user gives with --configfile or --config goes on top.
if "STUDY" in globals():

    configfile: STUDY


if workflow.is_main_process:
    check_files(workflow.configfiles)
    announce_call(workflow)
    if "--unlock" not in sys.argv:
        sys.stderr.write(explain_lock(unlock_command()))

config.update(check_settings(config, globals().get("SETTINGS", Study)))
announce_accepted(config["accept_failed_shards"])


onstart:
    write_launcher()
    keep_facts()
    note_finished(workflow)
    announce_asked(forced_names(workflow.dag_settings))
    check_before_start(workflow.dag.needrun_jobs())


prepare_jobs(ROOT)
announce_storage(workflow.storage_settings)

# Files that ship with the repository, as seen from the folder the study runs in.
RESOURCES = os.path.relpath(ROOT / "resources")
SHARDS = shard_names(config["shards"])
# Jobs that share the calculations of a DFT code in a shard.
SHARES = jobs_per_shard(config)
# Those whose structures make the model; structures added later are in others.
MODEL_SHARDS = SHARDS[: config["active_learning"]["shards"]]
MEMBERS = member_names(config["force_model"]["committee"])
ROUNDS = range(config["active_learning"]["rounds_max"] + 1)
LAST_ROUND = ROUNDS[-1]
# Folder of the forces behind each source of force constants.
FORCES = {"reference": "checked_labels", "predicted": "predicted"}
SOURCES = list(FORCES)
REFERENCE = config["reference"][config["reference"]["engine"]]
# Of the engines and of the kinds of force models the code of the chosen one counts alone.
ENGINE_CODE, MODEL_CODE = engine_code(config), model_code(config)
FIGURES = figure_names()
# Memory, time, GPUs and MPI tasks of every rule.
NEEDS = Needs(config)


wildcard_constraints:
    shard=r"\d{4}",
    round=r"\d+",
    batch=r"\d+",
    member=r"\d+",
    source=r"[a-z0-9_-]+",
    kind="reference|bonding|charges",
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


# A snapshot that exists is data of the study: no rule makes it again, whatever has changed.
if to_download(config["source"]):

    include: "rules/download.smk"


if config["source"]["kind"] == "force_sets":

    include: "rules/force_sets.smk"


include: "rules/structures.smk"
include: "rules/outputs.smk"
include: "rules/calculations.smk"
include: "rules/labels.smk"
include: "rules/active_learning.smk"
include: "rules/protection.smk"


if config["charges"]["source"] != "reference":

    include: "rules/charges.smk"


include: "rules/force_constants.smk"
include: "rules/transport.smk"
include: "rules/convergence.smk"
include: "rules/bonding.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/summary.smk"
include: "rules/targets.smk"


# Digests of files are kept for the next run and for the jobs of this one.
if workflow.is_main_process:
    keep_facts()
