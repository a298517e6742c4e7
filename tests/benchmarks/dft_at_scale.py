"""The study of the paper on a DFT code, simulated: its plan, 200 jobs in flight, ten kills, run times as VASP has them.

    python -m tests.benchmarks.dft_at_scale [--structures N] [--in-flight 200] [--kills 10] [--tasks 16]

Real are the plan that Snakemake makes and the order that it asks for, what each job asks for and gets at its next
attempt, the parts of the study, the shares of the calculations and the loop over a share
(``phonoscreen.stages.calculations``). Simulated are the clock and VASP: a calculation takes what the forecast expects
on average, in proportion to its estimated cost, and scatters by half of it. A kill ends a random job, or every other
time the launcher, which is started again after half an hour; its jobs go on, as they do on Slurm.
"""

import argparse
import hashlib
import heapq
import logging
import os
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy
from ase import Atoms

from phonoscreen.audit.errors import MachineError
from phonoscreen.reference.calculations import Calculation, CalculationStore
from phonoscreen.reference.cost import relative_cost
from phonoscreen.stages.calculations import Piece, calculate, relaxations, share_of
from phonoscreen.structures.filters import draw_parts
from phonoscreen.workflow.plan import PlannedJob, plan_study
from phonoscreen.workflow.resources import COSTS, DFT_CELL_SECONDS, DFT_SECONDS, INITIAL, STEPS_OF_RELAXATION, Needs
from phonoscreen.workflow.shards import jobs_per_shard
from tests.benchmarks.scale import ATOMS, write_structures
from tests.conftest import ROOT

ATTEMPTS = 3
"""Of a job, ``retries: 2`` of the profile; then somebody starts the study again."""
LAUNCHER_AWAY_S = 1800.0
ATOM_VOLUME_A3 = 20.0


@cache
def crystal(n_atoms: int, length_angstrom: float = 0.0) -> Atoms:
    """Return a cubic crystal of some atoms, or its supercell of at least a length and 250 atoms at most."""
    edge = (ATOM_VOLUME_A3 * n_atoms) ** (1 / 3)
    cell = Atoms(f"Cu{n_atoms}", positions=numpy.arange(3.0 * n_atoms).reshape(-1, 3), cell=[edge] * 3, pbc=True)
    most = max(1, int((250 / n_atoms) ** (1 / 3)))
    return cell.repeat(max(1, min(most, int(numpy.ceil(length_angstrom / edge)))))


class Finished:
    """Calculations that are finished, by their names."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def names(self, writer: str) -> Callable[[str], bool]:
        """Return, for a job that begins, the function that says whether a calculation is finished."""
        return self.times.__contains__

    def add(self, writer: str, name: str) -> None:
        """Keep one."""
        self.times[name] += 1


class Stored(Finished):
    """The same in the files of the study's own store of calculations."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def names(self, writer: str) -> Callable[[str], bool]:
        store = CalculationStore(self._folder, writer)
        return lambda name: store.find({"engine": "vasp"}, self._atoms(name)) is not None

    def add(self, writer: str, name: str) -> None:
        super().add(writer, name)
        atoms = self._atoms(name)
        arrays = (atoms.numbers, atoms.cell.array, atoms.positions)
        results = {"energy_ev": 0.0, "forces": numpy.zeros((1, 3))}
        CalculationStore(self._folder, writer).add(Calculation(name, {"engine": "vasp"}, *arrays, results))

    @staticmethod
    def _atoms(name):
        place = numpy.frombuffer(hashlib.sha256(name.encode()).digest()[:12], dtype=numpy.uint32) / 2**32
        return Atoms("Cu", scaled_positions=[place], cell=[10.0] * 3, pbc=True)


