"""CPU seconds of the screening by part, on structures of the screened pool (``make benchmark-screening``).

    python -m tests.benchmarks.bench_screening [--structures 30] [--write ROWS.parquet] [--against ROWS.parquet]

The structures are drawn from ``resources/screening/screening.parquet``, which has the classes in Table 1's proportion,
with a probability that grows with the time recorded there: a few stable structures cost as much as all the others. Each
counts with the inverse of its probability, so that the means are those of the whole table. Settings are those of the
table, forces those of the published model. Other structures, drawn in the same way, come first and pay for imports and
compilation, as in a block of the screening; instead of the time of symmetry bases, their share of a block of 495
structures is counted. Numbers are compared with the recorded rows, or with those that ``--write`` has kept of another
version.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy
import pandas
import pyarrow.parquet
import torch

from phonoscreen.audit.shipped import shipped
from phonoscreen.forcefield.publish import load_published
from phonoscreen.stages.screening_block import BlockScreening
from phonoscreen.structures.prototypes import read_prototypes

POOL, BLOCK = 77_091, 495
PARTS = {
    "starting structure": ["stages.screening_block:starting_structure"],
    "class of the structure": ["stages.screening:identity"],
    "relaxation": ["stages.screening:relax_structure"],
    "symmetry basis": [
        "stages.assignment:build_basis", "stages.assignment:write_basis", "force_constants.fit:read_basis",
        "force_constants.fit:ForceConstantFitter.__init__",
    ],
    "assignment of a basis": ["stages.assignment:BasisAssigner.assign"],
    "committee's forces": ["stages.screening_forces:ModelForces.samples"],
    "force constants": ["force_constants.fit:ForceConstantFitter.fit", "stages.screening:task_of"],
    "stability": ["stages.screening:check_stability"],
    "transport: third-order rates": ["transport.solve:three_phonon_rates"],
    "transport: full solution": ["transport.solve:iterate"],
    "transport: coherences": ["transport.solve:coherence_conductivity"],
    "transport: modes": ["transport.solve:_modes"],
    "transport: else": ["stages.screening:solve_structure"],
}  # fmt: skip
SHARED = "symmetry basis"
COMPARED = (
    "lattice_constant_angstrom", "frequency_min_thz", "frequency_max_thz", "frequency_std_thz", "kappa_p_w_per_m_k",
    "kappa_p_rta_w_per_m_k", "kappa_c_w_per_m_k", "kappa_p_rta_std_decades", "msd_max_angstrom2", "p3_total_ps",
    "sound_velocity_m_per_s", "heat_capacity_j_per_m3_k", "kappa_p_mesh_error_percent",
)  # fmt: skip


class Clock:
    """CPU seconds of parts; a part inside another one is taken from the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter = Counter()
        self.calls: Counter = Counter()
        self.weight = 1.0
        self._running: list[str] = []
        self._since = time.process_time()

    def watch(self, part: str, place: str) -> None:
        """Time a function of the library, named ``module:function`` or ``module:class.method``."""
        module, names = place.split(":")
        *owners, name = names.split(".")
        owner: Any = import_module(f"phonoscreen.{module}")
        for one in owners:
            owner = getattr(owner, one)
        setattr(owner, name, self._timed(part, getattr(owner, name)))

    def _timed(self, part: str, function: Callable) -> Callable:
        def timed(*arguments: Any, **named: Any) -> Any:
            self.turn()
            self._running.append(part)
            self.calls[part] += self.weight
            try:
                return function(*arguments, **named)
            finally:
                self.turn()
                self._running.pop()

        return timed

    def turn(self) -> None:
        """Book the time since the last turn on the part that is running."""
        now = time.process_time()
        self.seconds[self._running[-1] if self._running else "else"] += self.weight * (now - self._since)
        self._since = now


def draw(table: pandas.DataFrame, count: int, place: float = 0.5) -> pandas.DataFrame:
    """Return some rows of the table with their ``weight``, which is 1 on average over the table.

    The probability of a structure is proportional to its recorded time plus the mean of all: half of it serves the
    typical structure, half the expensive ones. Systematic drawing over the table sorted by class and time, at a
    ``place`` between 0 and 1 in each of ``count`` equal parts.
    """
    ordered = table.sort_values(["class", "seconds", "structure_id"], kind="stable")
    size = ordered["seconds"].to_numpy(float) + table["seconds"].mean()
    wanted = (numpy.arange(count) + place) * size.sum() / count
    drawn = ordered.iloc[numpy.searchsorted(size.cumsum(), wanted)]
    share = drawn["seconds"].to_numpy(float) + table["seconds"].mean()
    return drawn.assign(weight=size.mean() / share)


