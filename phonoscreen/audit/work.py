"""The one place for what a job writes besides its outputs, its log, its benchmark and its provenance.

``results/work/<rule>/<wildcards>/`` holds what an interrupted job goes on from (outcomes of single structures,
checkpoints of a training), the calculations of DFT codes, and what the expensive rules have computed (see
``phonoscreen.audit.kept``). Snakemake does not know this folder and never deletes it. Whoever deletes it loses time,
never a result: what is missing is computed again when a job needs it.
"""

from pathlib import Path

WORK = Path("results/work")


def work_folder(rule: str, wildcards: dict) -> Path:
    """Return the folder in which a job keeps what is no output, relative to the folder of the study.

    Parameters
    ----------
    rule : name of the rule
    wildcards : of the job, by name
    """
    return WORK / rule / name_of(wildcards)


def name_of(wildcards: dict) -> str:
    """Return the name of a job among those of its rule, for example ``round=0,shard=0003``."""
    return ",".join(f"{key}={value}" for key, value in sorted(dict(wildcards).items())) or "all"
