"""CPU time of relaxations with the published model, and where they end (``make benchmark-relaxation``).

    python -m tests.benchmarks.bench_relaxation [--structures 100] [--exact] [--write ROWS.parquet]
                                                [--against ROWS.parquet]

The structures are drawn from ``resources/screening/screening.parquet``, which has the classes in Table 1's proportion;
starts and limits are those of the screening. Others come first and pay for imports and compilation. ``--exact`` asks
for a fiftieth of the force and a hundredth of the pressure: two versions then end at the same crystal, while within
the limits of the screening they end at different ones. ``--write`` keeps the rows, ``--against`` compares with those of
another version, run on the same machine at the same time where times are compared.
"""

import argparse
import json
import time

import numpy
import pandas
import pyarrow.parquet
import torch

from phonoscreen.audit.shipped import shipped
from phonoscreen.forcefield.engine import CommitteeEngine
from phonoscreen.forcefield.publish import load_published
from phonoscreen.stages.label_library import starting_structure
from phonoscreen.stages.screening import identity
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.relaxation import relax_structure

EXACT = {"force_max_ev_per_angstrom": 2e-5, "stress_max_gpa": 5e-4}


def relaxations(sample: pandas.DataFrame, limits: dict, tolerance_angstrom: float) -> pandas.DataFrame:
    """Return one row for each relaxation: seconds, evaluations, where it ended; a refused one has its reason."""
    types = read_prototypes(shipped("resources/prototypes.yaml"))["structure_types"]
    engine, rows = CommitteeEngine(load_published(shipped("resources/model"), "cpu")[0], "published"), []
    for one in sample.itertuples():
        atoms = starting_structure(*one.source.split(":"), types)
        identity(atoms, tolerance_angstrom)  # as in a screening: the relaxation is asked for a crystal of known class
        row, begin = {"structure_id": one.structure_id, "class": one.prototype}, time.process_time()
        try:
            found = relax_structure(atoms, engine, one.structure_id, limits, tolerance_angstrom)
            row |= {"status": found.status, **found.values, "n_atoms": len(atoms)}
        except ValueError as error:
            row |= {"status": str(error).splitlines()[0]}
        rows.append({**row, "seconds": time.process_time() - begin})
    return pandas.DataFrame(rows)


def compare(rows: pandas.DataFrame, before: pandas.DataFrame) -> None:
    """Print the ratio of the times and the largest differences of where relaxations ended."""
    both = rows.merge(before, on="structure_id", suffixes=("", "_before"))
    changed = both[both["status"] != both["status_before"]]
    both = both[(both["status"] == "ok") & (both["status_before"] == "ok")]
    lattice = numpy.abs(both["lattice_constant_angstrom"] / both["lattice_constant_angstrom_before"] - 1)
    pairs = zip(both["free_coordinates"].map(json.loads), both["free_coordinates_before"].map(json.loads), strict=True)
    moved = [numpy.abs(numpy.subtract(one[k], other[k])).max() for one, other in pairs for k in one.keys() & other]
    print(f"time, ratio of the medians: {both['seconds'].median() / both['seconds_before'].median():.2f}; "
          f"evaluations {both['steps'].mean():.2f}, before {both['steps_before'].mean():.2f}")  # fmt: skip
    print(f"lattice constants of {len(both)} crystals: largest relative difference {lattice.max():.1e}, "
          f"90 % below {lattice.quantile(0.9):.1e}; free coordinates: {max(moved, default=0.0):.1e}")  # fmt: skip
    for one in changed.itertuples():
        print(f"{one.structure_id}: {one.status}, before {one.status_before}")


def main() -> None:
    """Relax the sample and print times by class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=100)
    parser.add_argument("--exact", action="store_true", help="limits that leave no choice where to end")
    parser.add_argument("--write", metavar="PARQUET", help="keep the rows")
    parser.add_argument("--against", metavar="PARQUET", help="rows of another version")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    product = shipped("resources/screening/screening.parquet")
    settings = json.loads(pyarrow.parquet.read_schema(product).metadata[b"origin"])["settings"]
    limits = settings["relax"] | (EXACT if arguments.exact else {})
    tolerance = settings["filter"]["symmetry_tolerance_angstrom"]
    table = pandas.read_parquet(product, columns=["structure_id", "source", "class"])
    table = table.rename(columns={"class": "prototype"})
    relaxations(table.groupby("prototype").sample(2, random_state=1), limits, tolerance)
    rows = relaxations(table.sample(arguments.structures, random_state=2), limits, tolerance)
    done = rows[rows["status"] == "ok"]
    middle, most = 1e3 * done["seconds"].quantile([0.5, 0.9])
    print(f"{len(done)} of {len(rows)} relaxed; CPU ms: median {middle:.1f}, 90 % below {most:.1f}; "
          f"evaluations {done['steps'].mean():.2f}\n")  # fmt: skip
    groups = done.assign(ms=1e3 * done["seconds"]).groupby("class")
    print(groups.agg(count=("ms", "size"), n_atoms=("n_atoms", "median"), ms=("ms", "median"), steps=("steps", "mean"))
          .round(1).to_string())  # fmt: skip
    if arguments.against:
        compare(rows, pandas.read_parquet(arguments.against))
    if arguments.write:
        rows.to_parquet(arguments.write)


if __name__ == "__main__":
    main()
