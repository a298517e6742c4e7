"""Whether the bonding engine solves the metals of the pools: compounds without an element of ``cost.NONMETALS``.

``python -m tests.benchmarks.bonding_metals TABLE [CPU_MINUTES [CPU_MINUTES_WITH_SPIN]]`` takes the compounds that have
no kept record, every class in turn, inside a class in an order drawn from the seed; those that are solved with both
spins, which take far longer, come last and have a budget of their own. Each is relaxed with the published force model
and solved as the stage of a study does it, until the CPU minutes are spent; a compound whose estimate exceeds what is
left is passed over. TABLE gets a line for each; those it holds are not repeated.

``python -m tests.benchmarks.bonding_metals TABLE projection [CPU_MINUTES]`` asks in about a second each only whether
the orbitals are independent and the occupied bands fit into them: in the bands of the atoms' superposed densities (LDA,
no self-consistency, a grid of 0.4 angstrom, 2x2x2 k-points, which hold the points of highest symmetry), one spin.
"""

import sys
import time
from functools import cache
from pathlib import Path

import numpy
import pandas
from ase import Atoms
from ase.data import chemical_symbols

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.cost import NONMETALS, cpu_seconds
from phonoscreen.bonding.engines import SPILLING_TOO_HIGH, find_cohp
from phonoscreen.bonding.gpaw_basis import basis_of
from phonoscreen.bonding.gpaw_lcao import FERMI_WIDTH_EV, MAGNETIC, gather_bands
from phonoscreen.bonding.orbitals import MissingSymmetry, orthonormal_hamiltonian
from phonoscreen.bonding.selection import order_of_structures
from phonoscreen.forcefield.engine import make
from phonoscreen.stages.bonding_product import relaxed_crystal
from phonoscreen.structures.formulas import composition
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from tests.conftest import ROOT

POOLS = ("laptop_pool", "pool", "dft_pool", "experiment_pool")
SEED = 1
COLUMNS = (
    "structure_id",
    "formula",
    "prototype",
    "status",
    "basis",
    "spilling",
    "strongest",
    "icohp_ev",
    "cpu_seconds",
    "reason",
)


def metals():
    """Return the metals of all pools: id, formula, class, number of atoms, and whether a record of it is kept."""
    pools = pandas.concat([pandas.read_csv(ROOT / f"resources/{name}.csv") for name in POOLS])
    pools = pools.drop_duplicates("structure_id")
    chosen = pools[[NONMETALS.isdisjoint(composition(formula)) for formula in pools["formula"]]].copy()
    pairs = zip(chosen["formula"], chosen["prototype"], strict=True)
    chosen["n_atoms"] = [len(build_structure(*pair, structure_types())) for pair in pairs]
    kept = pandas.read_csv(ROOT / "resources/bonding/compounds.csv")["structure_id"]
    return chosen.assign(kept=chosen["structure_id"].isin(kept)).set_index("structure_id", drop=False)


@cache
def structure_types():
    """Return the structure types of the prototypes."""
    return read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]


@cache
def potential():
    """Return the published force model."""
    return make({"model": ROOT / "resources/model"})


def solve(row):
    """Return what the table says of one compound."""
    begin = time.process_time()
    found = dict.fromkeys(COLUMNS, "") | {name: row[name] for name in COLUMNS[:3]}
    try:
        crystal = relaxed_crystal(row, structure_types(), potential)
        cohp = find_cohp(crystal, row["structure_id"], engine="gpaw")
    except StudyError as error:
        found |= {"status": "failed", "reason": str(error)}
    else:
        strongest = cohp.icohp_ev.argmin()
        found |= {
            "status": "solved", "basis": cohp.basis, "spilling": round(cohp.spilling, 4),
            "strongest": "-".join(cohp.symbols[strongest]), "icohp_ev": round(float(cohp.icohp_ev[strongest]), 3),
            "reason": "; ".join(cohp.all_warnings()),
        }  # fmt: skip
    return found | {"cpu_seconds": round(time.process_time() - begin, 1)}


