"""Structures per hour on two cores, from shards of displacements and forces to stored force constants.

Second half of ``make benchmark-force-constants``. The nine classes of Table 1 with two to four atoms in the primitive
cell, in the numbers of its unexplored structures, with supercells, cutoffs and numbers of supercells as ``config.yaml``
sets them: once as reference labels, once as predicted forces with five committee members. Each worker runs the script
``fit_force_constants`` on a shard of its own, as two jobs of the workflow on a machine with two cores; writing the
shards is not counted. Forces are those of random force constants with 2 % noise: their values do not change the work.
"""

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy
import yaml
from threadpoolctl import threadpool_limits

from phonoscreen.audit.records import read_records, write_records
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.basis import read_basis
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.settings import OrderSettings, SupercellSettings
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from phonoscreen.structures.third_order_reach import ThirdOrderReach
from tests.small_study import ROOT, run_script

COMPOUNDS = {
    "216-AB": ("GaAs", 5.65), "216-ABC": ("NiTiSn", 5.95), "216-ABC2": ("AgSbLi2", 6.57),
    "216-ABCD": ("LiMgPdSn", 6.4), "221-AB": ("CsCl", 4.12), "221-AB3": ("AuCu3", 3.75), "225-AB": ("NaCl", 5.64),
    "225-AB3": ("BiLi3", 6.71), "225-ABC2": ("SrCuPd2", 6.7),
}  # fmt: skip
"""A compound of each class and its lattice constant, angstrom."""

STRUCTURES = 120
"""In the shard of each worker."""

SCALES = 0.88, 1.08
"""Each structure's lattice constant is the compound's times a number drawn from this range, which moves shells."""

COMMITTEE = 5


def classes():
    """Class, crystal and number of structures in a worker's shard."""
    table = yaml.safe_load((ROOT / "resources/published/table1.yaml").read_text())["classes"]
    unexplored = {f"{row[0]}-{row[1]}": row[4] for row in table}
    total = sum(unexplored[name] for name in COMPOUNDS)
    types = read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]
    for name, (formula, lattice_constant) in COMPOUNDS.items():
        atoms = build_structure(formula, name, types)
        scale = lattice_constant * (0.25 if name[:3] != "221" else 1.0) ** (1 / 3) / atoms.get_volume() ** (1 / 3)
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        yield name, Crystal.from_ase(atoms), max(1, round(STRUCTURES * unexplored[name] / total))


def write_shard(folder, kind, seed):
    """Write a shard of displaced supercells with reference labels or predicted forces; return its number of bases."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    rng, rows = numpy.random.default_rng(seed), []
    supercell = SupercellSettings.from_section(config["supercell"])
    orders = OrderSettings.from_section(config["force_constants"])
    with h5py.File(folder / "bases.h5", "w") as bases, h5py.File(folder / "supercells.h5", "w") as supercells:
        types = read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]
        assigner = BasisAssigner(bases, supercell, orders, ThirdOrderReach(types))
        with h5py.File(folder / "forces.h5", "w") as forces:
            for name, crystal, count in classes():
                for number in range(count):
                    own = replace(crystal, cell=crystal.cell * rng.uniform(*SCALES))
                    rows.append(assigner.assign(own) | {"structure_id": f"{name}-{number}", "stage": "before",
                                                        "status": "ok", "reason": ""})  # fmt: skip
                    basis, group = read_basis(bases, rows[-1]["basis_key"]), rows[-1]["structure_id"]
                    n, fit_matrix = rows[-1]["n_network" if kind == "predicted" else "n_reference"], FitMatrix(basis)
                    moves = rng.normal(size=(n, basis.n_supercell_atoms, 3))
                    moves *= 0.03 / numpy.linalg.norm(moves, axis=2, keepdims=True)
                    exact = fit_matrix.forces(moves, rng.normal(size=basis.n_free))
                    arrays = {"forces": exact + 0.02 * exact.std() * rng.normal(size=exact.shape)}
                    arrays["residual_forces"] = numpy.zeros(exact.shape[1:])
                    if kind == "predicted":
                        noise = 0.02 * exact.std() * rng.normal(size=(COMMITTEE, *exact.shape))
                        arrays["committee_forces"] = exact + noise
                    for key, array in arrays.items():
                        forces.create_dataset(f"{group}/{key}", data=array, compression="gzip", shuffle=True)
                    cell = {key: getattr(own, key) for key in ("cell", "scaled_positions", "numbers")}
                    for key, array in {"displacements": moves, **cell}.items():
                        supercells[f"{group}/{key}"] = array
    rng.shuffle(rows)
    write_records(rows, folder / "assignment.parquet")
    write_records([{key: row[key] for key in ("structure_id", "stage", "status", "reason")} for row in rows],
                  folder / "forces.parquet")  # fmt: skip
    return len({row["basis_key"] for row in rows})


def work(folder):
    """Fit one shard; print structures, wall seconds, CPU seconds and peak memory in GB."""
    wall, start = time.perf_counter(), time.process_time()
    run_script(
        "fit_force_constants",
        input={"forces": folder / "forces.h5", "forces_records": folder / "forces.parquet",
               "supercells": folder / "supercells.h5", "bases": folder / "bases.h5",
               "assignment": folder / "assignment.parquet"},
        output={"arrays": folder / "constants.h5", "records": folder / "constants.parquet"},
        params={"fit": {"method": "least_squares"}, "learning_curve": False},
    )  # fmt: skip
    wall, cpu = time.perf_counter() - wall, time.process_time() - start
    records = read_records(folder / "constants.parquet")
    assert (records["status"] == "ok").all(), records["reason"].unique()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(len(records), wall, cpu, peak)


def main():
    """Two workers at once, for both kinds of forces."""
    print(
        "| forces | structures, bases | CPU per structure | structures per hour, by CPU | by the clock | peak memory |"
    )
    print("|---|---|---|---|---|---|")
    for kind in ("reference", "predicted"):
        with tempfile.TemporaryDirectory() as folder:
            parts = [Path(folder) / str(number) for number in range(2)]
            for number, part in enumerate(parts):
                part.mkdir()
                n_bases = write_shard(part, kind, number)
            command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.fit_throughput"]
            workers = [subprocess.Popen([*command, str(part)], stdout=subprocess.PIPE, text=True) for part in parts]
            results = numpy.array([worker.communicate()[0].split() for worker in workers], float)
        n, wall, cpu, peak = results.T
        print(
            f"| {kind} | {n.sum():.0f}, {n_bases} | {cpu.sum() / n.sum():.3f} | {7200 * n.sum() / cpu.sum():.0f} | "
            f"{3600 * n.sum() / wall.max():.0f} | {peak.max():.2f} GB |",
            flush=True,
        )


if __name__ == "__main__":
    with threadpool_limits(1):
        work(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
