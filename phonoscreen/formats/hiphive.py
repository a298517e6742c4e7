"""Force constants as hiphive objects.

F. Eriksson, E. Fransson, P. Erhart, Adv. Theory Simul. 2, 1800184 (2019). hiphive keeps the atom order of
``ase.Atoms.repeat``, as this project does.
"""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from ase import Atoms
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import SecondOrder, ThirdOrder, full_second_order
from phonoscreen.crystal.shortest_images import ShortestImages
from phonoscreen.crystal.supercell import cell_index, supercell_cells
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.formats.compressed import plain_file
from phonoscreen.formats.foreign import foreign
from phonoscreen.formats.frames import Frame

if TYPE_CHECKING:
    from hiphive import ClusterSpace, ForceConstants

    from phonoscreen.crystal.constants import Crystal
    from phonoscreen.force_constants.basis import SymmetryBasis


def to_hiphive(crystal: Crystal, second_order: SecondOrder, third_order: ThirdOrder | None = None) -> ForceConstants:
    """Force constants of the supercell as ``hiphive.ForceConstants``.

    Parameters
    ----------
    crystal : ``Crystal``
    second_order : ``SecondOrder``
    third_order : ``ThirdOrder``, or None

    Returns
    -------
    hiphive.ForceConstants
    """
    from hiphive import ForceConstants

    full = full_second_order(second_order)
    table: dict[tuple[int, ...], NDArray] = {(a, b): full[a, b] for a, b in numpy.ndindex(full.shape[:2]) if a <= b}
    if third_order is not None:
        n_atoms, cells = len(crystal.numbers), supercell_cells(second_order.repetitions)
        for shift in cells:
            places = numpy.concatenate([numpy.zeros((len(third_order.atoms), 1, 3), int), third_order.cells], axis=1)
            sites = cell_index(places + shift, second_order.repetitions) * n_atoms + third_order.atoms
            chosen = numpy.flatnonzero((numpy.diff(sites, axis=1) >= 0).all(axis=1))
            table.update({tuple(int(x) for x in sites[t]): third_order.values[t] for t in chosen})
    atoms = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    return ForceConstants.from_sparse_dict(table, atoms.repeat(second_order.repetitions))


def hiphive_parameters(cluster_space: ClusterSpace, basis: SymmetryBasis, parameters: NDArray) -> NDArray:
    """Parameters of a hiphive cluster space for the same force constants.

    With them, ``hiphive.ForceConstantPotential(cluster_space, parameters)`` holds for every supercell.

    Parameters
    ----------
    cluster_space : ``hiphive.ClusterSpace`` of the same primitive cell and cutoffs
    basis : ``SymmetryBasis`` whose second order has a cutoff
    parameters : (n_free,), eV/angstrom^order

    Returns
    -------
    (n_dofs,) in the order and units of the cluster space

    Raises
    ------
    StudyError
        If the cluster space does not hold the same force constants.
    """
    from hiphive import StructureContainer

    fit_matrix, container = FitMatrix(basis), StructureContainer(cluster_space)
    atoms = cluster_space.primitive_structure.repeat(basis.repetitions)
    rng = numpy.random.default_rng(0)
    n_supercells = 1 + 2 * cluster_space.n_dofs // (3 * len(atoms))
    displacements = rng.normal(size=(n_supercells, len(atoms), 3))
    forces = fit_matrix.forces(displacements, parameters)
    for moves, own in zip(displacements, forces):
        structure = atoms.copy()
        structure.arrays["displacements"], structure.arrays["forces"] = moves, own
        container.add_structure(structure)
    matrix, target = container.get_fit_data()
    theirs = numpy.linalg.lstsq(matrix, target, rcond=None)[0]
    misfit = numpy.linalg.norm(matrix @ theirs - target)
    if cluster_space.n_dofs != basis.n_free or misfit > 1e-8 * numpy.linalg.norm(target):
        raise StudyError(
            f"the cluster space has {cluster_space.n_dofs} parameters, the basis {basis.n_free}, and they describe "
            "different force constants",
            fix="make the cluster space of the same primitive cell with the cutoffs of the basis, the second order too",
        )
    return theirs


def is_container(path: str | Path) -> bool:
    """Whether a file is a ``hiphive.StructureContainer``."""
    try:
        with plain_file(path) as plain, tarfile.open(plain) as archive:
            return any(name.startswith("fit_structure_") or name == "cluster_space" for name in archive.getnames())
    except (tarfile.TarError, OSError, EOFError, StudyError, ValueError):
        return False


