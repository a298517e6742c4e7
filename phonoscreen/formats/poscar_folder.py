"""A folder that holds a structure and its force constants, without a file that says how they belong together.

POSCAR with FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD, or with phono3py's fc2.hdf5 and fc3.hdf5, and perhaps BORN. The
supercell is not written in such a folder: it is given, or it is the one diagonal supercell of the right size in which
the force constants do not depend on the order of their two atoms.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry import TOLERANCE_ANGSTROM, symmetrise
from phonoscreen.formats.compressed import find
from phonoscreen.formats.displacements import phonopy_atoms, read_born
from phonoscreen.formats.force_constants import exchange_asymmetry, read_header, read_second_order, read_third_order
from phonoscreen.formats.number_files import read_ascii
from phonoscreen.formats.phonopy import read_array
from phonoscreen.formats.shengbte import existing

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import SecondOrder, ThirdOrder
    from phonoscreen.phonons.dynamical_matrix import LatticeSum

STRUCTURES = ("POSCAR", "POSCAR-unitcell")
_ASYMMETRY_MAX = 0.02
_WAYS_OUT = "name the supercell of the second order with --supercell, or put phono3py's YAML file beside it"


def holds_structure(folder: str | Path) -> bool:
    """Whether a folder holds a structure file of this kind."""
    return any((Path(folder) / name).is_file() for name in STRUCTURES)


def read_poscar_folder(
    folder: str | Path, supercell: Sequence[int] | None = None
) -> tuple[Crystal, SecondOrder | LatticeSum, ThirdOrder, tuple[NDArray, NDArray] | None, list[str]]:
    """Read POSCAR and the force constants beside it.

    Parameters
    ----------
    folder : path
    supercell : (3,) repetitions of POSCAR's cell in the second-order force constants, or None to find them

    Returns
    -------
    crystal : Crystal, primitive
    second : SecondOrder or LatticeSum
    third : ThirdOrder
    charges : (born, dielectric) or None
    notes : list of sentences on what was read and chosen

    Raises
    ------
    StudyError
        If files are missing, do not fit together, or fit several supercells.
    """
    folder = Path(folder)
    path = next(folder / name for name in STRUCTURES if (folder / name).is_file())
    unit = _structure(path)
    if (folder / "fc2.hdf5").is_file() and (folder / "fc3.hdf5").is_file():
        return _read_hdf5(folder, path, unit, supercell)
    if find(folder, "FORCE_CONSTANTS_2ND") is not None:
        return _read_text(folder, path, unit, supercell)
    raise StudyError(f"no force constants beside {path}", where="transport",
                     fix="put FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD there, or fc2.hdf5 and fc3.hdf5")  # fmt: skip


def _structure(path):
    from ase.io import read

    from phonoscreen.transport.solve import check_crystal

    lines = read_ascii(path).splitlines()
    counts = [int(word) for line in lines[5:7] for word in line.split() if re.fullmatch(r"\d{1,18}", word)]
    if sum(counts) > len(lines):  # the reader would ask for memory first and look for the lines afterwards
        raise StudyError(f"{path} says {sum(counts)} atoms in {len(lines)} lines", where="transport",
                         fix="give the whole file")  # fmt: skip
    try:
        atoms: Any = read(path, format="vasp")
    except Exception as error:  # the reader raises whatever a broken file makes it stumble over
        raise StudyError(f"{path} cannot be read: {error or type(error).__name__}", where="transport",
                         fix="give a POSCAR of VASP 5, with the line of element symbols") from error  # fmt: skip
    crystal = Crystal.from_ase(atoms)
    check_crystal(crystal)  # before spglib sees it, which does not survive NaN
    # POSCAR is often rounded, and the images that share a force constant are those at equal distances
    return symmetrise(crystal, TOLERANCE_ANGSTROM)


def _read_text(folder, path, crystal, supercell):
    constants, n, found = existing(folder, "FORCE_CONSTANTS_2ND"), len(crystal.numbers), []
    for repetitions in [tuple(supercell)] if supercell else _supercells(read_header(constants)[-1], n, constants, path):
        second = read_second_order(constants, n, repetitions)
        found.append((exchange_asymmetry(second), _name(repetitions), second))
    second, name = _the_one(found, constants)
    third_path = existing(folder, "FORCE_CONSTANTS_3RD")
    third = read_third_order(third_path, crystal.cell, n)
    born = folder / "BORN"
    charges = read_born(born, crystal) if born.is_file() else None
    names = [path.name, constants.name, third_path.name] + (["BORN"] if charges else [])
    return crystal, second, third, charges, [", ".join(names), _note(name, supercell)]


def _read_hdf5(folder, path, unit, supercell):
    from phonoscreen.formats.phono3py import from_phono3py

    second_path, third_path = folder / "fc2.hdf5", folder / "fc3.hdf5"
    fc2, rows2 = read_array(second_path, ("force_constants", "fc2"), 2)
    fc3, rows3 = read_array(third_path, ("fc3",), 3)
    n, same = len(unit.numbers), fc2.shape[1] == fc3.shape[1]
    shapes = [tuple(supercell)] if supercell else _supercells(fc2.shape[1], n, second_path, path)
    (shape, matrix), name = _the_one(_fitting(unit, fc2, rows2, shapes), second_path)
    shapes = [shape] if same else _supercells(fc3.shape[1], n, third_path, path)
    (inner_shape, _), inner_name = _the_one(_fitting(unit, fc3, rows3, shapes, matrix), third_path)
    program = _phono3py(unit, inner_shape, matrix, shape)
    if program is None:
        raise StudyError(f"{path} cannot be repeated {inner_name} and {name} times", where="transport", fix=_WAYS_OUT)
    program.fc2, program.fc3 = fc2, fc3
    crystal, second, third = from_phono3py(program)
    born = folder / "BORN"
    charges = read_born(born, crystal, unit) if born.is_file() else None
    names = [path.name, "fc2.hdf5", "fc3.hdf5"] + (["BORN"] if charges else [])
    both = name if same else f"{name} (fc2) and {inner_name} (fc3)"
    return crystal, second, third, charges, [", ".join(names), _note(both, supercell)]


def _fitting(unit, values, rows, shapes, matrix=None):
    """Asymmetry, name and (shape, primitive matrix) of every supercell in which an array has the right rows."""
    found = []
    for shape in shapes:
        for guess in ("auto", numpy.eye(3)) if matrix is None else (matrix,):
            program = _phono3py(unit, shape, guess)
            if program is not None and _rows_fit(values, rows, program.primitive):
                found.append((_asymmetry(values, program.primitive), _name(shape), (shape, program.primitive_matrix)))
                break
    return found


def _phono3py(unit, shape, primitive_matrix, phonon_shape=None):
    """``Phono3py`` object of a diagonal supercell, or None where phonopy cannot make one."""
    from phono3py import Phono3py

    try:
        with contextlib.redirect_stdout(None), warnings.catch_warnings(action="ignore"):
            return Phono3py(phonopy_atoms(unit), numpy.diag(shape), primitive_matrix=primitive_matrix, log_level=0,
                            phonon_supercell_matrix=numpy.diag(phonon_shape or shape))  # fmt: skip
    except Exception:  # phonopy raises whatever a cell that does not fit makes it stumble over
        return None


def _supercells(n_super, n_atoms, constants, structure):
    """Diagonal supercells with this number of atoms."""
    if n_super % n_atoms:
        raise StudyError(f"{constants} is for {n_super} atoms, no multiple of the {n_atoms} of {structure}",
                         where="transport", fix="give the structure that was repeated")  # fmt: skip
    cells = n_super // n_atoms
    counts = [count for count in range(1, cells + 1) if cells % count == 0]
    return [(a, b, cells // (a * b)) for a, b in itertools.product(counts, counts) if cells % (a * b) == 0]


def _asymmetry(values, primitive):
    """Largest change of a force constant when its first two atoms are exchanged, in terms of the largest one.

    Parameters
    ----------
    values : (n_rows, n_super, 3, 3) or (n_rows, n_super, n_super, 3, 3, 3), in phonopy's order
    primitive : ``phonopy.structure.cells.Primitive`` of the supercell in question
    """
    order, sites, source = values.ndim // 2, primitive.p2s_map, primitive.s2p_map
    rows = values if len(values) == len(primitive) else values[sites]
    place, worst = {site: k for k, site in enumerate(sites)}, 0.0
    for other in range(values.shape[1]):
        moved = primitive.atomic_permutations[primitive.atomic_permutations[:, other] == source[other]][0]
        there = rows[place[source[other]], moved[sites]]
        if order == 3:
            there = there[:, moved]
        worst = max(worst, numpy.abs(rows[:, other] - there.swapaxes(order - 1, order)).max())
    return float(worst / max(numpy.abs(values).max(), 1e-300))


def _the_one(found, path):
    """The reading with the smallest asymmetry, if it stands alone, and the name of its supercell."""
    fitting = sorted((item for item in found if item[0] < _ASYMMETRY_MAX), key=lambda item: item[0])
    if not fitting:
        raise StudyError(f"{path} fits no diagonal supercell of the structure beside it", where="transport",
                         fix=f"give the cell that was repeated, or {_WAYS_OUT}")  # fmt: skip
    close = [item[1] for item in fitting if item[0] < 10 * fitting[0][0] + 1e-6]
    if len(close) > 1:
        raise StudyError(f"{path} fits the supercells {', '.join(close)}", where="transport", fix=_WAYS_OUT)
    return fitting[0][2], fitting[0][1]


def _name(shape):
    return " x ".join(str(n) for n in shape)


def _note(name, supercell):
    return f"supercell {name} ({'--supercell' if supercell else 'found: exchanging two atoms changes nothing'})"


def _rows_fit(array, rows, primitive):
    """Whether the first index of an array counts the atoms of a primitive cell."""
    if array.shape[1] != len(primitive.s2p_map) or len(array) not in (len(primitive), array.shape[1]):
        return False
    return len(array) == array.shape[1] or rows is None or numpy.array_equal(rows, primitive.p2s_map)
