"""What a study will need, before anything is submitted, and what it has needed so far.

The plan comes from Snakemake, the cost of a job from ``phonoscreen.workflow.resources``. The benchmark files of
finished jobs correct it: the jobs of a rule that are left are taken to differ from the table as those that were run,
with the settings that these had, do. That holds for jobs that are to run again too.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phonoscreen.audit.protected import PROTECTED
from phonoscreen.audit.sealed import read_sealed
from phonoscreen.audit.work import work_folder
from phonoscreen.workflow.past_jobs import PastJobs, read_benchmark
from phonoscreen.workflow.plan import PlannedJob, plan_study
from phonoscreen.workflow.resources import ATTEMPT_H, COSTS, INITIAL, LAPTOP_DENSITY_ANGSTROM, Needs
from phonoscreen.workflow.shards import SHARES_MAX, jobs_per_shard, shard_names

DISK_KB = {
    "relax_structures": 2.6, "displace_supercells": 20.4, "label_forces": 11.9, "label_selected": 4.4,
    "check_labels": 11.7, "check_selected": 4.4, "query_committee": 0.3, "predict_forces": 64.0,
    "fit_force_constants": 9.0, "check_stability": 38.0, "solve_bte": 30.0, "analyse_bonding": 40.0,
    "assemble_dataset": 16.0, "evaluate_baselines": 4.0, "collect_structures": 1.0, "filter_structures": 1.0,
}  # fmt: skip
"""Disk of each structure of a job, kB: files of the 55 compounds of ``profiles/laptop``."""
DISK_KB_OF_JOB = {"train_member": 220.0, "build_symmetry_bases": 9400.0, "draw_figure": 150.0}
"""Disk of a job beside that."""
LAPTOP_SUPERCELLS = {"reference": 5.4, "network": 8.5}
"""Supercells of a structure in that study."""


@dataclass
class Stage:
    """What the jobs of one rule need; ``used_*`` of those that are done and left a benchmark file.

    Attributes
    ----------
    rule : its name
    jobs, to_run : planned, and those of them that are not done
    calculations : of the reference engine, in the jobs to run
    core_hours, gpu_hours : of the jobs to run
    memory_gb : largest that one job is expected to use
    longest_h : of the longest job to run
    disk_gb : of all products of the rule; measured where they exist
    files : number of products
    reasons : why Snakemake runs them
    done, expected_core_hours, used_core_hours, used_memory_gb, used_calculations : of the jobs that are done
    correction : used over expected core hours of every job that has ever ended, 1 if none has
    """

    rule: str
    jobs: int = 0
    to_run: int = 0
    calculations: float = 0.0
    core_hours: float = 0.0
    gpu_hours: float = 0.0
    memory_gb: float = 0.0
    longest_h: float = 0.0
    disk_gb: float = 0.0
    files: int = 0
    reasons: set[str] = field(default_factory=set)
    done: int = 0
    expected_core_hours: float = 0.0
    used_core_hours: float = 0.0
    used_memory_gb: float = 0.0
    used_calculations: int = 0
    _expected_ever: float = 0.0
    _used_ever: float = 0.0

    def add_measured(self, expected: float, used: float) -> None:
        """Add the core hours of a job that has ended, whether or not it is to run again."""
        self._expected_ever, self._used_ever = self._expected_ever + expected, self._used_ever + used

    @property
    def correction(self) -> float:
        """What the expected core hours are multiplied with."""
        return self._used_ever / self._expected_ever if self._expected_ever > 0 else 1.0


def forecast(config: dict[str, Any], jobs: Iterable[PlannedJob], folder: str | Path = ".") -> list[Stage]:
    """Return what each rule of a plan needs.

    Parameters
    ----------
    config : settings of the study
    jobs : of the plan
    folder : of the study, with the benchmark files and products of finished jobs

    Returns
    -------
    list of ``Stage``, one for each rule that starts jobs of its own, in the order of their cost table
    """
    needs, stages = Needs(config, folder), {rule: Stage(rule) for rule in COSTS}
    past = PastJobs(config, needs, Path(folder))
    for job in jobs:
        if job.rule in COSTS:
            _add(stages[job.rule], job, needs, config, Path(folder))
            stages[job.rule].add_measured(*past.core_hours(job))
    for stage in stages.values():
        stage.core_hours, stage.gpu_hours = stage.core_hours * stage.correction, stage.gpu_hours * stage.correction
        stage.longest_h *= stage.correction
    return [stage for stage in stages.values() if stage.jobs]


def _add(stage, job, needs, config, folder):
    """Add one job to the stage of its rule."""
    cores, gpus = max(job.threads, needs.tasks(job.rule)), needs.gpus(job.rule)
    n_structures = needs.structures(job.rule, job.wildcards)
    share = 1.0
    if job.reasons and "forced" not in job.reasons and n_structures:
        share = max(0.0, 1 - _kept(job, folder) / n_structures)
        n_structures = round(share * n_structures)
    hours = needs.seconds(job.rule, job.wildcards, structures=n_structures) / 3600
    stage.jobs += 1
    stage.files += len(job.outputs)
    stage.memory_gb = max(stage.memory_gb, needs.expected_memory_mb(job.rule, job.wildcards) / 1000)
    stage.disk_gb += _disk_gb(job, needs, config, folder)
    if job.reasons:
        stage.to_run += 1
        stage.calculations += share * needs.calculations(job.rule, job.wildcards)
        stage.core_hours += hours * cores
        stage.gpu_hours += hours * gpus
        stage.longest_h = max(stage.longest_h, hours)
        stage.reasons.update(job.reasons)
        return
    used = read_benchmark(folder / job.benchmark) if job.benchmark else None
    if used is not None:
        stage.done += 1
        stage.expected_core_hours += hours * cores
        stage.used_core_hours += used[0] / 3600 * cores
        stage.used_memory_gb = max(stage.used_memory_gb, used[1] / 1000)
        stage.used_calculations += _calculations_of(job, folder)


def _kept(job, folder):
    """Return how many structures of a job will be taken along, computed before from what should be the same inputs."""
    if job.rule not in PROTECTED:
        return 0
    place = folder / work_folder(job.rule, dict(job.wildcards.items())) / "kept.json"
    entries = (read_sealed(place) or {}).get("entries", {})
    return sum(entry["record"]["status"] != "failed" for entry in entries.values())


def _calculations_of(job, folder):
    """Return how many calculations the records of a finished job count."""
    import pandas

    column = {"relax_structures": "steps", "label_forces": "n_supercells", "label_selected": "n_supercells"}
    paths = [folder / path for path in job.outputs if path.endswith(".parquet")]
    if job.rule not in column or not paths or not paths[0].exists():
        return 0
    table = pandas.read_parquet(paths[0])
    counts = table[column[job.rule]].dropna() if column[job.rule] in table else table["status"].iloc[:0]
    return int(counts.sum()) + (len(counts) if job.rule != "relax_structures" else 0)


def _disk_gb(job, needs, config, folder):
    """Return the size of the products of a job, expected where they do not exist; expensive ones are kept twice."""
    sizes = [os.path.getsize(folder / path) for path in job.outputs if (folder / path).is_file()]
    copies = 2 if job.rule in PROTECTED else 1
    if not job.reasons and sizes:
        return copies * sum(sizes) / 1e9
    each = DISK_KB.get(job.rule, 0.0)
    if job.rule in ("label_forces", "check_labels", "assemble_dataset"):
        each *= needs.supercells("reference") / LAPTOP_SUPERCELLS["reference"]
    if job.rule in ("displace_supercells", "predict_forces"):
        each *= needs.supercells("network") / LAPTOP_SUPERCELLS["network"]
    if job.rule == "solve_bte":
        each *= (config["transport"]["mesh_density_angstrom"] / LAPTOP_DENSITY_ANGSTROM) ** 3
    return copies * (needs.structures(job.rule, job.wildcards) * each + DISK_KB_OF_JOB.get(job.rule, 1.0)) / 1e6


def describe(config: dict[str, Any], stages: Sequence[Stage], folder: str | Path = ".") -> str:
    """Return the forecast as a text: what is left to do, what it waits for, what was used."""
    needs, engine = Needs(config, folder), config["reference"]["engine"]
    n = sum(needs.structures("relax_structures", _Shard(name)) for name in shard_names(config["shards"]))
    counted = "counted" if (Path(folder) / INITIAL).is_dir() else "expected from the source, not counted yet"
    lines = [f"{n:,} structures ({counted}) in {config['shards']} shards; reference: {engine}", "", "To run:"]
    left = [stage for stage in stages if stage.to_run]
    lines += _to_run(left, engine) if left else ["  nothing"]
    if any(stage.to_run < stage.jobs for stage in stages):
        why = {stage.rule: sorted(stage.reasons - _FOLLOWING) for stage in left}
        lines += ["", "Why:"] * any(why.values())
        lines += [f"  {rule}: {', '.join(reasons)}" for rule, reasons in why.items() if reasons]
    done = [stage for stage in stages if stage.done]
    lines += ["", "Done, expected and used:", *_used(done, engine)] if done else []
    return "\n".join([*lines, "", *_remarks(config, left)])


def _to_run(stages, engine):
    rows = [
        [s.rule, s.to_run, s.calculations, s.core_hours, s.gpu_hours, s.memory_gb, s.disk_gb, s.files] for s in stages
    ]
    total = [sum(column) for column in list(zip(*rows))[1:]]
    total[4] = max(row[5] for row in rows)
    head = ["rule", "jobs", f"{engine} runs", "core-h", "GPU-h", "GB memory", "GB disk", "files"]
    return _aligned(head, [*rows, ["together", *total]])


def _used(stages, engine):
    head = ["rule", "jobs", f"{engine} runs", "core-h expected", "core-h used", "GB expected", "GB used"]
    rows = [
        [s.rule, s.done, s.used_calculations, s.expected_core_hours, s.used_core_hours, s.memory_gb, s.used_memory_gb]
        for s in stages
    ]
    return _aligned(head, rows)


_FOLLOWING = {"input files updated by another job"}


@dataclass(frozen=True)
class _Shard:
    shard: str


def _remarks(config, left):
    """Return what the numbers leave out, and what they ask for that a cluster hardly gives."""
    lines = ["Core hours are wall time times cores asked for; files and disk are those of the results.",
             "Every structure is taken as stable, every round as full: both make it an upper bound."]  # fmt: skip
    if config["reference"]["engine"] in ("vasp", "gpaw"):
        lines += ["Times of DFT are estimates until shards are done; its calculations come on top of the disk."]
    asked, given = config["reference"]["jobs_per_shard"], jobs_per_shard(config)
    if given < asked:
        lines += [f"reference.jobs_per_shard is {asked}: {given} jobs share a shard, so that the study has at most "
                  f"{SHARES_MAX} of them."]  # fmt: skip
    long = [f"{stage.rule} ({stage.longest_h:.0f} h)" for stage in left if stage.longest_h > ATTEMPT_H]
    if long:
        lines += [f"Jobs longer than the {ATTEMPT_H} h of a first attempt: {', '.join(long)}. The next attempt of a "
                  "shard goes on where it ended; more shards or more processes make the jobs shorter."]  # fmt: skip
    if config["force_model"]["device"] == "auto":
        lines += ["force_model.device is auto: no GPU is asked for, times are those of a CPU core."]
    return lines


def _short(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 or isinstance(value, int) else f"{value:.3g}"


def _aligned(head: list[str], rows: Sequence[Sequence[str | float]]) -> list[str]:
    """Return the lines of a table with a first column of names."""
    cells = [head, *([_short(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in cells
    ]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``phonoscreen forecast`` to the command line."""
    parser = subparsers.add_parser(
        "forecast", help="what a study will need, before it runs", prefix_chars="+",
        description="All words after 'forecast' are those of a snakemake call: --profile slurm, --config, targets.",
    )  # fmt: skip
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="of a snakemake call, for example: --profile slurm transport"
    )
    parser.set_defaults(run=run, usage=parser.format_help)


def run(arguments: argparse.Namespace) -> int:
    """Print the forecast of a study; return 0."""
    if {"-h", "--help"} & set(arguments.options):
        print(arguments.usage())
        return 0
    config, jobs = plan_study(arguments.options)
    print(describe(config, forecast(config, jobs)))
    return 0