@dataclass
class Work:
    """What the jobs of a study have to do.

    Parameters
    ----------
    config : its settings
    structures : number of atoms by structure id, of each shard
    """

    config: dict[str, Any]
    structures: dict[str, dict[str, int]]

    def __post_init__(self) -> None:
        self.needs = Needs(self.config)
        self._reference, self._tasks = self.config["reference"], self.config["reference"]["vasp"]["tasks"]
        classes = {name: name.rpartition("-")[0] for shard in self.structures.values() for name in shard}
        sizes = (self.config["filter"][f"{part}_structures"] for part in ("training", "validation"))
        self.parts = draw_parts(classes, *sizes, self.config["seed"])
        self._mean = {"relaxation": self._mean_cost(0.0, "relax"), "supercell": self._mean_cost(10.0, "supercell")}
        self._pieces: dict[tuple[str, str], list[Piece]] = {}

    def _spacing(self, purpose):
        return self._reference["vasp"][f"k_spacing_{purpose}_per_angstrom"]

    def _mean_cost(self, length_angstrom, purpose):
        sizes = Counter(n for shard in self.structures.values() for n in shard.values())
        costs = {n: relative_cost(crystal(n, length_angstrom), self._spacing(purpose)) for n in sizes}
        return sum(costs[n] * count for n, count in sizes.items()) / sizes.total()

    def seconds(self, name: str, kind: str, cost: float) -> float:
        """Return what one calculation takes, with 16 MPI tasks a sixteenth of what it takes with one."""
        rng = numpy.random.default_rng(list(name.encode()))
        single = DFT_CELL_SECONDS if kind == "relaxation" else DFT_SECONDS
        return single / self._tasks * cost / self._mean[kind] * rng.lognormal(-0.5 * 0.5**2, 0.5)

    def share(self, job: PlannedJob) -> list[Piece]:
        """Return the calculations of a job; none of a job that calculates nothing."""
        stage = {"calculate_relaxations": "relax", "calculate_supercells": "supercell"}.get(job.rule)
        if stage:
            pieces = self._of_shard(job.wildcards.shard, stage)
            return share_of(pieces, int(job.wildcards.batch), jobs_per_shard(self.config))
        if jobs_per_shard(self.config) == 1 and job.rule in ("relax_structures", "label_forces"):
            return self._of_shard(job.wildcards.shard, "relax" if job.rule == "relax_structures" else "supercell")
        return self._selected(job) if job.rule == "label_selected" else []

    def _of_shard(self, shard, stage):
        if (shard, stage) not in self._pieces:
            atoms = {name: crystal(n) for name, n in self.structures[shard].items()}
            if stage == "relax":
                found = relaxations(atoms, None, {}, 0.01, self._spacing("relax"))
            else:
                count = 1 + round(self.needs.supercells("reference"))
                found = [self._supercell(name, which) for name in atoms for which in range(count)
                         if self.parts[name] in self._reference["label"]]  # fmt: skip
            self._pieces[shard, stage] = found
        return self._pieces[shard, stage]

    def _supercell(self, name, which):
        atoms = crystal(ATOMS[name.split("-")[1]], 10.0)
        cost = relative_cost(atoms, self._spacing("supercell"))
        return Piece(name, str(which), len(atoms), cost, lambda: None)

    def _selected(self, job):
        wanted = self.needs.structures(job.rule, job.wildcards)
        names = [name for name in self.structures[job.wildcards.shard] if self.parts[name] == "unexplored"][:wanted]
        return [self._supercell(name, f"{job.wildcards.round}.{which}") for name in names for which in range(2)]

    def calculations(self, piece: Piece) -> list[str]:
        """Return the names of the calculations of a piece: the steps of a relaxation one after another."""
        name = f"{piece.structure_id}/{piece.which}"
        if piece.which != "relaxation":
            return [name]
        rng = numpy.random.default_rng(list(name.encode()))
        return [f"{name}-{step}" for step in range(1 + rng.poisson(STEPS_OF_RELAXATION - 1))]


@dataclass
class Attempt:
    """A job on its way: when it ends, whether well, and when each of its calculations is finished."""

    job: int
    begin_s: float
    end_s: float = 0.0
    complete: bool = True
    finished: list[tuple[float, str]] = field(default_factory=list)


