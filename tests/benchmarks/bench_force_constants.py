"""Force constants per structure beside hiphive and symfc, in one run: time and accuracy.

First half of ``make benchmark-force-constants``; the second is ``fit_throughput``. Same crystals, supercells,
displacements and forces for all programs; CPU seconds of one thread. This project: the script ``fit_force_constants``
on a shard, from HDF5 files to stored constants. hiphive: StructureContainer, Optimizer, rotational sum rules and the
files for ShengBTE, its cluster space and its compilation left out. symfc: fc2 and fc3, with its basis and with the
basis at hand. Forces of the five prototypes are those of a universal potential, SevenNet 7net-0, not DFT; NaCl and MgO
are VASP forces of phono3py's examples. Errors are those of supercells left out of all fits.
"""

import contextlib
import io
import logging
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy
from ase import Atoms
from threadpoolctl import threadpool_limits

from phonoscreen.audit.records import write_records
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.supercell import translation_table
from phonoscreen.force_constants.basis import build_basis, write_basis
from phonoscreen.force_constants.cutoffs import choose_cutoff
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.formats.displacements import read_phonopy_yaml
from phonoscreen.reference.registry import make_engine
from tests import prototype_crystals as prototypes
from tests.conftest import reference_folder
from tests.small_study import run_script

PROTOTYPES = {
    "rocksalt": (prototypes.rocksalt, (3, 3, 3)),
    "half-Heusler": (prototypes.half_heusler, (3, 3, 3)),
    "full Heusler": (prototypes.full_heusler, (3, 3, 3)),
    "perovskite": (prototypes.perovskite, (3, 3, 3)),
    "elpasolite": (prototypes.elpasolite, (2, 2, 2)),
}
DFT = {"NaCl, DFT": "nacl/phono3py_params_NaCl.yaml.xz", "MgO, DFT": "mgo/phono3py_params_MgO-222rd-444rd.yaml.xz"}
THIRD_CUTOFF_ANGSTROM = 4.4
FITTED, UNSEEN = 16, 4
STRUCTURES = 12
"""Structures in the shard whose time is shared among them."""


@dataclass
class Case:
    """One crystal with displaced supercells; the last ``n_unseen`` are never fitted."""

    crystal: Crystal
    repetitions: tuple
    displacements: numpy.ndarray
    forces: numpy.ndarray
    residual: numpy.ndarray
    cutoff: float
    n_unseen: int

    @property
    def atoms(self):
        """Undisplaced supercell as ``ase.Atoms``."""
        return self.unit.repeat(self.repetitions)

    @property
    def unit(self):
        """Primitive cell as ``ase.Atoms``, shifted off the cell's faces, where hiphive refuses rounding errors."""
        scaled = (self.crystal.scaled_positions + 1e-4) % 1.0
        return Atoms(numbers=self.crystal.numbers, cell=self.crystal.cell, scaled_positions=scaled, pbc=True)

    def error(self, predicted):
        """Relative force error on the unseen supercells."""
        wanted = self.forces[-self.n_unseen :]
        return numpy.sqrt(((predicted - wanted) ** 2).mean() / (wanted**2).mean())


def prototype_case(name, engine):
    """A prototype with forces of a universal potential, relative to the undisplaced crystal."""
    make, repetitions = PROTOTYPES[name]
    crystal = make()
    crystal = replace(crystal, scaled_positions=crystal.scaled_positions % 1.0)  # as hiphive needs them
    perfect = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    perfect = perfect.repeat(repetitions)
    moves = numpy.random.default_rng(0).normal(size=(FITTED + UNSEEN, len(perfect), 3))
    moves *= 0.03 / numpy.linalg.norm(moves, axis=2, keepdims=True)
    forces = []
    for move in [numpy.zeros(perfect.positions.shape), *moves]:
        moved = perfect.copy()
        moved.positions += move
        forces.append(engine.forces(moved, f"{name}/benchmark")[1])
    cutoff = choose_cutoff(crystal, repetitions, THIRD_CUTOFF_ANGSTROM).value_angstrom
    return Case(crystal, repetitions, moves, numpy.array(forces[1:]) - forces[0], 0 * forces[0], cutoff, UNSEEN)


