"""Force constants and displacement-force data of phonopy and phono3py.

A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023). Arrays are stored in phonopy's atom order, compact (first index: the
primitive cell's atoms), in eV/angstrom^2 and eV/angstrom^3.
"""

import lzma
import os

import h5py
import numpy
import yaml

from phonoscreen.audit.errors import StudyError
from phonoscreen.io.force_constants import phonopy_order
from phonoscreen.lattice.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.lattice.dynamical_matrix import HarmonicLattice
from phonoscreen.lattice.supercell import cell_index, supercell_order


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


def read_displacements(path):
    """Read displaced supercells and their forces from a phonopy or phono3py YAML file, also compressed with xz.

    Parameters
    ----------
    path : ``phonopy_params.yaml`` or ``phono3py_params.yaml`` with displacements of all atoms and forces

    Returns
    -------
    crystal : ``Crystal``, the file's unit cell
    repetitions : (3,) integers
    displacements, forces : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom, in the order of
        ``ase.Atoms.repeat``

    Raises
    ------
    StudyError
        If the supercell is not diagonal or the file holds no such data.
    """
    opener = lzma.open if str(path).endswith(".xz") else open
    with opener(path, "rt") as stream:
        content = yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    matrix = numpy.array(content["supercell_matrix"])
    repetitions = tuple(int(n) for n in matrix.diagonal())
    if not numpy.array_equal(matrix, numpy.diag(repetitions)):
        raise StudyError(f"{path}: the supercell matrix {matrix.tolist()} is not diagonal", fix="repeat a unit cell")
    dataset = content.get("dataset", {})
    if "forces" not in dataset or "displacements" not in dataset:
        raise StudyError(f"{path} holds no displacements of all atoms with forces", fix="save it with forces")
    crystal = Crystal(*_points(content["unit_cell"]))
    cell, scaled, numbers, _ = _points(content["supercell"])
    order = supercell_order(crystal, repetitions, cell, scaled @ cell, numbers)
    displacements, forces = numpy.array(dataset["displacements"]), numpy.array(dataset["forces"])
    return crystal, repetitions, displacements[:, order], forces[:, order]


def read_force_sets(path, n_atoms, repetitions):
    """Read phonopy's FORCE_SETS of single displaced atoms.

    Parameters
    ----------
    path : text file
    n_atoms : atoms of the unit cell
    repetitions : (3,) integers of the supercell, in phonopy's atom order

    Returns
    -------
    displacements, forces : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom

    Raises
    ------
    StudyError
        If the file is cut or for another supercell.
    """
    with open(path) as stream:
        words = numpy.array(stream.read().split(), float)
    n_super, n_sets = int(words[0]), int(words[1])
    order = phonopy_order(n_atoms, repetitions)
    if n_super != len(order) or len(words) != 2 + n_sets * (4 + 3 * n_super):
        raise StudyError(
            f"{path} holds {len(words)} numbers for {n_super} atoms; the supercell has {len(order)}",
            fix="give the unit cell and repetitions of the file",
        )
    sets = words[2:].reshape(n_sets, 4 + 3 * n_super)
    displacements, forces = numpy.zeros((2, n_sets, n_super, 3))
    displacements[numpy.arange(n_sets), order[sets[:, 0].astype(int) - 1]] = sets[:, 1:4]
    forces[:, order] = sets[:, 4:].reshape(n_sets, n_super, 3)
    return displacements, forces


def _points(section):
    from ase.data import atomic_masses, atomic_numbers

    points = section.get("points") or section["atoms"]
    numbers = numpy.array([atomic_numbers[point["symbol"]] for point in points])
    masses = numpy.array([point.get("mass", atomic_masses[z]) for point, z in zip(points, numbers)])
    return numpy.array(section["lattice"]), numpy.array([point["coordinates"] for point in points]), numbers, masses


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
