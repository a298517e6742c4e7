"""A folder that holds a structure and its force constants, without a file that says how they belong together.

POSCAR with FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD, or with phono3py's fc2.hdf5 and fc3.hdf5, and perhaps BORN. The
supercell is not written in such a folder: it is given, or it is the one diagonal supercell of the right size in which
the force constants do not depend on the order of their two atoms.
"""

import contextlib
import itertools
import re
import warnings
from pathlib import Path

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.io.displacements import phonopy_atoms, read_born
from phonoscreen.io.force_constants import read_header, read_second_order, read_third_order
from phonoscreen.io.number_files import read_text
from phonoscreen.io.phonopy import read_array
from phonoscreen.io.shengbte import existing
from phonoscreen.lattice.constants import Crystal
from phonoscreen.lattice.supercell import supercell_cells

STRUCTURES = ("POSCAR", "POSCAR-unitcell")
_FILES = (("fc2.hdf5", ("force_constants", "fc2"), 2), ("fc3.hdf5", ("fc3",), 3))
_ASYMMETRY_MAX = 0.02


def holds_structure(folder):
    """Whether a folder holds a structure file of this kind."""
    return any((Path(folder) / name).is_file() for name in STRUCTURES)


def read_poscar_folder(folder, supercell=None):
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
    if any((folder / name).is_file() for name in ("FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_2ND.xz")):
        return _read_text(folder, path, unit, supercell)
    raise StudyError(f"no force constants beside {path}", where="transport",
                     fix="put FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD there, or fc2.hdf5 and fc3.hdf5")  # fmt: skip


def _structure(path):
    from ase.io import read

    from phonoscreen.transport.solve import check_crystal

    lines = read_text(path).splitlines()
    counts = [int(word) for line in lines[5:7] for word in line.split() if re.fullmatch(r"\d{1,18}", word)]
    if sum(counts) > len(lines):  # the reader would ask for memory first and look for the lines afterwards
        raise StudyError(f"{path} says {sum(counts)} atoms in {len(lines)} lines", where="transport",
                         fix="give the whole file")  # fmt: skip
    try:
        atoms = read(path, format="vasp")
    except Exception as error:  # the reader raises whatever a broken file makes it stumble over
        raise StudyError(f"{path} cannot be read: {error or type(error).__name__}", where="transport",
                         fix="give a POSCAR of VASP 5, with the line of element symbols") from error  # fmt: skip
    crystal = Crystal.from_ase(atoms)
    check_crystal(crystal)  # before spglib sees it, which does not survive NaN
    return crystal


def _read_text(folder, path, crystal, supercell):
    constants, n, found = existing(folder, "FORCE_CONSTANTS_2ND"), len(crystal.numbers), []
    for repetitions in [tuple(supercell)] if supercell else _supercells(read_header(constants)[-1], n, constants, path):
        second = read_second_order(constants, n, repetitions)
        cells = supercell_cells(repetitions)
        found.append(
            (_asymmetry(cells, second.values.reshape(n, len(cells), n, 3, 3), repetitions), repetitions, second)
        )
    second, note = _the_one(found, constants, given=supercell is not None)
    third_path = existing(folder, "FORCE_CONSTANTS_3RD")
    third = read_third_order(third_path, crystal.cell, n)
    born = folder / "BORN"
    charges = read_born(born, crystal) if born.is_file() else None
    names = [path.name, constants.name, third_path.name] + (["BORN"] if charges else [])
    return crystal, second, third, charges, [", ".join(names), note]


