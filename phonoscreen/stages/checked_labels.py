"""The check of one structure's labels, from the shards' files to its record."""

from functools import lru_cache

from phonoscreen.audit.shard import Outcome
from phonoscreen.force_constants.basis import BASES_HELD, read_basis
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.harmonic_model import second_order_basis
from phonoscreen.force_constants.label_checks import check_labels
from phonoscreen.stages.stored_force_constants import read_crystal


class LabelChecker:
    """Checks the labels of one structure after the other.

    Parameters
    ----------
    bases : open ``h5py.File`` written by ``build_symmetry_bases``
    """

    def __init__(self, bases):
        self._basis = lru_cache(BASES_HELD)(lambda key: read_basis(bases, key))
        self._matrix = lru_cache(BASES_HELD)(self._second_order)

    def _second_order(self, key):
        basis = self._basis(key)
        return FitMatrix(second_order_basis(basis)) if basis.orders[0].clusters.repetitions is not None else None

    def check(self, basis_key, group, supercell):
        """Pass labels on unchanged.

        Parameters
        ----------
        basis_key : of the structure's symmetry basis
        group : HDF5 group of the labels: ``forces, supercell_index, residual_forces`` and others
        supercell : HDF5 group with ``displacements, repetitions`` and the primitive cell

        Returns
        -------
        Outcome with the arrays and attributes of the labels

        Raises
        ------
        StudyError
            If the forces show a mistake, see ``check_labels``.
        """
        crystal, forces = read_crystal(supercell), group["forces"][:]
        matrix = self._matrix(basis_key)
        if matrix is None:  # the study cuts its second order off: the check takes all pairs
            matrix = FitMatrix(second_order_basis(self._basis(basis_key), crystal))
        indices = group["supercell_index"][:]
        displacements = supercell["displacements"][:][indices]
        check_labels(crystal, displacements, forces, matrix, group["residual_forces"][:], indices.tolist())
        arrays = {name: group[name][:] for name in group}
        return Outcome(values={"n_supercells": len(forces)}, arrays=arrays, attrs=dict(group.attrs))
