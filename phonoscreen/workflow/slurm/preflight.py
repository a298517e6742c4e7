"""What can be known to fail before anything is submitted: partitions, accounts, GPUs, memory, programs, potentials."""

import getpass
import math
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.resources import COSTS, Needs
from phonoscreen.workflow.slurm.partitions import Limits, chosen
from phonoscreen.workflow.slurm.queue import ask
from phonoscreen.workflow.slurm.site import Site

CALCULATING = ("relax_structures", "label_forces", "label_selected", "check_supercells")
"""Rules that run the engine of the reference forces."""


@dataclass(frozen=True)
class Finding:
    """Something that will not work.

    Attributes
    ----------
    words : what, and what to do
    rules : whose jobs it stops; None for all jobs
    stops : whether these jobs cannot succeed; otherwise they get less than they ask for
    """

    words: str
    rules: frozenset[str] | None = None
    stops: bool = True


def findings(
    config: Mapping[str, Any], site: Site, partitions: Mapping[str, Limits] | None, rules: Iterable[str]
) -> list[Finding]:
    """Return what the jobs of a study lack on this cluster.

    Parameters
    ----------
    config : the settings of the study
    site : account, partitions and the like
    partitions : limits by name; None where Slurm does not answer
    rules : names of the rules of the study
    """
    found = [*_of_programs(config)]
    if partitions is None:
        return [Finding("Slurm does not answer (sinfo): start on a machine that can submit jobs"), *found]
    found += _of_account(site)
    gpu_rules: list[str] = []
    cpu_rules: list[str] = []
    needs = Needs(dict(config))
    for rule in sorted(set(rules) & set(COSTS)):
        (gpu_rules if needs.gpus(rule) else cpu_rules).append(rule)
    for gpu, names in ((False, cpu_rules), (True, gpu_rules)):
        name = chosen(site.partition_of(gpu=gpu))
        if names and name not in partitions:
            known = ", ".join(sorted(filter(None, partitions)))
            words = f"there is no partition {name!r}" if name else "no partition is the default one"
            found.append(Finding(f"{words}: name one of {known} in site.yaml", frozenset(names)))
        elif names:
            found += _of_partition(needs, names, partitions[name])
    return found


def _of_partition(needs, rules, limits):
    lacking = frozenset(rule for rule in rules if needs.gpus(rule) > limits.gpus)
    if lacking:
        words = f"partition {limits.partition} has no {'more ' if limits.gpus else ''}GPUs per node than {limits.gpus}"
        yield Finding(f"{words}: set gpu_partition in site.yaml, or force_model.device: cpu", lacking)
    for words, unit, limit, of in (
        ("memory", "MB", limits.memory_mb, needs.memory),
        ("run time", "minutes", limits.minutes, needs.runtime),
    ):
        asked = {rule: _largest(needs, of(rule)) for rule in rules}
        more = {rule: number for rule, number in asked.items() if number > limit}
        if more and math.isfinite(limit):
            listed = ", ".join(f"{rule} {number}" for rule, number in sorted(more.items()))
            ends = (
                f"partition {limits.partition} has {limit:g} {unit} of {words}, which is what these jobs get: {listed}"
            )
            yield Finding(f"{ends} (wanted)", frozenset(more), stops=False)


def _largest(needs, of):
    return max(of(SimpleNamespace(shard=shard), 1) for shard in needs.shards)


def _of_account(site):
    answer = ask("sacctmgr", "--noheader", "list", "assoc", f"user={getpass.getuser()}", "format=account%250")
    known = {line.strip() for line in (answer or "").splitlines() if line.strip()}
    account = site.account or os.environ.get("SBATCH_ACCOUNT")
    if account and known and account not in known:
        listed = ", ".join(sorted(known))
        yield Finding(f"{getpass.getuser()} may not use account {account}: name one of {listed} in site.yaml")


def _of_programs(config):
    reference, transport = config["reference"], config["transport"]
    engine = reference["engine"]
    commands: dict[str, tuple[str, tuple[str, ...]]] = {}
    if engine in ("vasp", "gpaw") and reference[engine].get("command"):
        commands[f"reference.{engine}.command"] = (reference[engine]["command"], CALCULATING)
    if transport["solver"] == "shengbte":
        commands["transport.command"] = (transport["command"], ("solve_bte",))
    for key, (command, rules) in commands.items():
        program = shlex.split(command)[0]
        if shutil.which(program) is None:
            yield Finding(f"{program} of {key} is not on the PATH: load its module before snakemake", frozenset(rules))
    if engine == "vasp":
        library = os.environ.get("VASP_PP_PATH")
        if not library:
            yield Finding("VASP_PP_PATH is not set: set it to the folder that holds potpaw_PBE", frozenset(CALCULATING))
        elif not (Path(library) / "potpaw_PBE").is_dir():
            yield Finding(f"VASP_PP_PATH: there is no folder {library}/potpaw_PBE", frozenset(CALCULATING))


def statement(found: Iterable[Finding]) -> str:
    """Return the findings as lines, empty if there are none."""
    lines = [f"  {'stops' if item.stops else 'note '}: {item.words}\n" for item in found]
    return "".join(["On this cluster:\n", *lines]) if lines else ""


def check_planned(found: Iterable[Finding], planned: Iterable[str]) -> None:
    """Refuse to submit jobs that cannot succeed.

    Parameters
    ----------
    found : as ``findings`` gives it
    planned : rules of the jobs that will run

    Raises
    ------
    StudyError
        Naming what these jobs lack.
    """
    rules = set(planned)
    stopping = [item.words for item in found if item.stops and (item.rules is None or item.rules & rules)]
    if rules and stopping:
        raise StudyError(
            "; ".join(stopping), where="before the first job: nothing was submitted", fix="then the same command again"
        )
