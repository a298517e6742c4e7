"""The study's settings of supercells and force constants, named as in ``config.yaml``."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.cutoffs import check_cutoff, choose_cutoff, cutoff_near, cutoff_of_shells

LARGEST_ANGSTROM = 5.0
"""Largest third-order cutoff of crystals of no known structure type."""


@dataclass
class SupercellSettings:
    """Supercells and their number."""

    min_length_angstrom: float
    max_atoms: int
    reference_oversampling: float
    reference_min: int
    network_oversampling: float
    network_min: int

    @classmethod
    def from_section(cls, supercell: dict[str, Any]) -> "SupercellSettings":
        """Settings from the section ``supercell`` of the configuration."""
        return _from_section(cls, supercell)


@dataclass
class OrderSettings:
    """Reach of the orders.

    Parameters
    ----------
    second_cutoff_angstrom : None for all pairs of the supercell
    third_cutoff_angstrom : largest third-order cutoff, moved to the widest gap below; 0 for no third order; None for
        that of the structure type, and ``LARGEST_ANGSTROM`` where there is none
    third_shells : neighbour shells inside the third-order cutoff instead, or None
    fourth_cutoff_angstrom : None for no fourth order
    """

    third_cutoff_angstrom: float | None = LARGEST_ANGSTROM
    third_shells: int | None = None
    second_cutoff_angstrom: float | None = None
    fourth_cutoff_angstrom: float | None = None

    @classmethod
    def from_section(cls, force_constants: dict[str, Any]) -> "OrderSettings":
        """Settings from the section ``force_constants`` of the configuration."""
        return _from_section(cls, force_constants)

    def cutoffs(
        self, crystal: Crystal, repetitions: Sequence[int], structure_type_angstrom: float | None = None
    ) -> Any:
        """Cutoffs of one crystal, as ``build_basis`` takes them.

        Parameters
        ----------
        crystal : ``Crystal``
        repetitions : (3,) integers of the supercell
        structure_type_angstrom : third-order cutoff of the crystal's structure type, where it has one

        Returns
        -------
        values : list of one cutoff per order from the second on, angstrom; None for all pairs
        third : ``Cutoff`` of the third order, or None

        Raises
        ------
        StudyError
            If a cutoff lies on a neighbour shell, beyond half the supercell, or before the nearest neighbours.
        """
        values, third = [self.second_cutoff_angstrom], None
        if self.third_shells is not None:
            third = cutoff_of_shells(crystal, repetitions, self.third_shells)
        elif self.third_cutoff_angstrom != 0:
            if self.third_cutoff_angstrom is None and structure_type_angstrom is not None:
                third = cutoff_near(crystal, repetitions, structure_type_angstrom)
            else:
                third = choose_cutoff(crystal, repetitions, self.third_cutoff_angstrom or LARGEST_ANGSTROM)
        if third is not None:
            values.append(third.value_angstrom)
        if self.fourth_cutoff_angstrom is not None:
            if third is None:
                raise StudyError(
                    "a fourth order without a third",
                    fix="give --third-cutoff too (force_constants.third_cutoff_angstrom in a study)",
                )
            values.append(self.fourth_cutoff_angstrom)
        for value in values:
            if value is not None:
                check_cutoff(crystal, repetitions, value)
        return values, third


@dataclass
class FitSettings:
    """How force constants are fitted.

    Parameters
    ----------
    method : one of ``phonoscreen.force_constants.orders.METHODS`` for all orders, or a mapping from ``second``,
        ``third`` and ``fourth``
    in_sequence : fit each order to what the lower ones leave, instead of all together
    rotational_sum_rules : enforce the Born-Huang and Huang conditions after the fit
    """

    method: str | dict = "least_squares"
    in_sequence: bool = False
    rotational_sum_rules: bool = True

    @classmethod
    def from_section(cls, force_constants: dict[str, Any]) -> "FitSettings":
        """Settings from the section ``force_constants`` of the configuration."""
        return _from_section(cls, force_constants)


def _from_section(cls, section):
    return cls(**{item.name: section[item.name] for item in fields(cls) if item.name in section})