def dft_case(name):
    """Real DFT forces: 30 supercells of 64 atoms fitted, 10 unseen."""
    data = read_phonopy_yaml(reference_folder() / "displaced_supercells" / DFT[name])
    cutoff = choose_cutoff(data.crystal, data.repetitions, 10.0).value_angstrom
    return Case(data.crystal, data.repetitions, data.displacements[:40], data.forces[:40], 0 * data.forces[0],
                cutoff, 10)  # fmt: skip


def ours(case):
    """CPU seconds of the basis and per structure, number of free force constants, error."""
    start = time.process_time()
    basis = build_basis(case.crystal, case.repetitions, (None, case.cutoff))
    build = time.process_time() - start
    names = [f"s{number}" for number in range(STRUCTURES)]
    with tempfile.TemporaryDirectory() as folder:
        folder, n = Path(folder), len(case.forces) - case.n_unseen
        records = [{"structure_id": name, "stage": "before", "status": "ok", "reason": ""} for name in names]
        write_records(records, folder / "forces.parquet")
        reach = {"third_cutoff_angstrom": case.cutoff, "third_shell": 0, "third_cutoff_to_shell_angstrom": 0.0}
        write_records([{**row, "basis_key": basis.key, **reach} for row in records], folder / "assignment.parquet")
        with h5py.File(folder / "bases.h5", "w") as store:
            write_basis(store, basis)
        with h5py.File(folder / "forces.h5", "w") as forces, h5py.File(folder / "supercells.h5", "w") as supercells:
            for name in names:
                forces[f"{name}/forces"] = case.forces[:n]
                supercells[f"{name}/displacements"] = case.displacements[:n]
                for key in ("cell", "scaled_positions", "numbers"):
                    supercells[f"{name}/{key}"] = getattr(case.crystal, key)
        paths = {key: folder / f"{key}.{kind}" for key, kind in
                 (("forces", "h5"), ("supercells", "h5"), ("bases", "h5"), ("assignment", "parquet"))}  # fmt: skip

        def fit():
            run_script(
                "fit_force_constants",
                input={**paths, "forces_records": folder / "forces.parquet"},
                output={"arrays": folder / "constants.h5", "records": folder / "constants.parquet"},
                params={"fit": {"method": "least_squares"}, "learning_curve": False},
            )

        seconds = cpu(fit, repeats=3)[0] / STRUCTURES
        with h5py.File(folder / "constants.h5") as store:
            parameters = store["s0/parameters"][:]
    predicted = FitMatrix(basis).forces(case.displacements[n:], parameters)
    return build, seconds, basis.n_free, case.error(predicted)


def hiphive(case):
    """CPU seconds of the plain route, compiled beforehand, and its error."""
    from hiphive import ClusterSpace, ForceConstantPotential, StructureContainer, enforce_rotational_sum_rules
    from hiphive.cutoffs import estimate_maximum_cutoff
    from trainstation import Optimizer

    logging.getLogger("hiphive").setLevel(logging.WARNING)
    atoms, unit = case.atoms, case.unit
    space = ClusterSpace(unit, [estimate_maximum_cutoff(atoms) - 0.05, case.cutoff])

    def container(chosen):
        filled = StructureContainer(space)
        for moves, own in zip(case.displacements[chosen], case.forces[chosen]):
            structure = atoms.copy()
            structure.arrays["displacements"], structure.arrays["forces"] = moves, own
            filled.add_structure(structure)
        return filled

    def route(number):
        optimizer = Optimizer(container(slice(number)).get_fit_data(), train_size=1.0)
        optimizer.train()
        parameters = enforce_rotational_sum_rules(space, optimizer.parameters, ["Huang", "Born-Huang"])
        constants = ForceConstantPotential(space, parameters).get_force_constants(atoms)
        with tempfile.TemporaryDirectory() as folder:
            constants.write_to_phonopy(str(Path(folder) / "FORCE_CONSTANTS_2ND"), format="text")
            constants.write_to_shengBTE(str(Path(folder) / "FORCE_CONSTANTS_3RD"), unit)
        return parameters

    with contextlib.redirect_stdout(io.StringIO()):
        route(1)
        seconds, parameters = cpu(lambda: route(len(case.forces) - case.n_unseen))
        matrix, _ = container(slice(-case.n_unseen, None)).get_fit_data()
    return seconds, case.error((matrix @ parameters).reshape(case.n_unseen, -1, 3))


