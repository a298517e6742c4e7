"""One crystal from its structure to its conductivity, stage after stage as in a study, without its files."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy
from ase.data import chemical_symbols
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shard import Outcome
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry import space_group
from phonoscreen.force_constants.fit import FitterPool
from phonoscreen.force_constants.settings import FitSettings, OrderSettings, SupercellSettings
from phonoscreen.phonons.stability import check_stability
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.stages.refit import task_of
from phonoscreen.stages.transport import Task, solve_structure
from phonoscreen.structures.prototypes import classify
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.supercells import random_displacements
from phonoscreen.structures.third_order_reach import ThirdOrderReach

if TYPE_CHECKING:
    import h5py
    from ase import Atoms

    from phonoscreen.structures.candidate import Candidate
    from phonoscreen.structures.relaxation import RelaxingEngine

ASSIGNED = ("repetitions", "n_supercell_atoms", "third_cutoff_angstrom")
FITTED = ("force_error_relative_held_out", "rotational_sum_rules", "warnings")
STABLE = ("verdict", "frequency_min_thz", "frequency_min_std_thz", "frequency_max_thz", "frequency_std_thz")


@dataclass
class Progress:
    """What is known of a structure so far; it outlives an error in a later stage.

    Parameters
    ----------
    values : scalars for its row
    arrays : band structure, and conductivities of several temperatures, by name
    task : crystal and force constants, or None before the fit
    """

    values: dict = field(default_factory=dict)
    arrays: dict = field(default_factory=dict)
    task: Task | None = None


class Forces(Protocol):
    """What a screening asks of its source of forces (``phonoscreen.stages.screening_forces``)."""

    count: str
    """Column of the assignment that says how many supercells there are."""

    @property
    def engine(self) -> "RelaxingEngine":
        """What relaxes the structures."""

    def samples(
        self, structure_id: str, atoms: "Atoms", assigned: Mapping[str, Any], displacements: NDArray
    ) -> tuple[dict, dict]:
        """Return the arguments of ``ForceConstantFitter.fit`` besides the crystal, and values for the row."""


class Screening:
    """The stages of a study for one structure at a time, from forces of a model or of an engine.

    Parameters
    ----------
    forces : ``ModelForces`` or ``EngineForces`` of ``phonoscreen.stages.screening_forces``
    settings : sections ``seed, filter, relax, supercell, force_constants, stability, transport`` of the settings
    bases : open ``h5py.File`` that collects the symmetry bases, which structures of one prototype share
    structure_types : mapping of ``resources/prototypes.yaml``
    """

    def __init__(self, forces: Forces, settings: dict, bases: "h5py.File", structure_types: Mapping[str, Any]) -> None:
        self.forces, self.settings = forces, settings
        supercell = SupercellSettings.from_section(settings["supercell"])
        orders = OrderSettings.from_section(settings["force_constants"])
        self._assigner = BasisAssigner(bases, supercell, orders, ThirdOrderReach(structure_types))
        self._fitters = FitterPool(bases, FitSettings.from_section(settings["force_constants"]))

    def content(self, structure_id: str) -> str:
        """Return a digest of what is read for a structure besides itself: nothing."""
        return ""

    def solve(self, candidate: "Candidate", progress: Progress) -> Outcome:
        """Take one structure through all stages.

        Parameters
        ----------
        candidate : ``phonoscreen.structures.candidate.Candidate`` with atoms
        progress : ``Progress``, filled on the way

        Returns
        -------
        Outcome of the last stage that the structure reached

        Raises
        ------
        StudyError
            If a stage refuses the structure.
        """
        name, tolerance = candidate.structure_id, self.settings["filter"]["symmetry_tolerance_angstrom"]
        given = atoms_of(candidate)
        progress.values |= identity(given, tolerance)
        begin = time.process_time()
        relaxed = relax_structure(
            given, self.forces.engine, name, self.settings["relax"], tolerance
        )  # fmt: skip
        progress.values |= {
            "relaxed": bool(self.forces.engine.relaxes), "relaxation_steps": relaxed.values["steps"],
            "relaxation_seconds": time.process_time() - begin,
            "lattice_constant_angstrom": relaxed.values["lattice_constant_angstrom"],
        }  # fmt: skip
        if relaxed.status != "ok":
            return Outcome(status=relaxed.status, reason=relaxed.reason)
        atoms = read_atoms(relaxed.arrays)
        crystal = Crystal.from_ase(atoms)
        assigned = self._assigner.assign(crystal)
        progress.values |= {key: assigned[key] for key in ASSIGNED}
        displacements = self._displacements(progress.values, assigned)
        samples, values = self.forces.samples(name, atoms, assigned, displacements)
        progress.values |= {**values, "n_supercells": len(samples["displacements"])}
        fitter = self._fitters.fitter(assigned["basis_key"])
        fitted = fitter.fit(crystal, **samples)
        progress.values |= {key: fitted.quality[key] for key in FITTED}
        transport = transport_of(self.settings)
        progress.task = task_of(crystal, fitter.basis, fitted, samples["charges"], transport)
        return phonons(progress, transport)

    def _displacements(self, known, assigned):
        """Displacements drawn for a compound, not for an id: one crystal gives the same numbers under any name.

        Structures stand in the standard primitive cell here, so that neither the cell nor the orientation of a file
        changes them.
        """
        rng = numpy.random.default_rng(
            derive_seed(self.settings["seed"], known["formula"], known["class"], "displacements")
        )
        length = self.settings["supercell"]["displacement_angstrom"]
        return random_displacements(int(assigned[self.forces.count]), assigned["n_supercell_atoms"], length, rng)


def atoms_of(candidate: "Candidate") -> "Atoms":
    """Return the atoms of a candidate; StudyError with its problem where there are none."""
    if candidate.atoms is None:
        raise StudyError(candidate.problem or "no geometry", where=candidate.structure_id)
    return candidate.atoms


def transport_of(settings: dict) -> dict:
    """Return the section ``transport`` with the limit of imaginary frequencies, that of the stability check."""
    return {
        **settings["transport"], "imaginary_threshold_thz": settings["stability"]["imaginary_threshold_thz"],
    }  # fmt: skip


def identity(atoms: "Atoms", tolerance_angstrom: float) -> dict:
    """Return formula, space group and class of a structure as it was given."""
    found = classify(atoms, tolerance_angstrom)
    return {
        "formula": found.formula,
        "space_group": space_group(Crystal.from_ase(found.atoms), tolerance_angstrom).symbol,
        "space_group_number": found.space_group_number,
        "class": found.prototype,
        "n_atoms": len(found.atoms),
    }


def phonons(progress: Progress, transport: dict) -> Outcome:
    """Judge the stability of a task and solve it where it is stable.

    Parameters
    ----------
    progress : ``Progress`` with its task
    transport : section of the settings, see ``transport_of``

    Returns
    -------
    Outcome
    """
    task = progress.task
    if task is None:
        raise ValueError("the force constants are not known yet")
    n_members = len(task.committee)
    charges = task.charges if transport["non_analytic_correction"] else None
    verdict = check_stability(
        task.crystal, task.second, transport["imaginary_threshold_thz"], [second for second, _ in task.committee],
        charges,
    )  # fmt: skip
    progress.values |= {key: verdict.values[key] for key in STABLE if key in verdict.values}
    progress.values |= {"members": n_members, "volume_angstrom3": float(task.crystal.volume)}
    if n_members:
        progress.values["members_stable"] = n_members - verdict.values["members_unstable"]
    progress.arrays |= {name: array for name, array in verdict.arrays.items() if name.startswith("band/")}
    if verdict.status != "ok":
        return Outcome(status=verdict.status, reason=verdict.reason)
    if task.third is None:
        return Outcome(
            status="failed", reason="the forces hold no third order: no conductivity\n"
            "  fix:   give supercells in which pairs or all atoms are displaced",
        )  # fmt: skip
    solved = solve_structure(task, transport)
    solved.values["p3_total_ps"] = solved.values.pop("p3_total", numpy.nan)
    own = {"seconds", "members_unstable", "members_failed"}
    progress.values |= {key: value for key, value in solved.values.items() if key not in own}
    progress.arrays |= {name: array for name, array in solved.arrays.items() if name.startswith("curve/")}
    if "msd_angstrom2" in solved.arrays:
        progress.values["msd_by_element_angstrom2"] = _by_element(task.crystal.numbers, solved.arrays["msd_angstrom2"])
    return Outcome(status=solved.status, reason=solved.reason)


def _by_element(numbers, values):
    """Return the mean of values of atoms for each element, as text."""
    return " ".join(f"{chemical_symbols[z]} {values[numbers == z].mean():.4g}" for z in dict.fromkeys(numbers.tolist()))