def read_container(path: str | Path) -> list[Frame]:
    """Read the supercells of a ``hiphive.StructureContainer`` that was written to a file.

    hiphive stores pickled objects; only arrays and ``ase.Atoms`` are let through, so nothing else that a file names is
    ever made. The cluster space and the fit matrices are not needed.

    Parameters
    ----------
    path : the file, also compressed

    Returns
    -------
    list of Frame

    Raises
    ------
    StudyError
        If the file is damaged, holds something else, or no structures.
    """
    fix = "write it again with StructureContainer.write"
    frames: list[Frame] = []
    with plain_file(path) as plain, foreign(f"{path} cannot be read", fix), tarfile.open(plain) as archive:
        names = set(archive.getnames())
        while (name := f"fit_structure_{len(frames)}") in names:
            where = f"supercell {len(frames)} of {path}"
            with tarfile.open(fileobj=archive.extractfile(name)) as own:
                pickled: Any = own.extractfile("items.pickle")
                items = _ArraysOnly(pickled).load()
            frames.append(_frame(items, where))
    if not frames:
        raise StudyError(f"{path} holds no structures", fix="add structures before writing the container")
    return frames


def _frame(items, where):
    state = vars(items["atoms"])
    arrays = {
        name: numpy.asarray(state["arrays"][name]) for name in ("numbers", "positions", "displacements", "forces")
    }
    n_atoms = len(arrays["numbers"])
    for name, array in arrays.items():
        if array.shape[:1] != (n_atoms,) or array.dtype.kind not in "fiu" or not numpy.isfinite(array).all():
            raise StudyError(f"{where}: {name} are not finite numbers for {n_atoms} atoms", fix="write it again")
    cell = state.get("_cellobj", state.get("_cell"))
    atoms = Atoms(arrays["numbers"], cell=numpy.asarray(getattr(cell, "array", cell), float), pbc=True,
                  positions=arrays["positions"] + arrays["displacements"])  # fmt: skip
    return Frame(atoms, arrays["forces"].astype(float), where)


class _ArraysOnly(pickle.Unpickler):
    """Unpickler of arrays and ``ase.Atoms``."""

    def find_class(self, module, name):
        from ase.cell import Cell

        allowed = {
            ("ase.atoms", "Atoms"): Atoms, ("ase.cell", "Cell"): Cell, ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): numpy.dtype, ("collections", "OrderedDict"): dict,
        }  # fmt: skip
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return _from_buffer
        if name == "scalar" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _scalar
        if (module, name) in allowed:
            return allowed[module, name]
        raise StudyError(f"it holds {module}.{name}, which is not read", fix="write it again with hiphive")


def _empty_array(*_):
    return numpy.ndarray((0,), "b")  # filled, shape and all, by its own state


def _from_buffer(buffer, dtype, shape, order):
    return numpy.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _scalar(dtype, content):
    return numpy.frombuffer(content, dtype=dtype)[0]


def from_hiphive(
    force_constants: ForceConstants, crystal: Crystal, repetitions: Sequence[int]
) -> tuple[SecondOrder, ThirdOrder | None]:
    """Force constants from ``hiphive.ForceConstants`` of a supercell.

    Parameters
    ----------
    force_constants : ``hiphive.ForceConstants``
    crystal : ``Crystal``
    repetitions : (3,) integers

    Returns
    -------
    second_order : ``SecondOrder``
    third_order : ``ThirdOrder``, or None where the object has no third order

    Raises
    ------
    StudyError
        If the supercell has another number of atoms.
    """
    n_atoms = len(crystal.numbers)
    n_super = n_atoms * int(numpy.prod(repetitions))
    if force_constants.n_atoms != n_super:
        raise StudyError(f"{force_constants.n_atoms} atoms, the supercell has {n_super}", fix="check the repetitions")
    second = SecondOrder(tuple(int(n) for n in repetitions), force_constants.get_fc_array(2)[:n_atoms])
    if 3 not in force_constants.orders:
        return second, None
    return second, third_order_of_supercell(force_constants.get_fc_array(3)[:n_atoms], crystal, repetitions)


def third_order_of_supercell(third: NDArray, crystal: Crystal, repetitions: Sequence[int]) -> ThirdOrder:
    """Third-order force constants from an array over the atoms of a supercell.

    Parameters
    ----------
    third : (n_atoms, n_supercell_atoms, n_supercell_atoms, 3, 3, 3), eV/angstrom^3; first index the atoms of one cell
    crystal : ``Crystal``
    repetitions : (3,) integers

    Returns
    -------
    ``ThirdOrder``

    Raises
    ------
    StudyError
        If a triplet reaches half the supercell, where its image is not unique.
    """
    n_atoms, images = len(crystal.numbers), ShortestImages(crystal, repetitions).of_pairs()
    atoms, cells, values = [], [], []
    for i, a, b in numpy.argwhere(numpy.abs(third).max(axis=(3, 4, 5)) > 0):
        if len(images[i][a]) > 1 or len(images[i][b]) > 1:
            raise StudyError("a third-order force constant reaches half the supercell", fix="use a larger supercell")
        atoms.append((i, a % n_atoms, b % n_atoms))
        cells.append((images[i][a][0][0], images[i][b][0][0]))
        values.append(third[i, a, b])
    return ThirdOrder(numpy.array(atoms), numpy.array(cells), numpy.array(values))
