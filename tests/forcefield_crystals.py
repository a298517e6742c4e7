"""Small labelled crystals for the tests of the force models: fcc metals with effective-medium theory.

Effective-medium theory (Jacobsen, Stoltze and Norskov, Surf. Sci. 366, 394 (1996)) is a real many-body potential that
needs no file and milliseconds per supercell.
"""

import h5py
import numpy
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

SETTINGS = {
    "kind": "elemental_sdnnff",
    "committee": 2,
    "cutoff_angstrom": 4.0,
    "mesh_spacing_angstrom": 1.2,
    "width_over_spacing": 0.7,
    "frames": 3,
    "element_channels": ["presence", "period", "group", "electronegativity", "covalent_radius"],
    "components_per_parity": 12,
    "channels": 6,
    "long_range": True,
    "hidden": [32, 16],
    "subtract_undisplaced": True,
    "dtype": "float64",
    "device": "cpu",
}
TRAINING = {
    "epochs": 6,
    "epochs_later_rounds": 3,
    "warm_start": True,
    "pretrained": None,
    "batch_environments": 32,
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "held_out_fraction": 0.2,
    "patience_epochs": 6,
    "relative_floor_mev_per_angstrom": 20,
    "stress_weight": 0.3,
    "warmup_steps": 5,
    "ema_decay": 0.9,
    "max_supercells_per_structure": None,
}
LATTICE_CONSTANTS = {"Al": 3.99, "Ni": 3.49, "Cu": 3.59, "Pd": 3.88, "Ag": 4.06, "Pt": 3.92, "Au": 4.06}  # EMT, A


def rock_salt():
    """Return the primitive cell of NaCl."""
    return bulk("NaCl", "rocksalt", a=5.69)


def zinc_blende():
    """Return the primitive cell of ZnS, whose sites have no inversion."""
    return bulk("ZnS", "zincblende", a=5.41)


def perovskite():
    """Return the cell of SrTiO3: three sites, two of them without a cubic point group's full symmetry."""
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("SrTiO3", cell=3.91 * numpy.eye(3), scaled_positions=places, pbc=True)


def random_moves(count, n_atoms, seed, length=0.03):
    """Return displacements of a fixed length in random directions, (count, n_atoms, 3), angstrom."""
    moves = numpy.random.default_rng(seed).normal(size=(count, n_atoms, 3))
    return moves * length / numpy.linalg.norm(moves, axis=-1, keepdims=True)


def write_metals(folder, count=3):
    """Write supercells and labels of the seven EMT metals; return ({id: labels path}, {id: supercells path})."""
    with h5py.File(folder / "supercells.h5", "w") as supercells, h5py.File(folder / "labels.h5", "w") as labels:
        for number, (symbol, constant) in enumerate(LATTICE_CONSTANTS.items()):
            atoms = bulk(symbol, "fcc", a=constant)
            supercell = atoms.repeat(3)
            moves = random_moves(count, len(supercell), number)
            group = supercells.create_group(symbol)
            group["cell"], group["scaled_positions"] = atoms.cell[:], atoms.get_scaled_positions()
            group["numbers"], group["repetitions"], group["displacements"] = atoms.numbers, [3, 3, 3], moves
            group = labels.create_group(symbol)
            group["forces"] = [emt_forces(supercell, move) for move in moves]
            group["supercell_index"] = numpy.arange(count)
            group.attrs["engine"], group.attrs["model"] = "emt", "ase"
    ids = list(LATTICE_CONSTANTS)
    return dict.fromkeys(ids, folder / "labels.h5"), dict.fromkeys(ids, folder / "supercells.h5")


def emt_forces(supercell, move):
    """Return the forces of a displaced supercell, eV/angstrom."""
    moved = supercell.copy()
    moved.positions += move
    moved.calc = EMT()
    return moved.get_forces()
