"""Force constants in the HDF5 files of phonopy and phono3py.

A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023). Arrays are stored in phonopy's atom order, compact (first index: the
primitive cell's atoms), in eV/angstrom^2 and eV/angstrom^3.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import h5py
import numpy
from numpy.typing import NDArray

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import SecondOrder, ThirdOrder
from phonoscreen.crystal.shortest_images import ShortestImages
from phonoscreen.crystal.supercell import cell_index
from phonoscreen.formats.force_constants import phonopy_order
from phonoscreen.formats.number_files import check_magnitude

if TYPE_CHECKING:
    from pathlib import Path

    from phonoscreen.crystal.constants import Crystal

ARRAY_MAX_GIB = 16
"""Largest array that is read."""


def write_second_hdf5(second_order: SecondOrder, path: str | Path) -> None:
    """Write phonopy's ``force_constants.hdf5`` (also phono3py's ``fc2.hdf5``).

    Parameters
    ----------
    second_order : ``SecondOrder``
    path : HDF5 file
    """
    order = phonopy_order(second_order.values.shape[0], second_order.repetitions)
    _write(path, "force_constants", second_order.values[:, order], order)


def read_second_hdf5(path: str | Path, n_atoms: int, repetitions: Sequence[int]) -> SecondOrder:
    """Read phonopy's ``force_constants.hdf5`` or phono3py's ``fc2.hdf5``, compact or full.

    Parameters
    ----------
    path : HDF5 file
    n_atoms : atoms of the primitive cell
    repetitions : (3,) integers of the supercell

    Returns
    -------
    SecondOrder

    Raises
    ------
    StudyError
        If the file is for another supercell, damaged, or holds values that are not finite.
    """
    values = _read(path, ("force_constants", "fc2"), n_atoms, repetitions, order=2)
    return SecondOrder(tuple(int(n) for n in repetitions), values)


def write_third_hdf5(third_order: ThirdOrder, repetitions: Sequence[int], path: str | Path) -> None:
    """Write phono3py's ``fc3.hdf5``.

    Parameters
    ----------
    third_order : ``ThirdOrder`` within a cutoff below half the supercell
    repetitions : (3,) integers of the supercell
    path : HDF5 file
    """
    n_atoms = int(third_order.atoms.max()) + 1
    order = phonopy_order(n_atoms, repetitions)
    n_super = len(order)
    values = numpy.zeros((n_atoms, n_super, n_super, 3, 3, 3))
    site = cell_index(third_order.cells, repetitions) * n_atoms + third_order.atoms[:, 1:]
    numpy.add.at(values, (third_order.atoms[:, 0], site[:, 0], site[:, 1]), third_order.values)
    _write(path, "fc3", values[:, order][:, :, order], order)


def read_third_hdf5(path: str | Path, crystal: Crystal, repetitions: Sequence[int]) -> ThirdOrder:
    """Read phono3py's ``fc3.hdf5``, compact or full.

    Each element is shared by the shortest images of its second and third atom seen from the first, as phono3py does.

    Parameters
    ----------
    path : HDF5 file
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell

    Returns
    -------
    ThirdOrder

    Raises
    ------
    StudyError
        If the file is for another supercell, damaged, or holds values that are not finite.
    """
    n_atoms = len(crystal.numbers)
    values = _read(path, ("fc3",), n_atoms, repetitions, order=3)
    images = ShortestImages(crystal, repetitions).of_pairs()
    atoms, cells, tensors = [], [], []
    for i, a, b in numpy.argwhere(numpy.abs(values).max(axis=(3, 4, 5)) > 0):
        for cell_a, share_a in images[i][a]:
            for cell_b, share_b in images[i][b]:
                atoms.append((i, a % n_atoms, b % n_atoms))
                cells.append((cell_a, cell_b))
                tensors.append(share_a * share_b * values[i, a, b])
    return ThirdOrder(numpy.array(atoms), numpy.array(cells), numpy.array(tensors))


def _write(path, name, values, order):
    n_atoms = values.shape[0]
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        store.create_dataset(name, data=values, compression="gzip", compression_opts=1)
        store["p2s_map"] = numpy.array([int(numpy.flatnonzero(order == i)[0]) for i in range(n_atoms)])
        store["physical_unit"] = numpy.array([f"eV/angstrom^{(values.ndim + 1) // 2}".encode()])


def read_array(path: str | Path, names: Iterable[str], order: int) -> tuple[NDArray, NDArray | None]:
    """Read an array of force constants, whatever its supercell.

    Parameters
    ----------
    path : HDF5 file
    names : names of the data set, the first found is read
    order : 2 or 3

    Returns
    -------
    values : (n_rows, n_super, ..., 3, ...) with ``order`` atoms and ``order`` directions, finite, in eV/angstrom^order
    rows : (n_rows,) supercell atom of each row, or None

    Raises
    ------
    StudyError
        If the file is no such file, is damaged, holds values that are not finite, or states an unknown unit.
    """
    if not os.path.isfile(path):
        raise StudyError(f"{path} does not exist", fix="check its name and folder")
    try:
        with h5py.File(path) as store:
            name = next((name for name in names if name in store), None)
            if name is None:
                raise StudyError(f"{path} holds none of {names}", fix="give a file of phonopy or phono3py")
            shape = tuple(store[name].shape)
            if len(shape) != 2 * order or shape[order:] != (3,) * order or len(set(shape[1:order])) != 1 or not (
                0 < shape[0] <= shape[1]
            ):  # fmt: skip
                raise StudyError(f"{path}: {name} has the shape {shape}", fix="give a file of phonopy or phono3py")
            if store[name].dtype.kind != "f" or 8 * math.prod(shape) > ARRAY_MAX_GIB * 2**30:
                raise StudyError(f"{path}: {name} holds {math.prod(shape)} values of type {store[name].dtype}, at most "
                                 f"{ARRAY_MAX_GIB} GiB of real numbers are read",
                                 fix="write compact arrays (phono3py without --full-fc)")  # fmt: skip
            values = store[name][:].astype(float, copy=False)
            values *= _unit(store, order, path)
            rows = store["p2s_map"][:] if "p2s_map" in store else None
    except StudyError:
        raise
    except Exception as error:  # a damaged HDF5 file raises whatever its library stumbles over
        raise StudyError(f"{path} cannot be read: {error}", fix="write it again, or copy it again") from error
    if rows is not None and (
        rows.shape != shape[:1] or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= shape[1]
    ):
        if len(values) != shape[1]:
            raise StudyError(f"{path}: p2s_map does not name the rows", fix="write it again")
        rows = None
    check_magnitude(path, values, f"eV/angstrom^{order}")
    return values, rows


def _unit(store, order, path):
    """Return the unit that a file states, in eV/angstrom^order; phonopy converts the second order likewise."""
    if "physical_unit" not in store:
        return 1.0
    from phonopy.interface.calculator import get_force_constant_conversion_factor

    stated = numpy.ravel(store["physical_unit"][()])[0].decode()
    if stated.lower() == f"ev/angstrom^{order}":
        return 1.0
    with contextlib.suppress(KeyError):
        if order == 2:
            return get_force_constant_conversion_factor(stated, None)
    raise StudyError(f"{path} is in {stated!r}, which is not eV/angstrom^{order}",
                     fix=f"convert the force constants, and write eV/angstrom^{order} as physical_unit")  # fmt: skip


def _read(path, names, n_atoms, repetitions, order):
    values, rows = read_array(path, names, order)
    position = phonopy_order(n_atoms, repetitions)
    theirs = numpy.argsort(position)
    if values.shape[1] != len(position) or len(values) not in (n_atoms, len(position)):
        raise StudyError(
            f"{path} is for {values.shape[1]} atoms and {len(values)} rows; the supercell has {len(position)} atoms, "
            f"the cell {n_atoms}",
            fix="give the repetitions that the file was made with (scell of CONTROL, --supercell)",
        )
    for axis in range(1, order):
        values = numpy.take(values, theirs, axis=axis)
    if len(values) == len(position):
        return values[theirs[:n_atoms]]
    if rows is not None and not numpy.array_equal(position[rows], numpy.arange(n_atoms)):
        raise StudyError(
            f"{path}: the rows are not the atoms of the first cell",
            fix="write the full array (phonopy --full-fc)",
        )
    return values