@dataclass
class Told:
    """What came of a simulated study.

    Attributes
    ----------
    jobs, submitted, by_hand : jobs, submissions, times that somebody had to start the study again
    calculations, repeated, lost : finished calculations, those of them finished twice, runs that were cut off
    wall_days, core_hours, mean_in_flight : of the whole
    """

    jobs: int
    submitted: int = 0
    by_hand: int = 0
    calculations: int = 0
    repeated: int = 0
    lost: int = 0
    wall_days: float = 0.0
    core_hours: float = 0.0
    mean_in_flight: float = 0.0


class Simulation:
    """A study on a cluster that runs some jobs at a time.

    Parameters
    ----------
    jobs : of the plan
    work : what they do
    finished : where their calculations are kept
    in_flight : jobs that wait or run at most
    """

    def __init__(self, jobs: list[PlannedJob], work: Work, finished: Finished, in_flight: int = 200) -> None:
        self._jobs = [job for job in jobs if job.rule in COSTS]
        self._work, self._finished, self._in_flight = work, finished, in_flight
        maker = {path: number for number, job in enumerate(self._jobs) for path in job.outputs}
        self._waits = [{maker[path] for path in job.inputs if path in maker} for job in self._jobs]
        self._followers = defaultdict(list)
        for number, needed in enumerate(self._waits):
            for other in needed:
                self._followers[other].append(number)
        self._open = [len(needed) for needed in self._waits]
        self._attempts: Counter[int] = Counter()
        self._running: dict[int, Attempt] = {}
        self.told = Told(len(self._jobs))

    def run(self, kills: Sequence[float] = (), seed: int = 0) -> Told:
        """Simulate the study to its end, with a kill at each of some times in seconds."""
        rng, ready = numpy.random.default_rng(seed), deque(n for n, count in enumerate(self._open) if not count)
        events = [(time, 0, -1) for time in kills]
        now, away_until, flown_s, n_kills = 0.0, 0.0, 0.0, 0
        while ready or self._running:
            while ready and now >= away_until and len(self._running) < self._in_flight:
                attempt = self._start(ready.popleft(), now)
                heapq.heappush(events, (attempt.end_s, self.told.submitted, attempt.job))
            before = now
            now, number, job = heapq.heappop(events)
            flown_s += (now - before) * len(self._running)
            if job == -2:
                continue  # the launcher is back
            if job == -1:
                n_kills += 1
                if n_kills % 2 and self._running:
                    victim = sorted(self._running)[rng.integers(len(self._running))]
                    self._end(victim, now, ready, cut=True)
                else:
                    away_until = now + LAUNCHER_AWAY_S
                    heapq.heappush(events, (away_until, 0, -2))
            elif job in self._running and self._running[job].end_s == now:
                self._end(job, now, ready)
        self._close(now, flown_s)
        return self.told

    def _close(self, now, flown_s):
        times = self._finished.times
        self.told.wall_days, self.told.mean_in_flight = now / 86400, flown_s / now
        self.told.calculations, self.told.repeated = len(times), sum(count > 1 for count in times.values())

    def _start(self, number, now):
        """Let a job begin: what it will have finished when is known, unless it is killed."""
        job, needs = self._jobs[number], self._work.needs
        self._attempts[number] += 1
        self.told.submitted += 1
        attempt = self._running[number] = Attempt(number, now)
        pieces = self._work.share(job)
        if not pieces:
            n_structures = needs.structures(job.rule, job.wildcards)
            attempt.end_s = now + needs.seconds(job.rule, job.wildcards, structures=n_structures)
            return attempt
        limit_s = now + 60 * needs.runtime(job.rule)(job.wildcards, self._attempts[number])
        clock, known = [now + COSTS[job.rule].seconds], self._finished.names(self._writer(number))

        def compute(piece):
            kind = "relaxation" if piece.which == "relaxation" else "supercell"
            names = self._work.calculations(piece)
            share = piece.cost / (6 if kind == "relaxation" else 1)
            for name in names:
                if not known(name):
                    end_s = clock[0] + self._work.seconds(name, kind, share)
                    if end_s > limit_s:
                        raise MachineError("the time of this job is over")
                    clock[0] = end_s
                    attempt.finished.append((end_s, name))

        try:
            calculate(replace(piece, compute=lambda piece=piece: compute(piece)) for piece in pieces)
        except MachineError:
            attempt.complete, clock[0] = False, limit_s
        attempt.end_s = clock[0]
        return attempt

    def _writer(self, number):
        job = self._jobs[number]
        return f"{job.rule},{','.join(str(value) for _, value in job.wildcards.items())}"

    def _end(self, number, now, ready, cut=False):
        """Let a job end, or be cut off: what it has finished is kept, and it is tried again if it is not complete."""
        attempt, job = self._running.pop(number), self._jobs[number]
        for end_s, name in attempt.finished:
            if end_s <= now:
                self._finished.add(self._writer(number), name)
        cores = max(job.threads, self._work.needs.tasks(job.rule))
        self.told.core_hours += (now - attempt.begin_s) / 3600 * cores
        if attempt.complete and not cut:
            for follower in self._followers[number]:
                self._open[follower] -= 1
                if not self._open[follower]:
                    ready.append(follower)
            return
        self.told.lost += bool(self._work.share(job))
        if self._attempts[number] == ATTEMPTS:
            self.told.by_hand += 1
            self._attempts[number] = 0
        ready.append(number)


