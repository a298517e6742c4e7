"""Frames with forces from any file that ASE reads: raw forces of finished, converged calculations, or a refusal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.geometry import check_forces
from phonoscreen.formats.outputs import inspect_output

if TYPE_CHECKING:
    from pathlib import Path

    from phonoscreen.formats.outputs import OutputReport

CONVERGED_KEYS = ("converged", "scf_converged", "electronic_converged", "is_converged", "scf_convergence")
"""Entries of an extended XYZ comment by which programs say whether their electrons converged."""


def read_labelled(path: str | Path, refuse: bool = True) -> list[Atoms]:
    """Read every frame of a file with its forces.

    Parameters
    ----------
    path : any file ASE reads, also compressed
    refuse : raise for the first frame that cannot serve; else its reason stands in ``info["problem"]``

    Returns
    -------
    list of ``ase.Atoms`` as from ``labelled``; ``info["settings"]`` holds the numerical settings the file states

    Raises
    ------
    StudyError
        If the file cannot be read, holds no forces, or (``refuse``) is incomplete or not converged.
    """
    from ase.io import read

    report = inspect_output(path)
    try:
        frames = read(path, index=":", format=report.format)
    except Exception as error:  # readers of foreign files raise anything
        found = f", a file of {report.program} that is incomplete" if report.incomplete else ""
        raise StudyError(
            f"forces cannot be read{found}: {error or type(error).__name__}", where=str(path), fix="repeat or remove it"
        ) from error
    if not frames:
        raise StudyError("no atoms with forces", where=str(path), fix="repeat or remove it")
    return labelled(frames, str(path), report, refuse)


def labelled(
    frames: Atoms | list[Atoms] | tuple[Atoms, ...],
    source: str,
    report: OutputReport | None = None,
    refuse: bool = True,
) -> list[Atoms]:
    """Plain atoms with the forces that stand in a file, whatever was held fixed.

    A constraint lets ``ase.Atoms.get_forces`` answer zero where the file holds a force, and a program that applies it
    itself writes zero: the first is undone, the second refused.

    Parameters
    ----------
    frames : list of ``ase.Atoms`` as read from a file
    source : name of the file, for messages
    report : ``OutputReport`` of the file, or None
    refuse : as in ``read_labelled``

    Returns
    -------
    list of ``ase.Atoms`` without constraints; their calculator holds the raw forces and the energy if known,
    ``info["source"]`` says where each is from, ``info["problem"]`` is None or what is wrong with it

    Raises
    ------
    StudyError
        If a frame lacks forces, or (``refuse``) has a problem.
    """
    frames = frames if isinstance(frames, (list, tuple)) else [frames]
    plain = []
    for number, atoms in enumerate(frames):
        where = source if len(frames) == 1 else f"{source}, frame {number}"
        results = atoms.calc.results if atoms.calc is not None else {}
        if "forces" not in results:
            raise StudyError("no forces", where=where, fix="give a file with the forces on all atoms")
        forces = numpy.array(results["forces"], float)
        if forces.shape != (len(atoms), 3):
            raise StudyError("forces are not three numbers for every atom", where=where, fix="repeat or remove it")
        check_forces(forces, where)
        problem = _problem(atoms, forces, number, len(frames), report)
        if problem and refuse:
            raise StudyError(problem[0], where=where, fix=problem[1])
        own = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        energy = {"energy": float(results["energy"])} if results.get("energy") is not None else {}
        own.calc = SinglePointCalculator(own, forces=forces, **energy)
        own.info = {"source": where, "problem": problem, "settings": report.settings if report else {}}
        plain.append(own)
    return plain


def _problem(atoms, forces, number, n_frames, report):
    """What is wrong with one frame and the remedy, or None."""
    reason = report.problem_of(number, n_frames) if report else None
    if reason:
        return reason
    for key in CONVERGED_KEYS:
        if key in atoms.info and _says_no(atoms.info[key]):
            return (f"its electrons did not converge: the file says {key} = {atoms.info[key]}",
                    "converge this calculation, or remove it")  # fmt: skip
    held = _forces_removed(atoms, forces)
    if len(held):
        return (
            f"the forces on {len(held)} atoms that were held fixed are missing (zero in the file; atoms "
            f"{held[:8].tolist()}{' …' if len(held) > 8 else ''})",
            "calculate it without constraints (no selective dynamics, no move_mask)",
        )
    return None


def _says_no(value):
    if isinstance(value, str):
        return value.strip().lower() in ("f", "false", "no", "0")
    return not numpy.all(value)


def _forces_removed(atoms, forces):
    """Atoms whose forces a constraint has removed: it acts on any forces, but finds nothing to do on those here."""
    if not atoms.constraints:
        return numpy.array([], int)
    trial = numpy.random.default_rng(0).normal(size=forces.shape)
    acted = numpy.abs(_constrained(atoms, trial) - trial) > 1e-12
    left = numpy.abs(_constrained(atoms, forces) - forces)
    size = numpy.abs(forces).max()
    # Where no free atom feels a force either, zero may be the truth: an undisplaced crystal.
    if size < 1e-6 and not acted.all():
        return numpy.array([], int)
    of_atom = acted.any(axis=1)
    return numpy.flatnonzero(of_atom & (numpy.where(acted, left, 0).max(axis=1) <= 1e-9 * max(size, 1.0)))


def _constrained(atoms, forces):
    forces = forces.copy()
    for constraint in atoms.constraints:
        constraint.adjust_forces(atoms, forces)
    return forces


def check_one_setting(frames: Iterable[Atoms]) -> None:
    """Refuse frames of one crystal that were calculated with different settings.

    Parameters
    ----------
    frames : list of ``ase.Atoms`` from ``read_labelled``

    Raises
    ------
    StudyError
        Naming the setting, its two values and two files.
    """
    seen: dict[str, tuple] = {}
    for atoms in frames:
        for name, value in atoms.info.get("settings", {}).items():
            before, source = seen.setdefault(name, (value, atoms.info["source"]))
            if value != before:
                raise StudyError(
                    f"the calculations of one crystal differ in {name}: {before} in {source}, {value} in "
                    f"{atoms.info['source']}",
                    fix="calculate all its supercells with the same settings",
                )
