"""Finished calculations of DFT codes, kept by what they calculate, so that none is ever repeated.

A calculation is found by the settings that decide its numbers and by its crystal, within 1e-6 angstrom: neither an edit
of the code, nor another division of the work among jobs, nor a rounding error of the last digit makes it again. Each
job appends to one file of its own, a line per calculation with a digest of itself. A job that is killed leaves at most
a line cut short, which is not read. Of the half a million lines of a large study a job holds only those that it asks
for: the second word of a line is the group of the calculation, its settings and elements.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from ase import Atoms

POTENTIALS = "potcar_sha256"
"""Of the settings: digest of the potentials, None where they are not known. It is compared where both know it."""

SAME_ANGSTROM = 1e-6
"""Two crystals that differ by less are one calculation; forces then agree within about 1e-5 eV/angstrom."""

DIGITS = 12
"""Significant digits of a number in the file."""


@dataclass(frozen=True)
class Calculation:
    """A calculation that was tried.

    Parameters
    ----------
    label : ``"<structure id>/<which>"``, what it was calculated for
    settings : what decides its numbers: engine, functional, cutoff, k points, potentials
    numbers, cell, positions : of the crystal; (n_atoms,), (3, 3) and (n_atoms, 3) in angstrom
    results : ``energy_ev``, ``forces`` (n_atoms, 3) in eV/angstrom, ``stress`` (3, 3) in eV/angstrom^3, where the code
        gives them ``born_charges`` (n_atoms, 3, 3) and ``dielectric`` (3, 3); empty where it failed
    failure : class of the failure, ``""`` where it succeeded
    about : program and version, seconds, remedy that was needed, digests of potentials, message of a failure
    """

    label: str
    settings: Mapping[str, Any]
    numbers: NDArray
    cell: NDArray
    positions: NDArray
    results: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Digest of the settings and the elements, which are compared exactly."""
        return _group(self.settings, self.numbers)


class CalculationStore:
    """All calculations in the files of a folder; new ones are appended to one of them.

    Parameters
    ----------
    folder : with any number of files ``*.jsonl``; made if it does not exist
    writer : name of the file that this process appends to, without its ending; no other process may use it
    others : further files to read, such as calculations that somebody else made
    """

    def __init__(self, folder: str | Path, writer: str = "calculations", others: Iterable[str | Path] = ()):
        self._folder, self._path = Path(folder), Path(folder) / f"{writer}.jsonl"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._groups: dict[str, list[Calculation | _Place]] = {}
        for path in (*map(Path, others), *sorted(self._folder.glob("*.jsonl"))):
            for group, place in _places(path):
                self._groups.setdefault(group, []).append(place)

    def __len__(self) -> int:
        """Return the number of calculations."""
        return sum(map(len, self._groups.values()))

    def find(self, settings: Mapping[str, Any], atoms: Atoms, needs: Iterable[str] = ("forces",)) -> Calculation | None:
        """Return the calculation of a crystal with these settings, None if there is none.

        A successful one is preferred to a failed one.

        Parameters
        ----------
        settings : as in ``Calculation``
        atoms : the crystal
        needs : results that a successful calculation must hold
        """
        found = [
            one for one in self._read(_group(settings, atoms.numbers))
            if _distance_angstrom(one, atoms) <= SAME_ANGSTROM and _same_potentials(one, settings)
            and (one.failure or set(needs) <= set(one.results))
        ]  # fmt: skip
        return min(found, key=lambda one: bool(one.failure), default=None)

    def labelled(self, settings: Mapping[str, Any], atoms: Atoms, beginning: str) -> list[Calculation]:
        """Return the successful calculations of a crystal's elements with these settings whose label begins so."""
        return [
            one for one in self._read(_group(settings, atoms.numbers))
            if one.label.startswith(beginning) and not one.failure and _same_potentials(one, settings)
        ]  # fmt: skip

    def _read(self, group: str) -> list[Calculation]:
        """Return the calculations of a group, those of the files read when they are first asked for."""
        read = [one if isinstance(one, Calculation) else one.read() for one in self._groups.get(group, ())]
        if read:
            self._groups[group] = list(read)
        return read

    def add(self, calculation: Calculation) -> None:
        """Append a calculation; it is on the disk when this returns."""
        line = f"{calculation.group} {json.dumps(_document(calculation), separators=(',', ':'))}"
        with open(self._path, "ab") as stream:
            if stream.tell() and not _ends_a_line(self._path):
                stream.write(b"\n")  # a line that a killed process left
            stream.write(f"{_sha256(line)} {line}\n".encode())
            stream.flush()
            os.fsync(stream.fileno())
        self._groups.setdefault(calculation.group, []).append(calculation)