def _read_hdf5(folder, path, unit, supercell):
    from phono3py import Phono3py

    from phonoscreen.io.phono3py import from_phono3py

    arrays = [read_array(folder / name, names, order) for name, names, order in _FILES]
    (fc2, rows2), (fc3, rows3) = arrays
    cell, n, found = phonopy_atoms(unit), len(unit.numbers), []
    for outer in [tuple(supercell)] if supercell else _supercells(fc2.shape[1], n, folder / "fc2.hdf5", path):
        same = fc3.shape[1] == fc2.shape[1]
        for inner in [outer] if same else _supercells(fc3.shape[1], n, folder / "fc3.hdf5", path):
            for primitive in ("auto", numpy.eye(3)):
                try:
                    with contextlib.redirect_stdout(None), warnings.catch_warnings(action="ignore"):
                        program = Phono3py(cell, numpy.diag(inner), primitive_matrix=primitive, log_level=0,
                                           phonon_supercell_matrix=numpy.diag(outer))  # fmt: skip
                except Exception:  # phonopy raises whatever a cell that does not fit makes it stumble over
                    continue
                fits = [_rows_fit(fc2, rows2, program.phonon_primitive), _rows_fit(fc3, rows3, program.primitive)]
                if all(fits):
                    program.fc2, program.fc3 = fc2, fc3
                    both = from_phono3py(program)
                    found.append((_asymmetry(both[1].cells, both[1].values.swapaxes(0, 1)), outer, both))
                    break
    (crystal, second, third), note = _the_one(found, folder / "fc2.hdf5", given=supercell is not None)
    born = folder / "BORN"
    charges = read_born(born, crystal, unit) if born.is_file() else None
    names = [path.name, "fc2.hdf5", "fc3.hdf5"] + (["BORN"] if charges else [])
    return crystal, second, third, charges, [", ".join(names), note]


def _supercells(n_super, n_atoms, constants, structure):
    """Diagonal supercells with this number of atoms."""
    if n_super % n_atoms:
        raise StudyError(f"{constants} is for {n_super} atoms, no multiple of the {n_atoms} of {structure}",
                         where="transport", fix="give the structure that was repeated")  # fmt: skip
    cells = n_super // n_atoms
    counts = [count for count in range(1, cells + 1) if cells % count == 0]
    return [(a, b, cells // (a * b)) for a, b in itertools.product(counts, counts) if cells % (a * b) == 0]


def _asymmetry(cells, values, repetitions=None):
    """Largest change of a force constant when its two atoms are exchanged, in terms of the largest one.

    Parameters
    ----------
    cells : (n_cells, 3) lattice vectors of the second atom, each once
    values : (n_atoms, n_cells, n_atoms, 3, 3)
    repetitions : (3,) of a supercell that the lattice vectors are counted in, or None
    """
    back = {tuple(numpy.mod(cell, repetitions) if repetitions else cell): k for k, cell in enumerate(cells.tolist())}
    opposite = [back.get(tuple(numpy.mod(-cell, repetitions) if repetitions else -cell)) for cell in cells]
    if None in opposite:
        return numpy.inf
    change = values - values[:, opposite].transpose(2, 1, 0, 4, 3)
    return float(numpy.abs(change).max() / max(numpy.abs(values).max(), 1e-300))


def _the_one(found, path, given):
    """The reading with the smallest asymmetry, if it stands alone, and a sentence about it."""
    fitting = sorted((item for item in found if item[0] < _ASYMMETRY_MAX), key=lambda item: item[0])
    if not fitting:
        raise StudyError(f"{path} fits no {'such ' if given else ''}supercell of the structure beside it",
                         where="transport",
                         fix="name the supercell with --supercell, and give the cell that was repeated")  # fmt: skip
    close = [item[1] for item in fitting if item[0] < 10 * fitting[0][0] + 1e-6]
    if len(close) > 1:
        raise StudyError(f"{path} fits the supercells {', '.join(' '.join(map(str, n)) for n in close)}",
                         where="transport", fix="name the right one with --supercell")  # fmt: skip
    shape = " x ".join(str(n) for n in fitting[0][1])
    how = "given" if given else "found from the exchange symmetry of the force constants"
    return fitting[0][2], f"supercell {shape} ({how})"


def _rows_fit(array, rows, primitive):
    """Whether the first index of an array counts the atoms of a primitive cell."""
    if array.shape[1] != len(primitive.s2p_map) or len(array) not in (len(primitive), array.shape[1]):
        return False
    return len(array) == array.shape[1] or rows is None or numpy.array_equal(rows, primitive.p2s_map)
