"""The calculations of one crystal in a folder: outputs of any program, each one checked.

Every supercell that is found gets a verdict of its own: converged and complete, of this composition and supercell,
displaced by what a crystal bears, not there already. One that fails is named and left out; the others serve.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.matching import SupercellSites
from phonoscreen.crystal.primitive import repeated_primitive
from phonoscreen.crystal.symmetry import TOLERANCE_ANGSTROM
from phonoscreen.formats.compressed import find
from phonoscreen.formats.displacements import DisplacedSupercells, read_born, read_frames_of
from phonoscreen.formats.fit_input import STRUCTURES
from phonoscreen.formats.frames import Frame, read_frames
from phonoscreen.formats.labelled import check_one_setting, read_labelled
from phonoscreen.formats.outputs import inspect_output
from phonoscreen.formats.structure_files import read_crystal

if TYPE_CHECKING:
    from ase import Atoms

AT_REST_EV_PER_ANGSTROM = 0.005
"""A supercell whose forces are all below is taken for the undisplaced one where no file says what the crystal is."""

SAME_ANGSTROM, SAME_EV_PER_ANGSTROM = 1e-4, 1e-3
"""Two calculations of the same displacements agree within the second."""

_COMPRESSED = (".gz", ".xz", ".bz2")
_TEXT = (".out", ".pwo", ".castep", ".abo", ".txt")
_BINARY = (".gpw", ".traj")


@dataclass
class Calculation:
    """One supercell of a force set.

    Parameters
    ----------
    where : its file, and the number in it
    status : ok, failed or skipped
    reason : why it cannot serve, or is left out
    displacement_max_angstrom : largest displacement, NaN where unknown
    """

    where: str
    status: str
    reason: str
    displacement_max_angstrom: float = float("nan")


def output_files(folder: str | Path) -> list[Path]:
    """Files of a folder and its subfolders that hold forces.

    Of a run of VASP its vasprun.xml is taken rather than its OUTCAR, of one of GPAW its .gpw rather than its text.

    Parameters
    ----------
    folder : path; of a single file, the file if it holds forces

    Returns
    -------
    sorted list of paths
    """
    found, folder = [], Path(folder)
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        name = path.name.removesuffix(path.suffix) if path.suffix in _COMPRESSED else path.name
        relative = path.relative_to(folder) if folder.is_dir() else Path(path.name)
        hidden = any(part.startswith(".") or part.endswith("~") for part in relative.parts)
        if hidden or not path.is_file():
            continue
        if name.endswith(".extxyz") or name.startswith("vasprun") and ".xml" in name:
            found.append(path)
        elif name.startswith("OUTCAR"):
            if not list(path.parent.glob("vasprun*.xml*")):
                found.append(path)
        elif path.suffix == ".txt" and path.with_suffix(".gpw").exists():
            continue  # of a run of GPAW its restart file, which has all digits
        elif name.endswith(_TEXT + _BINARY) and inspect_output(path).program:
            found.append(path)
    return found


def read_output_folder(
    path: Path, allowed: tuple[str, ...] = ()
) -> tuple[DisplacedSupercells, list[Calculation], str, dict[str, str]]:
    """Read all calculations of one crystal.

    Parameters
    ----------
    path : folder, perhaps with the crystal (POSCAR-unitcell and alike) and phonopy's BORN in it; or a file
    allowed : names of settings that may differ among the calculations

    Returns
    -------
    data : of the calculations with the status ok
    calculations : all
    program : that made them
    settings : that they state, by name

    Raises
    ------
    StudyError
        If the crystal is not known, settings differ, two calculations contradict each other, or none is left.
    """
    frames, verdicts, programs = _frames(path)
    crystal = _crystal(path, [frames[n] for n in _usable(verdicts, path)])
    _of_one_supercell(crystal, frames, verdicts)
    kept = _usable(verdicts, path)
    good = [frames[n].atoms for n in kept]
    for atoms in good:
        stated = atoms.info.get("settings", {})
        atoms.info["settings"] = {name: value for name, value in stated.items() if name not in allowed}
    check_one_setting(good)
    data = read_frames_of(crystal, [frames[n] for n in kept])
    born = find(path, "BORN") if path.is_dir() else None
    if born is not None:
        data.born, data.dielectric = read_born(born, data.crystal, crystal, TOLERANCE_ANGSTROM)
    settings = {name: str(value) for atoms in good for name, value in atoms.info.get("settings", {}).items()}
    return data, verdicts, " + ".join(sorted(programs)), settings


def _usable(verdicts, path):
    """Return which calculations can be used; refuse where none can, with the reasons of the first."""
    kept = [n for n, one in enumerate(verdicts) if one.status == "ok"]
    if not kept:
        reasons = "; ".join(f"{one.where}: {one.reason}" for one in verdicts[:3])
        raise StudyError(f"none of {len(verdicts)} calculations can be used: {reasons}", where=str(path),
                         fix="repeat these calculations")  # fmt: skip
    return kept


def _frames(path):
    """Return frames (None where there is none), their verdicts and the programs."""
    frames: list[Frame | None] = []
    verdicts, programs = [], set()
    base = path if path.is_dir() else path.parent
    for file in output_files(path):
        name = file.relative_to(base).as_posix()
        try:
            report = inspect_output(file)
            read = read_labelled(file, refuse=False) if report.program else [one.atoms for one in read_frames(file)]
        except StudyError as error:
            frames.append(None)
            verdicts.append(Calculation(name, "failed", error.what))
            continue
        programs.add(report.program or "extended XYZ")
        for number, atoms in enumerate(read):
            where = name if len(read) == 1 else f"{name}, step {number + 1}"
            frames.append(Frame(atoms, atoms.get_forces(apply_constraint=False), where))
            problem = atoms.info.get("problem")
            verdicts.append(Calculation(where, "failed", problem[0]) if problem else Calculation(where, "ok", ""))
    return frames, verdicts, programs


def _crystal(path, frames):
    """Return the crystal that was repeated: from its file, else the undisplaced supercell among the calculations."""
    named = find(path, *STRUCTURES) if path.is_dir() else None
    if named is not None:
        return Crystal.from_ase(read_crystal(named))
    at_rest = [one for one in frames if numpy.abs(one.forces).max() < AT_REST_EV_PER_ANGSTROM]
    if not at_rest:
        raise StudyError(
            f"it is not known which crystal was repeated: no {STRUCTURES[0]}, and none of {len(frames)} calculations "
            f"has forces below {AT_REST_EV_PER_ANGSTROM} eV/angstrom on all atoms", where=str(path),
            fix=f"put the crystal there as {STRUCTURES[0]}, or the calculation of the undisplaced supercell",
        )  # fmt: skip
    return Crystal.from_ase(_plain(at_rest[0].atoms))


def _plain(atoms: Atoms) -> Atoms:
    return type(atoms)(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _of_one_supercell(crystal, frames, verdicts):
    """Judge every calculation as a supercell of this crystal, that which most of them share, and find repeated ones."""
    usable = [n for n, one in enumerate(verdicts) if one.status == "ok"]
    sizes = Counter((len(frames[n].atoms), round(frames[n].atoms.cell.volume, 1)) for n in usable)
    if not sizes:
        return
    common = max(sizes, key=lambda size: (sizes[size], size))
    first = next(n for n in usable if (len(frames[n].atoms), round(frames[n].atoms.cell.volume, 1)) == common)
    crystal, repetitions = repeated_primitive(crystal, frames[first].atoms.cell.array, TOLERANCE_ANGSTROM)
    sites = SupercellSites(crystal, repetitions)
    seen: list[tuple] = []
    for n in usable:
        atoms, verdict = frames[n].atoms, verdicts[n]
        try:
            order, moves = sites.displacements(atoms.cell.array, atoms.positions, atoms.numbers, verdict.where)
        except StudyError as error:
            verdict.status, verdict.reason = "failed", error.what
            continue
        verdict.displacement_max_angstrom = float(numpy.linalg.norm(moves, axis=1).max())
        forces = frames[n].forces[order]
        for other, other_moves, other_forces in seen:
            if numpy.abs(moves - other_moves).max() > SAME_ANGSTROM:
                continue
            if (change := numpy.abs(forces - other_forces).max()) > SAME_EV_PER_ANGSTROM:
                raise StudyError(
                    f"two calculations of one supercell differ by {change:.4f} eV/angstrom: {other} and "
                    f"{verdict.where}", fix="remove the wrong one",
                )  # fmt: skip
            verdict.status, verdict.reason = "skipped", f"the same supercell as {other}"
            break
        else:
            seen.append((verdict.where, moves, forces))
