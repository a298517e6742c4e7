"""Supercells with forces from any file that ASE reads: extended XYZ, vasprun.xml, OUTCAR, and others.

Forces stand where ASE puts them (the calculator's results) or in an array of another name, as files made for training
force models have it: ``force``, ``REF_forces``, ``dft_forces``, ``MACE_forces``.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.geometry import check_forces
from phonoscreen.formats.compressed import LARGEST_BYTES, first_text, plain_file
from phonoscreen.formats.foreign import foreign
from phonoscreen.formats.labelled import labelled
from phonoscreen.formats.outputs import inspect_output

NAME_OF_FORCES = re.compile(r"(?i)(^|[_\-.])forces?($|[_\-.])")
"""Names that mean forces: ``force``, ``forces``, and either with a word before or after it."""

NAME_OF_POSCAR = re.compile(r"(?i)poscar|contcar|\.vasp")

LOOKED_FOR = "the calculator's forces, or an array named force, forces, REF_forces, dft_forces, MACE_forces or alike"


@dataclass
class Frame:
    """One supercell with its forces.

    Parameters
    ----------
    atoms : ``ase.Atoms``
    forces : (n_atoms, 3), eV/angstrom, as calculated: constraints do not act on them
    where : file and number, for messages

    Raises
    ------
    StudyError
        See ``phonoscreen.crystal.geometry.check_forces``.
    """

    atoms: Atoms
    forces: NDArray
    where: str

    def __post_init__(self):
        check_forces(self.forces, self.where)


def read_frames(path: str | Path, forces_name: str | None = None) -> list[Frame]:
    """Read all supercells of a file.

    Parameters
    ----------
    path : the file, also compressed
    forces_name : name of the array of forces; by default found by ``forces_of``

    Returns
    -------
    list of Frame

    Raises
    ------
    StudyError
        If ASE cannot read the file, or a supercell has no forces, values that are not finite, or is of a calculation
        that did not come to its end or did not converge.
    """
    frames = read_atoms(path)
    several = len(frames) > 1
    with plain_file(path) as plain:
        report = inspect_output(plain)
    for number, atoms in enumerate(frames):
        where = f"supercell {number} of {path}" if several else str(path)
        forces, info = forces_of(atoms, where, forces_name), getattr(atoms.calc, "results", {}) or {}
        atoms.calc = SinglePointCalculator(atoms, forces=forces, energy=info.get("energy"))
    return [
        Frame(atoms, numpy.asarray(atoms.calc.results["forces"]), atoms.info["source"])
        for atoms in labelled(frames, str(path), report)
    ]


def read_atoms(path: str | Path) -> list[Atoms]:
    """Read all structures of a file as ``ase.Atoms``; the kind is recognised by content, then by name.

    Raises
    ------
    StudyError
        If ASE cannot read it.
    """
    from ase.io import read

    path = Path(path)
    kind = recognise_structure(path)
    fix = (
        "give a whole file of a kind ASE knows, named so that it is recognised: POSCAR, vasprun*.xml, OUTCAR*, *.extxyz"
    )
    with plain_file(path) as plain:
        if plain.stat().st_size > LARGEST_BYTES:
            raise StudyError(f"{path} holds more than {LARGEST_BYTES / 2**20:.0f} MiB", fix="split it")
        if kind == "extxyz":
            check_extxyz(plain, path)
        elif kind == "vasp-out" or kind == "vasp" or NAME_OF_POSCAR.search(path.name):
            check_counts(plain, path)
        with foreign(f"{path} cannot be read", fix):
            # a name that holds "@" would be taken for a selection of frames
            frames = read(str(plain), index=":", format=kind, do_not_split_by_at_sign=True)
            frames = frames if isinstance(frames, list) else [frames]
    if not frames:
        raise StudyError(f"{path} holds no structure", fix=fix)
    for atoms in frames:
        if not (numpy.isfinite(atoms.positions).all() and numpy.isfinite(atoms.cell.array).all()):
            raise StudyError(f"{path} holds positions or a cell that are not finite numbers", fix="write it again")
        if atoms.cell.any() and not atoms.pbc.all():
            raise StudyError(f"{path} holds a cell that repeats in {int(atoms.pbc.sum())} directions of three (pbc)",
                             fix='give a supercell: pbc="T T T"')  # fmt: skip
        if numpy.abs(atoms.positions).max(initial=0) > 1e6 or numpy.abs(atoms.cell.array).max() > 1e5:
            raise StudyError(f"{path} holds positions or a cell beyond any crystal's", fix="write it again")
    return frames


def recognise_structure(path: str | Path) -> str | None:
    """ASE's name of the kind of a file by its content; None leaves it to ASE and the file's name.

    Parameters
    ----------
    path : the file
    """
    head = first_text(path)
    lines = head.splitlines()
    if "<modeling>" in head:
        return "vasp-xml"
    if re.match(r"\s*vasp\.\d", head) or re.search(r"(?m)^ (POTCAR:|INCAR:)", head):
        return "vasp-out"
    if len(lines) > 1 and lines[0].strip().isdigit() and "=" in lines[1]:
        return "extxyz"
    if _is_poscar(lines):
        return "vasp"
    return None


def forces_of(atoms: Atoms, where: str, name: str | None = None) -> NDArray:
    """Forces of a supercell, as calculated.

    Parameters
    ----------
    atoms : ``ase.Atoms``
    where : its file and number, for messages
    name : name of the array; by default the only one that holds forces

    Raises
    ------
    StudyError
        If there are none, several that differ, or values that are not finite; names what was looked for and found.
    """
    results = getattr(atoms.calc, "results", {}) or {}
    found = {"forces": results["forces"]} if "forces" in results else {}
    shape = (len(atoms), 3)
    arrays = {key: own for key, own in atoms.arrays.items() if key not in ("positions", "numbers")}
    if name is not None and name not in found:
        found = {name: arrays[name]} if name in arrays else {}
    elif name is None:
        found |= {key: own for key, own in arrays.items() if NAME_OF_FORCES.search(key) and numpy.shape(own) == shape}
    else:
        found = {name: found[name]}
    if not found:
        looked = f"an array named {name}" if name is not None else LOOKED_FOR
        there = ", ".join(sorted({*arrays, *results})) or "positions only"
        raise StudyError(
            f"{where} has no forces: looked for {looked}; found {there}",
            fix="write extended XYZ with forces, or name the array with --forces-name",
        )
    values = [numpy.asarray(own) for own in found.values()]
    for own in values:
        if own.shape != shape or own.dtype.kind not in "fiu":
            raise StudyError(
                f"{where}: the forces have the shape {own.shape} for {len(atoms)} atoms", fix="write it again"
            )
    if any(not numpy.array_equal(values[0], own, equal_nan=True) for own in values[1:]):
        raise StudyError(
            f"{where} holds different forces under {', '.join(found)}", fix="choose one with --forces-name"
        )
    forces = values[0].astype(float)
    return forces


def _is_poscar(lines: list[str]) -> bool:
    """Whether lines are those of a POSCAR: scale, three vectors, then species or counts."""
    if len(lines) < 7:
        return False
    try:
        scale = [float(word) for word in lines[1].split()[:3]]
        vectors = [[float(word) for word in line.split()[:3]] for line in lines[2:5]]
    except ValueError:
        return False
    counts = [line.split() for line in lines[5:7]]
    whole = any(words and all(word.isdigit() for word in words) for words in counts)
    return bool(scale) and all(len(vector) == 3 for vector in vectors) and whole


def check_counts(plain: Path, name: str | Path) -> None:
    """Refuse numbers of atoms of POSCAR and OUTCAR that the file cannot hold, before anything is allocated for them.

    Parameters
    ----------
    plain : the file, not compressed
    name : its name, for messages

    Raises
    ------
    StudyError
        If it announces more atoms than it has lines.
    """
    lines = plain.read_text(errors="replace").splitlines()
    told = [re.findall(r"(?<![\d.eE+-])\d+(?![\d.eE])", line.split("!")[0]) for line in lines[5:7]]
    told += [[found[1]] for found in (re.search(r"NIONS\s*=\s*(\d+)", line) for line in lines[:20000]) if found]
    for counts in told:
        if sum(int(count[:12]) for count in counts) > len(lines):
            raise StudyError(f"{name} announces {' + '.join(counts)[:80]} atoms and has {len(lines)} lines",
                             fix="the file is cut or damaged; write it again")  # fmt: skip


def check_extxyz(plain: Path, name: str | Path) -> None:
    """Refuse numbers of atoms and columns that the file cannot hold, before anything is allocated for them.

    Parameters
    ----------
    plain : the file, not compressed
    name : its name, for messages

    Raises
    ------
    StudyError
        If a frame announces more atoms than lines, or more columns than a line holds.
    """
    lines, at = plain.read_text(errors="replace").splitlines(), 0
    fix = "the file is cut or damaged; write it again"
    while at < len(lines) and lines[at].strip():
        word = lines[at].strip()
        if not word.isdigit() or len(word) > 9 or at + 2 + int(word) > len(lines):
            raise StudyError(f"{name}, line {at + 1}: {word[:40]!r} atoms, {len(lines) - at - 2} lines left", fix=fix)
        for columns in re.findall(r":[A-Za-z]:([^\s:]*)", lines[at + 1]):
            if not columns.rstrip('"').isdigit() or int(columns.rstrip('"')) > 1000:
                raise StudyError(f"{name}, line {at + 2}: a property of {columns[:40]!r} columns", fix=fix)
        at += 2 + int(word)
