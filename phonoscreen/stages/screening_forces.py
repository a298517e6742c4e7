"""Where the forces of a screening come from: a published model, an engine, or labelled supercells on disk."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import harmless_id
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.geometry import distance_fingerprint, same_crystal
from phonoscreen.force_constants.settings import OrderSettings
from phonoscreen.forcefield.elements import SYMBOLS
from phonoscreen.forcefield.models.model_json import networks_digest
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.formats.archives import without_ending
from phonoscreen.formats.compressed import plain_name
from phonoscreen.formats.fit_input import FitInput, read_fit_input
from phonoscreen.formats.force_sets import has_own_crystal, read_force_set
from phonoscreen.phonons.dipoles import check_charges
from phonoscreen.stages.labels import label_supercells
from phonoscreen.stages.one_crystal import Choices, determine
from phonoscreen.stages.screening import atoms_of, identity, phonons, transport_of
from phonoscreen.stages.transport import Task
from phonoscreen.structures.force_sets import atoms_of_crystal
from phonoscreen.structures.prototypes import classify
from phonoscreen.structures.store import structure_arrays

if TYPE_CHECKING:
    from ase import Atoms

    from phonoscreen.audit.shard import Outcome
    from phonoscreen.forcefield.committee import Committee
    from phonoscreen.formats.displacements import DisplacedSupercells
    from phonoscreen.reference.base import Engine
    from phonoscreen.stages.screening import Progress
    from phonoscreen.structures.candidate import Candidate


SAME_VOLUME = 0.01
"""Largest relative difference in volume of a structure and the crystal of its forces."""


class ModelForces:
    """Forces of a published model: relaxation, displaced supercells, and those of every member.

    Parameters
    ----------
    committee : ``phonoscreen.forcefield.committee.Committee``
    content : its ``model.json``
    """

    count = "n_network"
    """Column of the assignment that says how many supercells there are."""

    def __init__(self, committee: "Committee", content: dict) -> None:
        from phonoscreen.forcefield.engine import CommitteeEngine

        self.committee, self.content, self.digest = committee, content, networks_digest(content)
        self.name = f"{content['kind']} model of {len(committee.members)} members"
        self.engine = CommitteeEngine(committee, self.name)
        self.calibration = content.get("calibration", {})

    def samples(
        self, structure_id: str, atoms: "Atoms", assigned: Mapping[str, Any], displacements: NDArray
    ) -> tuple[dict, dict]:
        """Return the arguments of ``ForceConstantFitter.fit`` besides the crystal, and values for the row."""
        from phonoscreen.forcefield.committee import uncertainty  # engines run where PyTorch is not installed

        repetitions = numpy.array([int(n) for n in assigned["repetitions"].split()])
        data = Supercells(Crystal.from_ase(atoms), repetitions, displacements)
        begin = time.process_time()
        forces = self.committee.supercell_forces(data)
        unseen = sorted(set(atoms.numbers.tolist()) - set(self.content["elements"]))
        values = {
            "elements_not_trained": " ".join(SYMBOLS[number] for number in unseen),
            "force_rms_mev_per_angstrom": 1e3 * float(numpy.sqrt((forces.mean(axis=0) ** 2).mean())),
            "force_seconds": time.process_time() - begin,
        }
        if len(forces) > 1:
            values["epsilon_max_mev_per_angstrom"] = 1e3 * float(uncertainty(forces).max())
        samples = {
            "displacements": displacements, "forces": forces.mean(axis=0), "committee_forces": forces,
            "residual_forces": self.committee.residual_forces(data).mean(axis=0), "charges": None,
        }  # fmt: skip
        if len(forces) == 1:
            del samples["committee_forces"]
        return samples, values


class EngineForces:
    """Forces of an engine of reference forces, such as a universal potential (``phonoscreen.reference``)."""

    count = "n_reference"
    calibration: dict[str, float] = {}

    def __init__(self, engine: "Engine", digest: str = "") -> None:
        self.engine, self.name, self.digest = engine, engine.name, digest

    def samples(
        self, structure_id: str, atoms: "Atoms", assigned: Mapping[str, Any], displacements: NDArray
    ) -> tuple[dict, dict]:
        """As in ``ModelForces``."""
        repetitions = numpy.array([int(n) for n in assigned["repetitions"].split()])
        group = {**structure_arrays(atoms), "repetitions": repetitions, "displacements": displacements}
        begin = time.process_time()
        labels = label_supercells(self.engine, structure_id, group, range(len(displacements)))
        charges = None
        if "born_charges" in labels.arrays:
            charges = check_charges(Crystal.from_ase(atoms), labels.arrays["born_charges"], labels.arrays["dielectric"])
        samples = {"displacements": displacements, "forces": labels.arrays["forces"],
                   "residual_forces": labels.arrays["residual_forces"], "charges": charges}  # fmt: skip
        values = {"force_rms_mev_per_angstrom": 1e3 * labels.values["force_rms_ev_per_angstrom"],
                  "force_seconds": time.process_time() - begin}  # fmt: skip
        return samples, values


class LabelledScreening:
    """Structures with supercells and forces that exist already, as ``phonoscreen fit`` reads and fits them.

    Parameters
    ----------
    folder : for each structure a folder or a file of displaced supercells with forces, named by its id
    settings : as for ``phonoscreen.stages.screening.Screening``
    files : dict from structure id to the file that holds the structure
    """

    def __init__(self, folder: str | Path, settings: dict, files: Mapping[str, Path]) -> None:
        self.folder, self.settings, self.files = Path(folder), settings, files
        self.name, self.digest = f"forces in {folder}", ""
        self.calibration: dict[str, float] = {}
        if not self.folder.is_dir():
            raise StudyError(f"{folder} is no folder", where="--forces",
                             fix="give a folder that holds the supercells of each structure under its id")  # fmt: skip

    def place(self, structure_id: str) -> Path:
        """Return the folder or file of a structure's supercells.

        Raises
        ------
        StudyError
            If there is none, or more than one.
        """
        found = [path for path in sorted(self.folder.iterdir()) if structure_id in _ids_of(path)]
        if len(found) != 1:
            raise StudyError(
                f"{len(found)} folders or files named {structure_id} in {self.folder}", where=structure_id,
                fix="give the supercells of each structure one folder or file with its id as its name",
            )  # fmt: skip
        return found[0]

    def content(self, structure_id: str) -> str:
        """Return the sha256 of what is read, or "" where there is nothing."""
        try:
            return file_sha256(self.place(structure_id))
        except StudyError:
            return ""

    def solve(self, candidate: "Candidate", progress: "Progress") -> "Outcome":
        """As in ``phonoscreen.stages.screening.Screening``, without relaxation."""
        name = candidate.structure_id
        progress.values |= identity(atoms_of(candidate), self.settings["filter"]["symmetry_tolerance_angstrom"])
        if name not in self.files:
            raise StudyError("the structure shares its file with others, or comes from a formula", where=name,
                             fix="give it a file of its own, with --forces")  # fmt: skip
        data = self._supercells(name, atoms_of(candidate))
        found = determine(data, choices_of(self.settings["force_constants"], by_pairs=data.folder is not None))
        report = found.report
        progress.values |= {
            "relaxed": False, "repetitions": report["repetitions"], "warnings": "; ".join(found.warnings),
            "force_error_relative_held_out": report.get("force_error_relative_held_out", numpy.nan),
            "third_cutoff_angstrom": report.get("third_cutoff_angstrom", numpy.nan),
            "rotational_sum_rules": report.get("rotational_sum_rules", False),
        }  # fmt: skip
        progress.task = Task(found.crystal, found.second, found.third, (), found.charges)
        return phonons(progress, transport_of(self.settings))

    def _supercells(self, name: str, given: "Atoms") -> "DisplacedSupercells":
        """Return the supercells of a structure; those with a crystal of their own must be of the one that is given."""
        place = self.place(name)
        if not has_own_crystal(place):
            return read_fit_input(FitInput(str(self.files[name]), [str(place)]))
        with tempfile.TemporaryDirectory() as workspace:
            data = read_force_set(place, Path(workspace)).data
        tolerance = self.settings["filter"]["symmetry_tolerance_angstrom"]
        ours, theirs = (classify(atoms, tolerance).atoms for atoms in (given, atoms_of_crystal(data.crystal)))
        volumes = ours.cell.volume / len(ours), theirs.cell.volume / len(theirs)
        alike = same_crystal(distance_fingerprint(ours), distance_fingerprint(theirs))
        if not alike or abs(volumes[0] / volumes[1] - 1) > SAME_VOLUME:
            raise StudyError(
                f"the forces in {place} are of another crystal: {volumes[1]:.3f} and here {volumes[0]:.3f} cubic "
                "angstrom per atom", where=name, fix="give the crystal whose supercells were calculated",
            )  # fmt: skip
        return data


def choices_of(section: Mapping[str, Any], *, by_pairs: bool) -> Choices:
    """Return what ``phonoscreen fit`` is asked for by the section ``force_constants`` of the settings.

    Parameters
    ----------
    section : complete; its defaults are those of ``phonoscreen fit``
    by_pairs : whether pairs of atoms are displaced: a cutoff that is set then makes a fit of finite differences

    Raises
    ------
    StudyError
        If it asks for what a screening cannot give.
    """
    methods = set(section["method"].values())
    if len(methods) > 1:
        raise StudyError("forces that exist are fitted by one method", where="force_constants/method",
                         fix="give the same for all orders, or use phonoscreen fit", blame="settings")  # fmt: skip
    (method,) = methods
    return Choices(
        OrderSettings.from_section(dict(section)), by_pairs and section["third_cutoff_angstrom"] is not None,
        None if method == "least_squares" else method, section["in_sequence"],
        None if section["rotational_sum_rules"] else False,
    )  # fmt: skip


def _ids_of(path: Path) -> set[str]:
    """Return the ids that a folder or file of supercells may belong to: its name, and that without its endings."""
    names = {path.name, without_ending(path.name)}
    if path.is_file():
        names |= {plain_name(path), Path(plain_name(path)).stem}
    return names | {harmless_id(name.lower()) for name in names}
