"""Force sets of DFT as a data set to train on, beside the labels of a universal potential.

Force sets are archives or folders that ``phonoscreen.formats.force_sets`` reads, such as those of phonondb. They hold
few displaced atoms in large cells. So the floor of the relative error is that of a cell in which all atoms are
displaced: it shrinks with the root mean square of the displacements.
"""

import csv
import tempfile
from collections.abc import Collection
from pathlib import Path

import h5py
import numpy
import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.crystal.symmetry import space_group
from phonoscreen.forcefield.dataset import store_labelled
from phonoscreen.forcefield.elements import SYMBOLS
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.formats.force_sets import read_force_set
from phonoscreen.structures.formulas import composition_key, formula_of

FIRST_CUBIC = 195  # number of the first cubic space group
SUPERCELLS_MAX = {True: 4, False: 3}  # of a cubic crystal, of another
ATOMS_MAX = {True: 200, False: 130}
USUAL_DISPLACEMENT_ANGSTROM = 0.03  # of every atom of a labelled supercell


def read_roles(path: Path) -> list[Path]:
    """Return the force sets that may be trained on: rows of a CSV file with the columns ``file`` and ``role``.

    Raises
    ------
    StudyError
        If a column is missing or no row has the role ``train``.
    """
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"file", "role"} <= set(rows[0]):
        raise StudyError("no columns file and role", where=str(path), fix="give a CSV file with both")
    chosen = [Path(row["file"]) for row in rows if row["role"] == "train"]
    if not chosen:
        raise StudyError("no row has the role train", where=str(path), fix="name the force sets to train on")
    return chosen


def write_force_sets(
    folder: Path,
    names: list[Path],
    path: Path,
    *,
    excluded: Collection[str],
    floor_mev_per_angstrom: float,
    seed: int,
    weight: float = 1.0,
) -> pandas.DataFrame:
    """Write force sets as a data set to train on.

    Parameters
    ----------
    folder, names : where they lie, and which
    path : HDF5 file to write (``phonoscreen.forcefield.dataset.Dataset``)
    excluded : formulas, their elements in any order, that are left out where cubic: compounds that judge
    floor_mev_per_angstrom : ``training.relative_floor_mev_per_angstrom``
    seed : for the choice among many supercells
    weight : of a supercell in the loss, where a labelled one has 1

    Returns
    -------
    pandas.DataFrame with ``name, formula, space_group_number`` (0 where it could not be read), ``n_supercells,
        n_environments, reason``; what is left out has a reason
    """
    rows, judging = [], set(map(composition_key, excluded))
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        store.attrs["engine"], store.attrs["model"] = "force_sets", "DFT"
        for name in names:
            row = {"name": name.name.split(".")[0], "formula": "", "space_group_number": 0}
            row |= {"n_supercells": 0, "n_environments": 0, "reason": ""}
            rows.append(row)
            try:
                with tempfile.TemporaryDirectory() as workspace:
                    data = read_force_set(folder / name, Path(workspace)).data
            except StudyError as error:
                row["reason"] = str(error).splitlines()[0]
                continue
            row["formula"] = formula = formula_of(data.crystal.numbers)
            number = space_group(data.crystal, data.symmetry_tolerance_angstrom).number
            row["space_group_number"], cubic = number, number >= FIRST_CUBIC
            row["reason"] = _left_out(data, cubic, cubic and composition_key(formula) in judging)
            if not row["reason"]:
                own_seed = derive_seed(seed, str(row["name"]), "force_sets")
                moves, forces = _chosen(data, SUPERCELLS_MAX[cubic], own_seed)
                shape = _write(store.create_group(row["name"]), data, moves, forces, floor_mev_per_angstrom, weight)
                row["n_supercells"], row["n_environments"] = shape[0], shape[0] * shape[1]
        if not len(store):
            raise StudyError("no force set can be trained on", where=str(folder), fix="see the reasons in the table")
    return pandas.DataFrame(rows)


def _left_out(data, cubic, judges):
    """Why a force set is not trained on; an empty text if it is."""
    unknown = set(data.crystal.numbers.tolist()) - set(SYMBOLS)
    if unknown:
        return f"elements with the atomic numbers {sorted(unknown)}, which the models do not know"
    if judges:
        return "a compound of this formula judges the model"
    if data.displacements.shape[1] > ATOMS_MAX[cubic]:
        return f"a supercell of {data.displacements.shape[1]} atoms, at most {ATOMS_MAX[cubic]} are trained on"
    return ""


def _chosen(data, most, seed):
    """Displacements and forces of at most so many supercells."""
    if len(data.displacements) <= most:
        return data.displacements, data.forces
    chosen = numpy.sort(numpy.random.default_rng(seed).permutation(len(data.displacements))[:most])
    return data.displacements[chosen], data.forces[chosen]


def _write(group, data, moves, forces, floor_mev_per_angstrom, weight):
    square, floor = float((forces**2).mean()), 1e-3 * floor_mev_per_angstrom
    share = numpy.sqrt((moves**2).sum(axis=2).mean()) / USUAL_DISPLACEMENT_ANGSTROM
    weight *= (square + floor**2) / (square + (floor * share) ** 2)
    supercells = Supercells(data.crystal, numpy.array(data.repetitions), moves)
    store_labelled(group, supercells, slice(None), forces, "training", weight)
    group.attrs["relative"] = True
    return forces.shape