def solve_all(screening: BlockScreening, sample: pandas.DataFrame, clock: Clock) -> pandas.DataFrame:
    """Return the rows of a screening of these structures."""
    found = []
    for row in sample.itertuples():
        clock.turn()
        clock.weight = row.weight
        formula, prototype = row.source.split(":")
        asked = pandas.Series({"structure_id": row.structure_id, "formula": formula, "prototype": prototype,
                               "part": row.part})  # fmt: skip
        outcome = screening.solve(asked)
        found.append({"structure_id": row.structure_id, "status": outcome.status, **outcome.values})
    clock.turn()
    return pandas.DataFrame(found)


def differences(rows: pandas.DataFrame, before: pandas.DataFrame) -> list[str]:
    """Return one line for each compared number that differs most, and for each status that differs."""
    both = rows.merge(before, on="structure_id", suffixes=("", "_before"))
    lines = [
        f"{one.structure_id}: {one.status}, before {one.status_before}"
        for one in both.itertuples()
        if one.status != one.status_before
    ]
    same = both[both["status"] == both["status_before"]]
    for name in COMPARED:
        new, old = same[name].to_numpy(float), same[f"{name}_before"].to_numpy(float)
        change = numpy.abs(new - old) / numpy.maximum(numpy.abs(old), 1e-3)
        if numpy.isfinite(change).any():
            worst = int(numpy.nanargmax(change))
            where = f"{same['structure_id'].iloc[worst]}, {old[worst]:.6g} to {new[worst]:.6g}"
            lines.append(f"{name}: largest relative difference {change[worst]:.1e} ({where})")
    return lines


def report(
    clock: Clock, rows: pandas.DataFrame, sample: pandas.DataFrame, table: pandas.DataFrame, basis: float
) -> None:
    """Print seconds per structure by part, and what they make of the whole pool."""
    count, weights = len(rows), sample["weight"].to_numpy()
    blocks = table.groupby(numpy.arange(len(table)) // BLOCK)
    bases = blocks.apply(lambda block: block.groupby(["class", "n_supercell_atoms"]).ngroups).mean()
    clock.seconds[SHARED] = basis * bases / BLOCK * count
    seconds = sum(clock.seconds.values()) / count
    print(f"{os.cpu_count()} processors, one thread, {time.strftime('%Y-%m-%d')}; {count} structures, "
          f"{bases:.0f} bases of {basis:.2f} s in a block of {BLOCK}\n")  # fmt: skip
    print("| part | CPU s per structure | calls per structure |\n| --- | --- | --- |")
    for part, spent in clock.seconds.most_common():
        print(f"| {part} | {spent / count:.4f} | {clock.calls[part] / count:.2f} |")
    print(f"| together | {seconds:.3f} | |\n")
    recorded = (weights * sample["seconds"]).sum() / count
    print(f"recorded: these {recorded:.3f} s per structure, all {table['seconds'].mean():.3f} s")
    print(f"whole pool of {POOL}: {POOL * table['seconds'].mean() * seconds / recorded / 3600:.1f} CPU hours "
          f"({seconds / recorded:.3f} of the recorded)")  # fmt: skip
    ordered = rows.assign(weight=weights).sort_values("relaxation_seconds")
    below = ordered["weight"].cumsum() / ordered["weight"].sum()
    for share in (0.5, 0.9):
        within = 1e3 * ordered["relaxation_seconds"][below >= share].iloc[0]
        print(f"relaxation: {100 * share:.0f} % below {within:.1f} ms")
    print(f"steps of a relaxation, median: {rows['relaxation_steps'].median():.0f}")


def main() -> None:
    """Print the table of parts, the time of relaxations, the projection, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=30)
    parser.add_argument("--write", metavar="PARQUET", help="keep the rows")
    parser.add_argument("--against", metavar="PARQUET", help="rows of another version (default: the recorded table)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    product = shipped("resources/screening/screening.parquet")
    table = pandas.read_parquet(product)
    settings = json.loads(pyarrow.parquet.read_schema(product).metadata[b"origin"])["settings"]
    committee, content = load_published(shipped("resources/model"), "cpu")
    types = read_prototypes(shipped("resources/prototypes.yaml"))["structure_types"]
    sample, clock = draw(table, arguments.structures), Clock()
    for part, places in PARTS.items():
        for place in places:
            clock.watch(part, place)
    with BlockScreening(committee, content, settings, types) as screening:
        solve_all(screening, draw(table, arguments.structures, 0.0).assign(weight=1.0), clock)
        basis = clock.seconds[SHARED] / (clock.calls[SHARED] / len(PARTS[SHARED]))
        clock.seconds.clear(), clock.calls.clear()
        rows = solve_all(screening, sample, clock)
    report(clock, rows, sample, table, basis)
    print("\n".join(["", *differences(rows, pandas.read_parquet(arguments.against) if arguments.against else table)]))
    if arguments.write:
        rows.to_parquet(arguments.write)


if __name__ == "__main__":
    main()
