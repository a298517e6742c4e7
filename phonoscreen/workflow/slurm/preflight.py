"""What can be known to fail before anything is submitted: partitions, accounts, GPUs, memory, programs, potentials."""

import csv
import getpass
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.weights import place_of
from phonoscreen.workflow.inputs import DFT_CODES
from phonoscreen.workflow.resources import COSTS, INITIAL, Needs
from phonoscreen.workflow.slurm.partitions import Limits, chosen
from phonoscreen.workflow.slurm.queue import ask
from phonoscreen.workflow.slurm.site import Site

_OWN_COMMANDS = {"vasp": None, "gpaw": sys.executable, "espresso": "pw.x"}
"""What an engine starts where its command is not set."""
_POTENTIALS = {
    "vasp": ("VASP_PP_PATH", "/potpaw_PBE", "*/POTCAR"),
    "espresso": ("ESPRESSO_PSEUDO", "", "*.[uU][pP][fF]"),
}
"""Variable of the library of potentials, folder and files in it, whose names begin with the element."""


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
    needs, rules = Needs(dict(config)), sorted(set(rules) & set(COSTS))
    found = [*_of_programs(needs, config, rules)]
    if partitions is None:
        return [Finding("Slurm does not answer (sinfo): start on a machine that can submit jobs"), *found]
    found += _of_account(site)
    found += _of_weights(config, rules)
    gpu_rules: list[str] = []
    cpu_rules: list[str] = []
    for rule in rules:
        (gpu_rules if needs.gpus(rule) else cpu_rules).append(rule)
    for gpu, names in ((False, cpu_rules), (True, gpu_rules)):
        name = chosen(site.partition_of(gpu=gpu))
        if names and name not in partitions:
            known = ", ".join(sorted(filter(None, partitions)))
            words = f"there is no partition {name!r}" if name else "no partition is the default one"
            found.append(Finding(f"{words}: name one of {known} in site.yaml", frozenset(names)))
        elif names:
            found += _of_partition(needs, names, partitions[name])
            found += _of_cpus(names, partitions[name], site, config["training"]["processes"])
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


def _of_cpus(rules, limits, site, processes):
    most = min(limits.cpus, site.threads_max or limits.cpus)
    if "train_member" in rules and processes > most:
        words = f"a job of partition {limits.partition} has {most} CPUs at most, which is what train_member gets"
        yield Finding(f"{words}; training.processes is {processes}", frozenset({"train_member"}), stops=False)


def _largest(needs, of):
    return max(of(SimpleNamespace(shard=shard), 1) for shard in needs.shards)


def _of_account(site):
    answer = ask("sacctmgr", "--noheader", "list", "assoc", f"user={getpass.getuser()}", "format=account%250")
    known = {line.strip() for line in (answer or "").splitlines() if line.strip()}
    account = site.account or os.environ.get("SBATCH_ACCOUNT")
    if account and known and account not in known:
        listed = ", ".join(sorted(known))
        yield Finding(f"{getpass.getuser()} may not use account {account}: name one of {listed} in site.yaml")


def _of_weights(config, rules):
    """Yield the weights of a universal potential that jobs would download: nodes of a cluster seldom have a network."""
    reference, relaxing, users = config["reference"], config["relax"]["engine"], set()
    if reference["engine"] == "nequix":
        users |= {"label_forces", "label_selected", "check_supercells"}
    if "nequix" in (relaxing, reference["engine"] if relaxing == "reference" else ""):
        users.add("relax_structures")
    model = reference["nequix"]["model"]
    if users & set(rules) and not place_of(model).is_file():
        fetch = f"fetch them where there is a network: python -m phonoscreen.formats.weights {model}"
        yield Finding(f"the weights of {model} are not in {place_of(model).parent}: {fetch}", frozenset(users))


def _of_programs(needs, config, rules):
    """Yield the programs and potentials that the jobs do not find, and the folders that are not there."""
    reference, transport = config["reference"], config["transport"]
    engine, calculating = reference["engine"], frozenset(rule for rule in rules if needs.runs_dft(rule))
    commands: dict[str, tuple[str | None, frozenset[str]]] = {}
    if engine in DFT_CODES and reference["mode"] == "run" and calculating:
        given = reference[engine]["command"] or _OWN_COMMANDS[engine]
        commands[f"reference.{engine}.command"] = (given, calculating)
        yield from _of_potentials(config, calculating)
    if transport["solver"] == "shengbte":
        commands["transport.command"] = (transport["command"], frozenset({"solve_bte"}))
    for key, (command, users) in commands.items():
        program = shlex.split(command)[0] if command else None
        if program is None:
            yield Finding(f"{key} is not set: name the command that starts the program", users)
        elif shutil.which(program) is None:
            yield Finding(f"{program} of {key} is not on the PATH: load its module before snakemake", users)
    folders = {
        "reference.collected.folder": (reference["collected"]["folder"], engine == "collected", "index_outputs"),
        "bonding.outputs": (config["bonding"]["outputs"], config["bonding"]["engine"] == "lobster", "analyse_bonding"),
    }
    for key, (folder, used, rule) in folders.items():
        if used and folder and not Path(folder).is_dir():
            yield Finding(f"{key}: there is no folder {folder}", frozenset({rule}))


def _of_potentials(config, calculating):
    """Yield what is missing of the potentials of VASP or Quantum ESPRESSO, as far as the elements are known."""
    engine = config["reference"]["engine"]
    if engine not in _POTENTIALS:
        return
    variable, below, pattern = _POTENTIALS[engine]
    library = (config["reference"][engine].get("potentials") or os.environ.get(variable, "")).partition(os.pathsep)[0]
    if not library:
        yield Finding(f"{variable} is not set: set it to the folder that holds the potentials{below}", calculating)
        return
    folder = Path(library + below)
    if not folder.is_dir():
        yield Finding(f"the potentials are not there: there is no folder {folder}", calculating)
        return
    names = [path.relative_to(folder).parts[0] for path in folder.glob(pattern)]
    having = {re.split("[^A-Za-z]", name)[0].capitalize() for name in names}
    missing = sorted(elements_of(config["source"]) - having)
    if missing:
        yield Finding(f"{folder} has no potential of {', '.join(missing)} ({pattern})", calculating)


def elements_of(source: Mapping[str, Any], folder: Path = Path()) -> set[str]:
    """Return the elements of a study as far as they are known before its first job; empty if they are not.

    Parameters
    ----------
    source : section ``source`` of the settings
    folder : of the study
    """
    formulas: list[str] = []
    written = sorted((folder / INITIAL).glob("*.extxyz"))
    for path in written:
        formulas += re.findall(r"(?m)^([A-Z][a-z]?) ", path.read_text())
    if not written and source["kind"] == "pool" and (folder / (source["path"] or "")).is_file():
        with open(folder / source["path"], newline="") as stream:
            formulas += [row.get("formula") or "" for row in csv.DictReader(stream)]
    return set(re.findall("[A-Z][a-z]?", " ".join(formulas)))


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