@contextmanager
def planned_study(
    n_structures: int, reference: str, shards: int = 40, more: Sequence[str] = ()
) -> Iterator[tuple[list[PlannedJob], Work]]:
    """Plan a study of synthetic structures in a folder of its own, and go there."""
    there, settings = Path.cwd(), [f"reference={reference}", f"shards={shards}", *more]
    with tempfile.TemporaryDirectory(prefix="phonoscreen-dft-") as folder:
        os.chdir(folder)
        try:
            options = ["-s", str(ROOT / "Snakefile"), "--cores", "1", "--config", *settings]
            write_structures(Path(folder), n_structures, shards)
            config, jobs = plan_study([*options, "--", "all"])
            yield jobs, Work(config, _structures())
        finally:
            os.chdir(there)


def _structures():
    found = {}
    for path in sorted(INITIAL.glob("*.extxyz")):
        names = [word.split("=")[1] for word in path.read_text().split() if word.startswith("structure_id=")]
        found[path.stem] = {name: ATOMS[name.split("-")[1]] for name in names}
    return found


def simulate(jobs: list[PlannedJob], work: Work, *, in_flight: int = 200, kills: int = 10, seed: int = 0) -> list[Told]:
    """Simulate a study undisturbed, and with kills at random times; both finish the same calculations."""
    undisturbed, disturbed = Finished(), Finished()
    first = Simulation(jobs, work, undisturbed, in_flight).run()
    times = numpy.random.default_rng(seed).uniform(0, first.wall_days * 86400, kills)
    second = Simulation(jobs, work, disturbed, in_flight).run(sorted(times), seed)
    if undisturbed.times.keys() != disturbed.times.keys():
        raise RuntimeError("a kill has changed what was calculated")
    return [first, second]


def main(arguments: list[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser()
    for name, value in {"structures": 80273, "in-flight": 200, "kills": 10, "tasks": 16, "jobs-per-shard": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args(arguments)
    logging.getLogger("phonoscreen").setLevel(logging.ERROR)
    reference = f"{{jobs_per_shard: {options.jobs_per_shard}, vasp: {{tasks: {options.tasks}}}}}"
    with planned_study(options.structures, reference) as (jobs, work):
        labelled = sum(part in ("training", "validation") for part in work.parts.values())
        print(f"{len(work.parts)} structures, {labelled} of them labelled; {options.tasks} MPI tasks of VASP")
        told = simulate(jobs, work, in_flight=options.in_flight, kills=options.kills)
        for name, one in zip(("undisturbed", f"{options.kills} kills"), told, strict=True):
            print(f"{name}: {one.jobs} jobs, {one.submitted} submissions, started again by hand {one.by_hand} times; "
                  f"{one.calculations} calculations, {one.repeated} of them twice, {one.lost} runs cut off; "
                  f"{one.wall_days:.1f} days with {one.mean_in_flight:.0f} jobs in flight on average, "
                  f"{one.core_hours:.0f} core-h")  # fmt: skip


if __name__ == "__main__":
    main()
