"""Force constants in the HDF5 files of phonopy and phono3py.

A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023). Arrays are stored in phonopy's atom order, compact (first index: the
primitive cell's atoms), in eV/angstrom^2 and eV/angstrom^3.
"""

import os

import h5py
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.io.force_constants import phonopy_order
from phonoscreen.lattice.constants import SecondOrder, ThirdOrder
from phonoscreen.lattice.dynamical_matrix import HarmonicLattice
from phonoscreen.lattice.supercell import cell_index


def write_second_hdf5(second_order, path):
    """Write phonopy's ``force_constants.hdf5`` (also phono3py's ``fc2.hdf5``).

    Parameters
    ----------
    second_order : ``SecondOrder``
    path : HDF5 file
    """
    order = phonopy_order(second_order.values.shape[0], second_order.repetitions)
    _write(path, "force_constants", second_order.values[:, order], order)


def read_second_hdf5(path, n_atoms, repetitions):
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
        If the file is for another supercell.
    """
    values = _read(path, ("force_constants", "fc2"), n_atoms, repetitions, order=2)
    return SecondOrder(tuple(int(n) for n in repetitions), values)


def write_third_hdf5(third_order, repetitions, path):
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


def read_third_hdf5(path, crystal, repetitions):
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
        If the file is for another supercell.
    """
    n_atoms = len(crystal.numbers)
    values = _read(path, ("fc3",), n_atoms, repetitions, order=3)
    images = HarmonicLattice(crystal, repetitions).images()
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
    partial = f"{path}.partial"
    with h5py.File(partial, "w") as store:
        store.create_dataset(name, data=values, compression="gzip", compression_opts=1)
        store["p2s_map"] = numpy.array([int(numpy.flatnonzero(order == i)[0]) for i in range(n_atoms)])
        store["physical_unit"] = numpy.array([f"eV/angstrom^{(values.ndim + 1) // 2}".encode()])
    os.replace(partial, path)


def _read(path, names, n_atoms, repetitions, order):
    with h5py.File(path) as store:
        name = next((name for name in names if name in store), None)
        if name is None:
            raise StudyError(f"{path} holds none of {names}", fix="give a file of phonopy or phono3py")
        values = store[name][:]
        rows = store["p2s_map"][:] if "p2s_map" in store else None
    position = phonopy_order(n_atoms, repetitions)
    theirs = numpy.argsort(position)
    if values.shape[1] != len(position):
        raise StudyError(
            f"{path} is for {values.shape[1]} atoms, the supercell has {len(position)}",
            fix="give the repetitions that the file was made with",
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
