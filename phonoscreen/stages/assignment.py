"""Which supercell and which symmetry basis each structure gets, and how many displaced supercells it needs."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy

from phonoscreen.audit.records import refuse_common_failure
from phonoscreen.audit.shard import Outcome, attempt
from phonoscreen.crystal.supercell import choose_repetitions, shortest_supercell_vector
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.force_constants.basis import basis_key, build_basis, write_basis
from phonoscreen.force_constants.orders import ORDERS

if TYPE_CHECKING:
    import h5py
    import pandas

    from phonoscreen.crystal.constants import Crystal
    from phonoscreen.force_constants.settings import OrderSettings, SupercellSettings
    from phonoscreen.structures.third_order_reach import ThirdOrderReach

log = logging.getLogger("phonoscreen")

STAGE = "build_symmetry_bases"


class BasisAssigner:
    """Gives each structure a basis; builds one only when no structure before had the same.

    Parameters
    ----------
    store : open ``h5py.File`` that collects the bases
    settings : ``SupercellSettings``
    orders : ``OrderSettings``
    reach : of the third order by structure type, where the settings name no length
    """

    def __init__(
        self, store: "h5py.File", settings: "SupercellSettings", orders: "OrderSettings", reach: "ThirdOrderReach"
    ) -> None:
        self._store, self._settings, self._orders, self._reach = store, settings, orders, reach
        self._free: dict[str, tuple[int, ...]] = {}
        self._symmetries: dict[tuple, Any] = {}

    def assign(self, crystal: "Crystal", repetitions: tuple[int, ...] | None = None) -> dict[str, Any]:
        """Choose supercell, cutoff and basis of one structure.

        Parameters
        ----------
        crystal : ``Crystal``
        repetitions : (3,) integers of the supercell where its labels already have one

        Returns
        -------
        dict of the values of the structure's record

        Raises
        ------
        StudyError
            If the crystal has no symmetry that spglib finds, or no neighbour lies inside the largest cutoff.
        """
        settings, n_atoms = self._settings, len(crystal.numbers)
        if repetitions is None:
            repetitions = choose_repetitions(crystal.cell, n_atoms, settings.min_length_angstrom, settings.max_atoms)
        symmetry = self._symmetry(crystal, repetitions)
        reach = self._reach.angstrom(crystal, symmetry.space_group.number)
        cutoffs, third = self._orders.cutoffs(crystal, repetitions, reach)
        key = basis_key(crystal, repetitions, cutoffs, symmetry)
        if key not in self._free:
            basis = build_basis(crystal, repetitions, cutoffs)
            write_basis(self._store, basis)
            self._free[key] = tuple(order.n_free for order in basis.orders)
        n_free = self._free[key]
        n_supercell_atoms = n_atoms * int(numpy.prod(repetitions))
        per_supercell = sum(n_free) / (3 * n_supercell_atoms)
        return {
            "basis_key": key,
            "space_group": symmetry.space_group.symbol,
            "space_group_number": symmetry.space_group.number,
            "repetitions": " ".join(str(n) for n in repetitions),
            "n_supercell_atoms": n_supercell_atoms,
            "supercell_length_angstrom": shortest_supercell_vector(crystal.cell, repetitions),
            "third_cutoff_angstrom": third.value_angstrom if third else float("nan"),
            "third_shell": third.shell if third else 0,
            "third_cutoff_to_shell_angstrom": third.to_shell_angstrom if third else float("nan"),
            **{f"n_free_{name}": n for name, n in zip(ORDERS, n_free)},
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


def assign_all(
    assigner: BasisAssigner, upstream: "pandas.DataFrame", crystal_of: "Callable[[str], tuple]"
) -> list[dict[str, Any]]:
    """Records of all structures of one shard.

    Parameters
    ----------
    assigner : ``BasisAssigner``
    upstream : records of the stage before
    crystal_of : function from a structure id to the arguments of ``BasisAssigner.assign``

    Returns
    -------
    list of record dicts; one structure's failure never stops the others

    Raises
    ------
    StudyError
        If all of them failed for one reason.
    """
    records = []
    listed: Any = upstream.itertuples()
    for row in listed:
        if row.status != "ok":
            outcome = Outcome(status="skipped", reason=f"{row.stage}: {row.status}")
        else:
            outcome = attempt(lambda name: Outcome(assigner.assign(*crystal_of(name))), row.structure_id, STAGE)
        record = {"structure_id": row.structure_id, "stage": STAGE, "status": outcome.status, "reason": outcome.reason}
        if outcome.status == "failed":
            log.warning("%s %s: %s", STAGE, row.structure_id, outcome.reason)
            record["failure"] = outcome.failure
        records.append(record | outcome.values)
    refuse_common_failure(records, STAGE)
    return records
