"""Time of force constants per structure against hiphive and symfc, in one run (``make benchmark-force-constants``).

Same crystals, supercells, displacements and forces for all. CPU seconds of one thread, best of several repeats for
the short ones. hiphive counts StructureContainer, Optimizer, rotational sum rules and the files for ShengBTE, with its
cluster space and its numba compilation left out; symfc counts fc2 and fc3 with and without its basis.
"""

import logging
import resource
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy
from ase import Atoms
from threadpoolctl import threadpool_limits

from phonoscreen.lattice.basis import build_basis, read_basis, write_basis
from phonoscreen.lattice.clusters import choose_cutoff
from phonoscreen.lattice.fit import ForceConstantFitter
from phonoscreen.lattice.fit_matrix import FitMatrix
from tests import prototype_crystals as prototypes

CASES = {
    "rocksalt": (prototypes.rocksalt, (3, 3, 3)),
    "half-Heusler": (prototypes.half_heusler, (3, 3, 3)),
    "full Heusler": (prototypes.full_heusler, (3, 3, 3)),
    "perovskite": (prototypes.perovskite, (3, 3, 3)),
    "elpasolite": (prototypes.elpasolite, (2, 2, 2)),
}
THIRD_CUTOFF_ANGSTROM = 4.4
SUPERCELLS = 16


def cpu(function, repeats=1):
    """Least CPU seconds of some calls, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return min(times), result


def repeated(crystal, repetitions):
    """Supercell as ``ase.Atoms``."""
    scaled = crystal.scaled_positions % 1.0  # hiphive wants them so; displacements do not see it
    cell = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=scaled, pbc=True)
    return cell.repeat(repetitions)


def ours(crystal, repetitions, displacements, forces, cutoff):
    """Seconds to build the basis and to go from displacements and forces to stored constants."""
    build, basis = cpu(lambda: build_basis(crystal, repetitions, (None, cutoff)))
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "bases.h5", "w") as store:
        write_basis(store, basis)
        load, fitter = cpu(lambda: ForceConstantFitter(read_basis(store, basis.key)))

        def fit_and_store():
            fitted = fitter.fit(crystal, displacements, forces)
            with h5py.File(Path(folder) / "constants.h5", "w") as constants:
                constants["parameters"] = fitted.parameters
            return fitted

        fit_and_store()
        fit, _ = cpu(fit_and_store, repeats=5)
    return build, load, fit, basis


def hiphive(crystal, repetitions, displacements, forces, cutoff):
    """Seconds of the plain route: fit matrix, least squares, rotational sum rules, files; compiled beforehand."""
    from hiphive import ClusterSpace, ForceConstantPotential, StructureContainer, enforce_rotational_sum_rules
    from hiphive.cutoffs import estimate_maximum_cutoff
    from trainstation import Optimizer

    logging.getLogger("hiphive").setLevel(logging.WARNING)
    atoms, unit = repeated(crystal, repetitions), repeated(crystal, (1, 1, 1))
    space = ClusterSpace(unit, [estimate_maximum_cutoff(atoms) - 0.05, cutoff])

    def route(number):
        container = StructureContainer(space)
        for moves, own in zip(displacements[:number], forces[:number]):
            structure = atoms.copy()
            structure.arrays["displacements"], structure.arrays["forces"] = moves, own
            container.add_structure(structure)
        optimizer = Optimizer(container.get_fit_data(), train_size=1.0)
        optimizer.train()
        parameters = enforce_rotational_sum_rules(space, optimizer.parameters, ["Huang", "Born-Huang"])
        constants = ForceConstantPotential(space, parameters).get_force_constants(atoms)
        with tempfile.TemporaryDirectory() as folder:
            constants.write_to_phonopy(str(Path(folder) / "FORCE_CONSTANTS_2ND"), format="text")
            constants.write_to_shengBTE(str(Path(folder) / "FORCE_CONSTANTS_3RD"), unit)

    route(1)
    return cpu(lambda: route(len(displacements)))[0]


def symfc(crystal, repetitions, displacements, forces, cutoff):
    """Seconds of symfc's fc2 and fc3 without and with its basis at hand."""
    from symfc import Symfc
    from symfc.utils.utils import SymfcAtoms

    atoms = repeated(crystal, repetitions)
    supercell = SymfcAtoms(cell=atoms.cell[:], scaled_positions=atoms.get_scaled_positions(), numbers=atoms.numbers)

    def basis():
        solver = Symfc(supercell, displacements=displacements, forces=forces, cutoff={3: cutoff}, log_level=0)
        return solver.compute_basis_set(2).compute_basis_set(3)

    build, solver = cpu(basis)
    solve, _ = cpu(lambda: solver.solve(max_order=3))
    return build + solve, solve


def main():
    """Print the table; with names of cases as arguments only these."""
    print(f"{SUPERCELLS} supercells, third order within {THIRD_CUTOFF_ANGSTROM} angstrom at most, CPU s, one thread")
    print(
        "case          atoms  free | basis   load    fit  | hiphive  ratio | symfc  ratio | symfc cached  ratio | /hour"
    )
    for case in sys.argv[1:] or CASES:
        make, repetitions = CASES[case]
        crystal = make()
        cutoff = choose_cutoff(crystal, repetitions, THIRD_CUTOFF_ANGSTROM).value_angstrom
        basis = build_basis(crystal, repetitions, (None, cutoff))
        rng = numpy.random.default_rng(0)
        displacements = rng.normal(size=(SUPERCELLS, basis.n_supercell_atoms, 3))
        displacements *= 0.03 / numpy.linalg.norm(displacements, axis=2, keepdims=True)
        rows = FitMatrix(basis).matrix(displacements) @ rng.normal(size=basis.n_free)
        forces = rows.reshape(basis.n_atoms, 3, SUPERCELLS, -1).transpose(2, 3, 0, 1).reshape(displacements.shape)
        build, load, fit, _ = ours(crystal, repetitions, displacements, forces, cutoff)
        cold, cached = symfc(crystal, repetitions, displacements, forces, cutoff)
        plain = hiphive(crystal, repetitions, displacements, forces, cutoff)
        print(
            f"{case:13s} {basis.n_supercell_atoms:5d} {basis.n_free:5d} | {build:5.2f} {load:6.3f} {fit:6.4f} |"
            f" {plain:7.2f} {plain / fit:6.0f} | {cold:5.2f} {cold / fit:6.0f} | {cached:12.2f} {cached / fit:6.1f} |"
            f" {2 * 3600 / fit:7.0f}",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"/hour: structures per hour on two cores. Peak memory of this process, all programs together: {peak:.2f} GB")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