def read_calculations(path: str | Path) -> list[Calculation]:
    """Return the calculations of a file; a line that is damaged or cut short is left out.

    Parameters
    ----------
    path : file of ``CalculationStore``

    Raises
    ------
    StudyError
        If there is no such file, or none of its lines is a calculation.
    """
    return [place.read() for _, place in _places(path)]


@dataclass(frozen=True)
class _Place:
    """Where a calculation stands in a file.

    Parameters
    ----------
    path, start, length : of its JSON document, in bytes
    """

    path: Path
    start: int
    length: int

    def read(self) -> Calculation:
        with open(self.path, "rb") as stream:
            stream.seek(self.start)
            return _calculation(json.loads(stream.read(self.length)))


def _places(path: str | Path) -> list[tuple[str, _Place]]:
    """Return group and place of every sound line of a file."""
    found, n_lines, start = [], 0, 0
    try:
        with open(path, "rb") as stream:
            for line in stream:
                sha256, _, text = line.rstrip(b"\n").partition(b" ")
                n_lines += bool(sha256)
                if text and hashlib.sha256(text).hexdigest()[:16].encode() == sha256:
                    document = text[text.index(b"{") :]
                    place = _Place(Path(path), start + len(line.rstrip(b"\n")) - len(document), len(document))
                    # Lines of earlier versions do not name their group.
                    known = text[:16].decode() if document != text else _calculation(json.loads(document)).group
                    found.append((known, place))
                start += len(line)
    except OSError as error:
        raise StudyError(f"calculations cannot be read: {error.strerror}", where=str(path)) from error
    if not found and n_lines > 1:
        raise StudyError("no calculations in this file", where=str(path), fix="give a file of results/calculations")
    return found


def _document(calculation):
    results = {name: _plain(value) for name, value in calculation.results.items()}
    return {
        "label": calculation.label, "settings": dict(calculation.settings), "numbers": _plain(calculation.numbers),
        "cell": _plain(calculation.cell), "positions": _plain(calculation.positions), "results": results,
        "failure": calculation.failure, "about": dict(calculation.about),
    }  # fmt: skip


def _calculation(document):
    arrays = {name: numpy.array(document[name]) for name in ("numbers", "cell", "positions")}
    results = {name: _array(value) for name, value in document["results"].items()}
    return Calculation(**{**document, **arrays, "results": results})


def _array(value):
    return numpy.array(value) if isinstance(value, list) else value


def _plain(value):
    array = numpy.asarray(value)
    if array.dtype.kind in "iu":
        return array.tolist()
    rounded = [float(f"{number:.{DIGITS}g}") for number in array.ravel().tolist()]
    return numpy.array(rounded).reshape(array.shape).tolist()


def _same_potentials(calculation, settings):
    wanted = settings.get(POTENTIALS)
    used = calculation.about.get(POTENTIALS) or calculation.settings.get(POTENTIALS)
    return wanted is None or used is None or wanted == used


def _group(settings, numbers):
    exact = {name: value for name, value in settings.items() if name != POTENTIALS}
    text = json.dumps([exact, [int(z) for z in numbers]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _distance_angstrom(calculation, atoms):
    cell = numpy.abs(calculation.cell - atoms.cell.array).max()
    if cell > SAME_ANGSTROM:
        return cell
    apart = (calculation.positions - atoms.positions) @ numpy.linalg.inv(calculation.cell)
    return max(cell, numpy.abs((apart - numpy.rint(apart)) @ calculation.cell).max())


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ends_a_line(path):
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