def project(row):
    """Return what the table says of one compound without self-consistency."""
    begin = time.process_time()
    found = dict.fromkeys(COLUMNS, "") | {name: row[name] for name in COLUMNS[:3]}
    try:
        bands = first_bands(relaxed_crystal(row, structure_types(), potential))
        hamiltonian, basis = projected(bands)
    except StudyError as error:
        found |= {"status": "failed", "reason": str(error)}
    else:
        words = f"smallest eigenvalue of the overlap {hamiltonian.smallest_overlap:.1e}"
        found |= {"status": "solved", "basis": basis, "spilling": round(hamiltonian.spilling, 4), "reason": words}
    return found | {"cpu_seconds": round(time.process_time() - begin, 1)}


def first_bands(crystal):
    """Return the bands in the potential of the atoms' superposed densities."""
    from gpaw import GPAW, FermiDirac

    symbols = [chemical_symbols[number] for number in crystal.numbers]
    atoms = Atoms(symbols, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    calculator = GPAW(
        mode="lcao", basis={symbol: basis_of(symbol) for symbol in set(symbols)}, xc="LDA", h=0.4, nbands="nao",
        kpts={"size": (2, 2, 2), "gamma": True}, symmetry={"point_group": False},
        occupations=FermiDirac(FERMI_WIDTH_EV), txt=None,
    )  # fmt: skip
    calculator.create_new_calculation(atoms)
    next(iter(calculator.dft.iconverge()))
    return gather_bands(crystal, (2, 2, 2), calculator.dft.ibzwfs, spins=(0,))


def projected(bands):
    """Return the Hamiltonian of the bands in the minimal basis, or the extended one, as the engine chooses."""
    try:
        hamiltonian = orthonormal_hamiltonian(bands)
    except MissingSymmetry:
        return orthonormal_hamiltonian(bands, extended=True), "extended"
    if hamiltonian.spilling > SPILLING_TOO_HIGH:
        return orthonormal_hamiltonian(bands, extended=True), "extended"
    return hamiltonian, "minimal"


def summary(table):
    """Return a line for each class: how many were solved, the largest spilling, and the failures with their reasons."""
    lines = []
    for name, members in table.groupby("prototype"):
        solved = members[members["status"] == "solved"]
        extended = (solved["basis"] == "extended").sum()
        lines.append(
            f"{name:9s} {len(solved):3d} of {len(members):3d} solved, {extended} in the extended basis, "
            f"spilling up to {solved['spilling'].max():.1%}, {members['cpu_seconds'].median():.0f} CPU s"
        )
    failed = table[table["status"] != "solved"]
    lines += [f"{row.structure_id}: {row.reason}" for row in failed.itertuples()]
    total = table["cpu_seconds"].sum() / 60
    return [*lines, f"all       {len(table) - len(failed):3d} of {len(table):3d} solved, {total:.0f} CPU minutes"]


def solve_within(drawn, minutes, path, solve=solve):
    """Solve compounds in the drawn order until the CPU minutes are spent, a line of the table for each."""
    left, done = 60 * minutes, set(pandas.read_csv(path)["structure_id"])
    for structure_id in order_of_structures(drawn.rename_axis(None), SEED):
        row = drawn.loc[structure_id]
        expected = 1.0 if solve is project else cpu_seconds(row["formula"], row["n_atoms"])
        if structure_id in done or expected > left:
            continue
        found = solve(row)
        left -= found["cpu_seconds"]
        pandas.DataFrame([found], columns=list(COLUMNS)).to_csv(path, mode="a", header=False, index=False)
        print(f"{structure_id} {found['status']} {found['cpu_seconds']:.0f} CPU s", flush=True)


def main():
    """Solve until the CPU minutes are spent, then print the summary."""
    path, only_projected = Path(sys.argv[1]), sys.argv[2:3] == ["projection"]
    minutes = [float(word) for word in sys.argv[2 + only_projected :]] or [45.0]
    if not path.exists():
        pandas.DataFrame(columns=list(COLUMNS)).to_csv(path, index=False)
    known = metals()
    print(f"{len(known)} metals in the pools, {known['kept'].sum()} of them kept records", flush=True)
    if only_projected:
        solve_within(known, minutes[0], path, project)
    else:
        left = known[~known["kept"]]
        with_spin = numpy.array([not MAGNETIC.keys().isdisjoint(composition(name)) for name in left["formula"]])
        solve_within(left[~with_spin], minutes[0], path)
        solve_within(left[with_spin], sum(minutes[1:]), path)
    print("\n".join(summary(pandas.read_csv(path))))


if __name__ == "__main__":
    main()