def symfc(case):
    """CPU seconds of fc2 and fc3 with the basis and with the basis at hand, and the error."""
    from symfc import Symfc
    from symfc.utils.utils import SymfcAtoms

    atoms, n = case.atoms, len(case.forces) - case.n_unseen
    supercell = SymfcAtoms(cell=atoms.cell[:], scaled_positions=atoms.get_scaled_positions(), numbers=atoms.numbers)
    data = {"displacements": case.displacements[:n], "forces": case.forces[:n]}

    def basis():
        return Symfc(supercell, cutoff={3: case.cutoff}, log_level=0, **data).compute_basis_set(2).compute_basis_set(3)

    with contextlib.redirect_stdout(io.StringIO()):
        build, solver = cpu(basis)
        solve, _ = cpu(lambda: solver.solve(max_order=3), repeats=2)
    n_atoms = len(case.crystal.numbers)
    rows = numpy.argsort(solver.p2s_map)
    assert sorted(solver.p2s_map) == list(range(n_atoms))
    second, third = (solver.force_constants[order][rows] for order in (2, 3))
    predicted = numpy.empty((case.n_unseen, len(atoms), 3))
    for own, moves in zip(predicted, case.displacements[n:]):
        for m, seen in enumerate(translation_table(n_atoms, case.repetitions)):
            u = moves[seen]
            half = numpy.einsum("iajbcd,ad->ijbc", third.transpose(0, 2, 1, 3, 4, 5), u, optimize=True)
            own[m * n_atoms : (m + 1) * n_atoms] = -numpy.einsum("ijbc,jc->ib", second + half / 2, u)
    return build + solve, solve, case.error(predicted)


def cpu(function, repeats=1):
    """Least CPU seconds of some calls, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return min(times), result


def main():
    """Print the table; with names of cases as arguments only these."""
    wanted = sys.argv[1:] or [*PROTOTYPES, *(DFT if reference_folder().is_dir() else ())]
    engine = make_engine({"engine": "sevennet", "model": "7net-0"}, 1) if set(wanted) & set(PROTOTYPES) else None
    print("| crystal | atoms, supercells, free | basis | per structure | hiphive | symfc | symfc, basis at hand "
          "| relative force error: ours, hiphive, symfc |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name in wanted:
        case = prototype_case(name, engine) if name in PROTOTYPES else dft_case(name)
        build, fit, n_free, error = ours(case)
        plain, plain_error = hiphive(case)
        cold, cached, symfc_error = symfc(case)
        n = len(case.forces) - case.n_unseen
        print(
            f"| {name} | {len(case.atoms)}, {n}, {n_free} | {build:.2f} s | {1000 * fit:.1f} ms | {plain:.2f} s: "
            f"{plain / fit:.0f}x | {cold:.2f} s: {cold / fit:.0f}x | {cached:.2f} s: {cached / fit:.0f}x | "
            f"{100 * error:.2f} %, {100 * plain_error:.2f} %, {100 * symfc_error:.2f} % |",
            flush=True,
        )


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
