"""The check of one structure's labels, from the shards' files to its record."""

from functools import lru_cache
from typing import TYPE_CHECKING

from phonoscreen.audit.shard import Outcome
from phonoscreen.force_constants.basis import BASES_HELD, read_basis
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.harmonic_model import second_order_basis
from phonoscreen.force_constants.label_checks import check_labels
from phonoscreen.structures.labelled_supercells import read_labelled

if TYPE_CHECKING:
    import h5py


class LabelChecker:
    """Checks the labels of one structure after the other.

    Parameters
    ----------
    bases : open ``h5py.File`` written by ``build_symmetry_bases``
    """

    def __init__(self, bases: "h5py.File") -> None:
        self._basis = lru_cache(BASES_HELD)(lambda key: read_basis(bases, key))
        self._matrix = lru_cache(BASES_HELD)(self._second_order)

    def _second_order(self, key):
        basis = self._basis(key)
        return FitMatrix(second_order_basis(basis)) if basis.orders[0].clusters.repetitions is not None else None

    def check(self, basis_key: str, group: "h5py.Group", supercell: "h5py.Group") -> Outcome:
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
        data, matrix = read_labelled(group, supercell), self._matrix(basis_key)
        if matrix is None:  # the study cuts its second order off: the check takes all pairs
            matrix = FitMatrix(second_order_basis(self._basis(basis_key), data.crystal))
        check_labels(data.crystal, data.displacements, data.forces, matrix, data.residual_forces, data.numbers.tolist())
        arrays = {name: group[name][:] for name in group}
        return Outcome(values={"n_supercells": len(data.forces)}, arrays=arrays, attrs=dict(group.attrs))
