"""What planning and a run without work cost at the paper's scale: 80,273 structures with the class sizes of Table 1.

    python -m tests.benchmarks.scale [--structures N] [--profile slurm]

A copy of the repository gets a manifest and initial structures of that many synthetic crystals and, for the run without
work, every product of the plan as a small file with its record. Prints CPU seconds, memory and lines of output of: the
plan and the forecast of a new study, the plan of a finished one, a run without work, the forecast of a changed
temperature, and that of one per cent more structures in a shard of their own; then what the last costs of the first.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import yaml

from phonoscreen.audit import provenance
from phonoscreen.structures.filters import assign_shards
from phonoscreen.workflow.plan import plan_study
from phonoscreen.workflow.resources import INITIAL
from phonoscreen.workflow.shards import shard_names
from tests.conftest import ROOT
from tests.small_study import copy_repository

ATOMS = {"AB": 2, "ABC": 3, "ABC2": 4, "ABCD": 4, "AB3": 4, "AB3C3": 7, "AB3C12": 16, "ABC3": 5, "ABC2D6": 10,
         "AB2": 6, "AB2C4": 14}  # fmt: skip
"""Atoms of the primitive cell of a formula type of Table 1."""
MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6, done.stdout.count(chr(10)))
print(done.stdout[-6000:])
"""


def classes(n_structures: int) -> dict[str, int]:
    """Return how many structures of each formula type and space group a study of some size has, as Table 1."""
    published = yaml.safe_load((ROOT / "resources/published/table1.yaml").read_text())["classes"]
    total = sum(known + unexplored for _, _, known, _, unexplored, _ in published)
    return {
        f"{group}-{kind}": max(1, round((known + unexplored) * n_structures / total))
        for group, kind, known, _, unexplored, _ in published
    }


def write_structures(folder: Path, n_structures: int, n_shards: int) -> int:
    """Write the initial structures of a synthetic study and return how many there are."""
    costs = {
        f"{name}-{number}": float(ATOMS[name.split("-")[1]])
        for name, count in classes(n_structures).items()
        for number in range(count)
    }
    shards = assign_shards(costs, shard_names(n_shards))
    parts: dict[str, list[str]] = {name: [] for name in shard_names(n_shards)}
    for name, shard in shards.items():
        n = int(costs[name])
        lines = [f'{n}\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 structure_id={name} pbc="T T T"']
        parts[shard].append("\n".join([*lines, *["Cu 0.00000000 0.00000000 0.00000000"] * n]) + "\n")
    (folder / INITIAL).mkdir(parents=True)
    for shard, texts in parts.items():
        (folder / INITIAL / f"{shard}.extxyz").write_text("".join(texts))
    return len(costs)


def add_structures(folder: Path, n_structures: int, n_shards: int, options: list[str]) -> list[str]:
    """Add a shard of structures to a finished study and return the settings of the study that has it."""
    more = Path(tempfile.mkdtemp(prefix="phonoscreen-more-"))
    try:
        write_structures(more, n_structures, 1)
        shutil.copy(more / INITIAL / "0000.extxyz", folder / INITIAL / f"{n_shards:04d}.extxyz")
    finally:
        shutil.rmtree(more)
    grown = ["--config", f"shards={n_shards + 1}", f"active_learning={{shards: {n_shards}}}"]
    finish(folder, [*options, *grown], only="filter_structures")
    return grown


def finish(folder: Path, options: list[str], only: str | None = None) -> int:
    """Write every product of the plan, or of one rule, as a small file with its record; return the number of jobs."""
    there = Path.cwd()
    os.chdir(folder)
    provenance.packages = provenance.outside_environment = dict  # looked up once a job: a third of a second
    try:
        _, jobs = plan_study(options)
        now = time.time()
        for job in jobs:
            if only not in (None, job.rule):
                continue
            for path in job.outputs:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                if not Path(path).exists():
                    Path(path).write_text(json.dumps({"path": path}))
            if job.benchmark:
                done = SimpleNamespace(
                    rule=job.rule, wildcards=dict(job.wildcards.items()), params={}, key="", inputs={}, made_with=[]
                )
                provenance.write_provenance(done, job.outputs, started=now)
        return len(jobs)
    finally:
        os.chdir(there)


def measure(folder: Path, *command: str) -> tuple[float, float, int, str]:
    """Return CPU seconds, memory in GB, lines of output and the end of the output of a command."""
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], cwd=folder, capture_output=True, text=True)
    first, _, text = done.stdout.partition("\n")
    status, seconds, gigabytes, lines = first.split()
    if int(status):
        raise RuntimeError(f"{' '.join(command)} ended with {status}: {text}")
    return float(seconds), float(gigabytes), int(lines), text


def core_hours(text: str) -> float:
    """Return the core hours of all rules in the text of a forecast."""
    line = next(line for line in text.splitlines() if line.startswith("  together"))
    return float(line.split()[3].replace(",", ""))


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float, int, str]]:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--structures", type=int, default=80273)
    parser.add_argument("--profile", default="slurm")
    options = parser.parse_args(arguments)
    place = Path(tempfile.mkdtemp(prefix="phonoscreen-scale-"))
    try:
        return _measure_all(copy_repository(place / "study"), options)
    finally:
        shutil.rmtree(place)


def _measure_all(folder, options):
    snakemake, profile = [sys.executable, "-m", "snakemake"], ["--profile", options.profile]
    local = [*profile, "--executor", "local", "--cores", "1"]
    n_shards = yaml.safe_load((folder / "config.yaml").read_text())["shards"]
    n = write_structures(folder, options.structures, n_shards)
    forecast = [sys.executable, "-m", "phonoscreen", "forecast", *profile]
    found = {"plan of a new study": measure(folder, *snakemake, *profile, "-n"),
             "forecast of a new study": measure(folder, *forecast)}  # fmt: skip
    jobs = finish(folder, profile)
    measure(folder, *snakemake, *local, "--touch", "--quiet", "all")
    found["plan of a finished study"] = measure(folder, *snakemake, *profile, "-n")
    found["run without work"] = measure(folder, *snakemake, *local)
    found["forecast of another temperature"] = measure(folder, *forecast, "--config", "transport={temperature_k: 600}")
    grown = add_structures(folder, n // 100, n_shards, profile)
    measure(folder, *snakemake, *local, "--touch", "--quiet", "all", *grown, "--", "manifest")
    found["forecast of one per cent more"] = measure(folder, *forecast, *grown)
    print(f"{n} structures, {jobs} jobs")
    for name, (seconds, gigabytes, lines, _) in found.items():
        print(f"{name}: {seconds:.1f} CPU s, {gigabytes:.2f} GB, {lines} lines of output")
    whole, more = (core_hours(found[f"forecast of {name}"][3]) for name in ("a new study", "one per cent more"))
    print(f"one per cent more structures: {more:,.0f} of {whole:,.0f} core-h, {100 * more / whole:.2f} %")
    return found


if __name__ == "__main__":
    for name, result in main().items():
        if name.startswith("forecast"):
            print(result[3])
