"""Which supercell and which symmetry basis each structure gets, and how many displaced supercells it needs."""

import logging
from dataclasses import dataclass, fields

import numpy

from phonoscreen.lattice.basis import basis_key, build_basis, write_basis
from phonoscreen.lattice.clusters import choose_cutoff
from phonoscreen.lattice.supercell import choose_repetitions, shortest_supercell_vector
from phonoscreen.lattice.symmetry import find_symmetry

log = logging.getLogger("phonoscreen")

STAGE = "build_symmetry_bases"


@dataclass
class SupercellSettings:
    """The study's settings of supercells and cutoffs, named as in ``config.yaml``."""

    min_length_angstrom: float
    max_atoms: int
    third_cutoff_angstrom: float
    reference_oversampling: float
    reference_min: int
    network_oversampling: float
    network_min: int

    @classmethod
    def from_params(cls, supercell, third_cutoff_angstrom):
        """Settings from the section ``supercell`` of the configuration and the largest third-order cutoff."""
        names = {item.name for item in fields(cls)} - {"third_cutoff_angstrom"}
        return cls(third_cutoff_angstrom=third_cutoff_angstrom, **{name: supercell[name] for name in names})


class BasisAssigner:
    """Gives each structure a basis; builds one only when no structure before had the same.

    Parameters
    ----------
    store : open ``h5py.File`` that collects the bases
    settings : ``SupercellSettings``
    """

    def __init__(self, store, settings):
        self._store, self._settings = store, settings
        self._free, self._symmetries = {}, {}

    def assign(self, crystal):
        """Choose supercell, cutoff and basis of one structure.

        Parameters
        ----------
        crystal : ``Crystal``

        Returns
        -------
        dict of the values of the structure's record

        Raises
        ------
        StudyError
            If the crystal has no symmetry that spglib finds, or no neighbour lies inside the largest cutoff.
        """
        settings, n_atoms = self._settings, len(crystal.numbers)
        repetitions = choose_repetitions(crystal.cell, n_atoms, settings.min_length_angstrom, settings.max_atoms)
        cutoff = choose_cutoff(crystal, repetitions, settings.third_cutoff_angstrom)
        cutoffs = (None, cutoff.value_angstrom)
        key = basis_key(crystal, repetitions, cutoffs, self._symmetry(crystal, repetitions))
        if key not in self._free:
            basis = build_basis(crystal, repetitions, cutoffs)
            write_basis(self._store, basis)
            self._free[key] = tuple(order.n_free for order in basis.orders)
        n_second, n_third = self._free[key]
        n_supercell_atoms = n_atoms * int(numpy.prod(repetitions))
        per_supercell = (n_second + n_third) / (3 * n_supercell_atoms)
        return {
            "basis_key": key,
            "repetitions": " ".join(str(n) for n in repetitions),
            "n_supercell_atoms": n_supercell_atoms,
            "supercell_length_angstrom": shortest_supercell_vector(crystal.cell, repetitions),
            "third_cutoff_angstrom": cutoff.value_angstrom,
            "third_shell": cutoff.shell,
            "third_gap_angstrom": cutoff.gap_angstrom,
            "n_free_second": n_second,
            "n_free_third": n_third,
            "n_reference": max(
                settings.reference_min, int(numpy.ceil(settings.reference_oversampling * per_supercell))
            ),
            "n_network": max(settings.network_min, int(numpy.ceil(settings.network_oversampling * per_supercell))),
        }

    def _symmetry(self, crystal, repetitions):
        """Symmetry of the geometry; compounds without free internal coordinates share one."""
        shape = crystal.cell / crystal.volume ** (1 / 3)
        shape = numpy.concatenate([shape.ravel(), crystal.scaled_positions.ravel()])
        pattern = numpy.unique(crystal.numbers, return_inverse=True)[1]
        geometry = (numpy.round(shape, 8).tobytes(), pattern.tobytes(), repetitions)
        if geometry not in self._symmetries:
            if len(self._symmetries) > 5000:
                self._symmetries.clear()
            self._symmetries[geometry] = find_symmetry(crystal, repetitions)
        return self._symmetries[geometry]


def assign_all(assigner, upstream, crystal_of):
    """Records of all structures of one shard.

    Parameters
    ----------
    assigner : ``BasisAssigner``
    upstream : records of the stage before
    crystal_of : function from a structure id to its ``Crystal``

    Returns
    -------
    list of record dicts; one structure's failure never stops the others
    """
    records = []
    for row in upstream.itertuples():
        record = {"structure_id": row.structure_id, "stage": STAGE, "status": "ok", "reason": ""}
        if row.status != "ok":
            record |= {"status": "skipped", "reason": f"{row.stage}: {row.status}"}
        else:
            try:
                record |= assigner.assign(crystal_of(row.structure_id))
            except Exception as error:
                log.warning("%s %s: %s", STAGE, row.structure_id, error)
                record |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        records.append(record)
    return records
