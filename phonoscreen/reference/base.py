"""Where true forces come from: a DFT code, a universal potential or outputs that already exist, behind one interface.

An engine has

* ``kind``, the value of ``reference.engine``;
* ``name``, what every product says its reference is (a universal potential is never called DFT);
* ``forces(atoms, label)``, energy in eV and forces (n_atoms, 3) in eV/angstrom of a displaced supercell;
* ``evaluate(atoms, label)``, the same and the stress (3, 3) in eV/angstrom^3, for relaxation;
* ``relaxes``, False where structures are taken as they are because only existing outputs are read;
* perhaps ``calculates``, False where forces are looked up, so that no supercell beyond the study's own has any.

``label`` is ``"<structure id>/<index of the supercell>"``, ``"<structure id>/perfect"`` for the undisplaced supercell
or ``"<structure id>/relax-<step>"``: DFT codes run in a folder of that name, collected outputs are found by it.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.crystal.geometry import check_geometry

if TYPE_CHECKING:
    from ase import Atoms


class Engine(Protocol):
    """The interface, for annotations."""

    kind: str
    name: str
    relaxes: bool

    def forces(self, atoms: Atoms, label: str) -> tuple[float, NDArray]:
        """Return energy (eV) and forces (n_atoms, 3) in eV/angstrom."""

    def evaluate(self, atoms: Atoms, label: str) -> tuple[float, NDArray, NDArray]:
        """Return energy (eV), forces (eV/angstrom) and stress (3, 3) in eV/angstrom^3, positive under tension."""


def missing_package(package: str, error: ImportError) -> MachineError:
    """Return the error of an engine whose package cannot be imported."""
    return MachineError(
        f"the package {package} cannot be imported: {error}", where="config reference.engine",
        fix="run with --sdm conda, or install the environment of this engine (envs/)",
    )  # fmt: skip


def check_results(energy_ev: float, forces: ArrayLike, n_atoms: int, where: str | None) -> tuple[float, NDArray]:
    """Refuse energies and forces that are not finite or do not fit the atoms."""
    forces = numpy.asarray(forces, dtype=float)
    if forces.shape != (n_atoms, 3):
        raise StudyError(f"forces of shape {forces.shape} for {n_atoms} atoms", where=where)
    if not (numpy.isfinite(energy_ev) and numpy.isfinite(forces).all()):
        raise StudyError("energy or forces are not finite", where=where, fix="inspect this calculation")
    return float(energy_ev), forces


class CalculatorEngine:
    """An engine around an ASE calculator.

    Parameters
    ----------
    kind : value of ``reference.engine``
    name : what products call the reference
    calculator : ase calculator with energy, forces and stress
    elements : atomic numbers it knows, None for all
    """

    relaxes = True

    def __init__(self, kind: str, name: str, calculator: Any, elements: Collection[int] | None = None):
        self.kind, self.name, self.elements = kind, name, elements
        self._calculator = calculator

    def calculator(self) -> Any:
        """Return the ASE calculator."""
        return self._calculator

    def _prepare(self, atoms, label):
        check_geometry(atoms, label)
        unknown = sorted(set(atoms.symbols[[z not in self.elements for z in atoms.numbers]])) if self.elements else []
        if unknown:
            raise StudyError(
                f"{self.name} does not know {', '.join(unknown)}", where=label,
                fix="give filter.elements as a list without them, or use another reference.engine", blame="settings",
            )  # fmt: skip
        # A plain copy: constraints or spin guesses of the caller must not reach the calculator.
        copy = type(atoms)(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        copy.calc = self._calculator
        return copy

    def forces(self, atoms: Atoms, label: str | None = None) -> tuple[float, NDArray]:
        """Return energy (eV) and forces (n_atoms, 3) in eV/angstrom."""
        copy = self._prepare(atoms, label)
        with self._named(label):
            forces, energy_ev = copy.get_forces(), copy.get_potential_energy()
        return check_results(energy_ev, forces, len(atoms), label)

    def evaluate(self, atoms: Atoms, label: str | None = None) -> tuple[float, NDArray, NDArray]:
        """Return energy (eV), forces (eV/angstrom) and stress (3, 3) in eV/angstrom^3, positive under tension."""
        copy = self._prepare(atoms, label)
        with self._named(label):
            forces, energy_ev, stress = copy.get_forces(), copy.get_potential_energy(), copy.get_stress(voigt=False)
        return *check_results(energy_ev, forces, len(atoms), label), stress

    @contextmanager
    def _named(self, label):
        """Name the calculator where it lacks an element or a property; what else it raises is its own."""
        try:
            yield
        except (NotImplementedError, KeyError) as error:
            raise StudyError(f"{self.name}: {type(error).__name__}: {error}", where=label, blame="settings",
                             fix="leave the structure out, or use another source of forces that knows its elements "
                             "and gives energy, forces and stress") from error  # fmt: skip
