"""The plan of a study as Snakemake makes it, without running anything."""

import contextlib
import io
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.outdated import HEAD


@dataclass(frozen=True)
class PlannedJob:
    """One job of a plan.

    Attributes
    ----------
    rule, wildcards : of the job; the wildcards as attributes
    threads : that it would get
    outputs : files
    benchmark : its benchmark file, None for a rule without one
    reasons : why Snakemake would run it, empty if it would not
    inputs : files
    """

    rule: str
    wildcards: Any
    threads: int
    outputs: tuple[str, ...]
    benchmark: str | None
    reasons: tuple[str, ...]
    inputs: tuple[str, ...] = ()


def plan_study(options: Sequence[str]) -> tuple[dict[str, Any], list[PlannedJob]]:
    """Return the settings of a study and its jobs, those that are done included.

    Parameters
    ----------
    options : of a snakemake call: profile, settings, targets, ``--forcerun``

    Raises
    ------
    StudyError
        If Snakemake refuses the call or the settings, with its words.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args
    from snakemake.settings.types import OutputSettings, Quietness

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), _own_environment():
            _, arguments = parse_args(["--dry-run", *options])  # targets may stand behind "--"
            with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
                workflow = _workflow(api, arguments)
    except (Exception, SystemExit) as error:  # the settings, or the options: Snakemake has its own kinds of errors
        words = said.getvalue().strip() or str(error)
        raise StudyError(f"no plan: {words[-2000:]}", where="snakemake " + " ".join(options),
                         fix="change to the folder of the repository" if "No Snakefile found" in words else
                         "correct the options; they are those of snakemake") from error  # fmt: skip
    if HEAD in said.getvalue():  # what is out of date, and the indented lines below
        rest = said.getvalue().partition(HEAD)[2].splitlines()[1:]
        print(HEAD, *itertools.takewhile(lambda line: line.startswith("  "), rest), sep="\n", file=sys.stderr)
    return workflow.config, [_planned(job, workflow.dag) for job in workflow.dag.jobs]


@contextlib.contextmanager
def _own_environment():
    """Take back what a Snakefile sets for its jobs: it is not for the program that only plans them."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _workflow(api, arguments):
    """Return Snakemake's workflow with its plan."""
    from snakemake.cli import parse_config
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        DeploymentSettings,
        ResourceSettings,
        StorageSettings,
        WorkflowSettings,
    )

    study = api.workflow(
        resource_settings=ResourceSettings(cores=arguments.cores or 1, default_resources=arguments.default_resources),
        config_settings=ConfigSettings(config=parse_config(arguments.config), configfiles=arguments.configfile or []),
        storage_settings=StorageSettings(), workflow_settings=WorkflowSettings(),
        deployment_settings=DeploymentSettings(),
        snakefile=Path(arguments.snakefile) if arguments.snakefile else None,
        workdir=Path(arguments.directory) if arguments.directory else None,
    )  # fmt: skip
    dag = study.dag(
        DAGSettings(
            targets=set(arguments.targets), forceall=arguments.forceall, forcetargets=arguments.force,
            forcerun=set(arguments.forcerun or ()), rerun_triggers=arguments.rerun_triggers,
            max_checksum_file_size=arguments.max_checksum_file_size,
        )
    )  # fmt: skip
    dag.execute_workflow(executor="dryrun")
    return study._workflow


def _planned(job, dag):
    reasons = tuple(dag.reason(job).get_names()) if dag.needrun(job) else ()
    benchmark = str(job.benchmark) if job.benchmark else None
    outputs = tuple(str(path) for path in job.output)
    inputs = tuple(str(path) for path in job.input)
    return PlannedJob(job.rule.name, job.wildcards, job.threads, outputs, benchmark, reasons, inputs)
