"""What every script does around its work: log, threads, key of the job, provenance."""

import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.integrity import check_inputs
from phonoscreen.audit.kept import keep_whole, restore_whole
from phonoscreen.audit.protected import is_asked
from phonoscreen.audit.provenance import write_provenance
from phonoscreen.audit.work import work_folder

log = logging.getLogger("phonoscreen")


class Job:
    """The running job of one rule; an input that is not what its own job wrote is refused with ``StudyError``.

    Attributes
    ----------
    input, output, params, wildcards : named as in the rule
    threads : number of threads the job may use
    resources : memory, device and the like: what decides how fast a job runs, never what comes out
    rule : name of the rule
    key : digest of rule, wildcards, params and inputs; equal keys mean equal outcomes
    work : folder for everything that is no output, see ``phonoscreen.audit.work``
    asked : whether the product was asked for by name, see ``phonoscreen.audit.protected``
    made_with : for the expensive rules, the settings and code that made the product: list of dicts with ``settings,
        structures, seconds``; None for the others
    """

    def __init__(self, snakemake: Any) -> None:
        self.input, self.output = snakemake.input, snakemake.output
        self.params, self.wildcards = snakemake.params, snakemake.wildcards
        self.threads, self.rule, self.resources = snakemake.threads, snakemake.rule, snakemake.resources
        named = [f"{key}={value}" for key, value in sorted(dict(snakemake.wildcards).items())]
        self.inputs = check_inputs(snakemake.input, where=", ".join([f"rule {self.rule}", *named]))
        identity = [self.rule, dict(self.wildcards), dict(self.params), self.inputs]
        self.work, self.made_with = work_folder(self.rule, dict(snakemake.wildcards)), None
        self.asked = is_asked(self.rule, snakemake.output)
        self.key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


def run_job(snakemake: Any, main: Callable[[Job], object]) -> None:
    """Run ``main(job)`` of a script: log to the rule's log file, then write the provenance of its outputs.

    Parameters
    ----------
    snakemake : the object Snakemake gives to a ``script:``
    main : function of one ``Job``
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if snakemake.log:
        handlers.append(logging.FileHandler(snakemake.log[0], mode="w"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True)
    started = time.time()
    try:
        job = Job(snakemake)
    except StudyError as error:
        log.error("%s", error)
        raise
    for path in snakemake.output:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        if restore_whole(job):
            log.info("the same inputs were worked on before: the product is taken from there")
        else:
            main(job)
            keep_whole(job, time.time() - started)
    except Exception:
        log.exception("rule %s failed", job.rule)
        raise
    write_provenance(job, snakemake.output, started=started)
