"""Calculations by a DFT code that runs as a program in a folder of its own, and what is done when one fails.

A code is described by an object with the attributes and methods of ``Code``. ``ProgramEngine`` makes an engine of it:
what is finished is taken from the store of calculations, a calculation that fails for a known reason is tried once more
with the remedy for that reason, and a failure that remains is kept with its class. What the machine is to blame for
(killed, out of memory, out of time) is nobody's result: after its remedy it stops the job, and the next job goes on
behind the last finished calculation.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from phonoscreen.audit.errors import MachineError, OutOfTimeError, StudyError, run_program
from phonoscreen.audit.names import file_name
from phonoscreen.crystal.geometry import check_geometry
from phonoscreen.reference.base import check_results
from phonoscreen.reference.calculations import Calculation, CalculationStore
from phonoscreen.reference.interruptions import Interruption, digest_of, note, noted

if TYPE_CHECKING:
    from ase import Atoms

log = logging.getLogger("phonoscreen")

Mode = Literal["run", "write_inputs", "collect"]

FAILURES = {
    "electrons": "the electronic steps did not converge",
    "symmetry": "the program found a symmetry that the crystal does not have",
    "k_points": "the program refuses the k points",
    "memory": "the program ran out of memory",
    "killed": "the program was killed",
    "unfinished": "the program ended without a result",
}
"""Classes of failures, with the words for them."""

_OF_THE_MACHINE = ("memory", "killed")
_MARGIN_S = 120.0
"""Before the end of the job no program is running any more."""


class CalculationError(StudyError):
    """A calculation that failed, or that is not there yet.

    Parameters
    ----------
    what, where, fix : as for ``StudyError``
    failure : one of ``FAILURES``, or ``"missing"``
    """

    def __init__(self, what: str, *, failure: str, where: str | None = None, fix: str | None = None):
        super().__init__(what, where=where, fix=fix, blame="engine")
        self.failure = failure
        if failure == "missing":
            self.status = "skipped"


class Code(Protocol):
    """A DFT code."""

    kind: str
    name: str
    log: str
    """Name of the file that takes what the program prints."""
    stop_file: tuple[str, str]
    """Name and content of a file that makes the running program end early, with its state kept."""

    @property
    def command(self) -> Sequence[str]:
        """Words that start the program in the folder of a calculation."""

    @property
    def command_elsewhere(self) -> Sequence[str]:
        """The same on a machine of the user's choice."""

    def identity(self, atoms: Atoms) -> Mapping[str, Any]:
        """Return what decides the numbers besides the crystal; neither commands nor remedies."""

    def write(self, atoms: Atoms, folder: Path, remedy: str, keep_state: bool = False) -> None:
        """Write the inputs.

        Parameters
        ----------
        remedy : the failure that they must avoid, ``""`` at first
        keep_state : the program keeps its state when it is stopped and goes on from one that is there
        """

    def read(self, folder: Path, atoms: Atoms) -> dict[str, Any]:
        """Return the results of ``Calculation``; ``CalculationError`` says why there are none."""

    def about(self, folder: Path) -> dict[str, Any]:
        """Return version of the program and digests of its potentials."""


def end_of_job(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return when the batch system ends this job, seconds since 1970, or None if nothing says so.

    Slurm tells it in ``SLURM_JOB_END_TIME``; for other systems the job script may set ``PHONOSCREEN_JOB_END``.
    """
    for name in ("PHONOSCREEN_JOB_END", "SLURM_JOB_END_TIME"):
        if environment.get(name, "").isdigit():
            return float(environment[name])
    return None


class ProgramEngine:
    """Engine of the reference forces around a DFT code.

    Parameters
    ----------
    code : how inputs are written and outputs read
    folder : where calculations run, a folder each, which is removed when its result is kept
    store : finished calculations
    mode : ``run`` calculates what is missing, ``write_inputs`` writes its inputs only, ``collect`` reads what was
        calculated elsewhere from these inputs
    again : calculate what has failed before once more
    """

    relaxes = True

    def __init__(
        self, code: Code, folder: str | Path, store: CalculationStore, mode: Mode = "run", again: bool = False
    ):
        self.kind, self.name, self._code = code.kind, code.name, code
        self._folder, self._store, self._mode = Path(folder), store, mode
        self._longest_s, self._again = 0.0, again
        self.calculates = mode == "run"
        self.seconds: float | None = None
        """What the last calculation took when it was run; None where nobody knows."""

    def forces(self, atoms: Atoms, label: str) -> tuple[float, NDArray]:
        """Return energy (eV) and forces (n_atoms, 3) in eV/angstrom."""
        return self.evaluate(atoms, label)[:2]

    def evaluate(self, atoms: Atoms, label: str) -> tuple[float, NDArray, NDArray]:
        """Return energy (eV), forces (eV/angstrom) and stress (3, 3) in eV/angstrom^3, positive under tension.

        Raises
        ------
        CalculationError
            If the calculation failed, now or in an earlier run, or is not there yet.
        MachineError
            If the machine failed, or the time of the job does not suffice for one more calculation.
        """
        results = self.results_of(atoms, label)
        return results["energy_ev"], results["forces"], results["stress"]

    def results_of(self, atoms: Atoms, label: str) -> Mapping[str, Any]:
        """Return all results of a calculation, as ``Calculation`` has them; errors as in ``evaluate``."""
        check_geometry(atoms, label)
        found = self._store.find(self._code.identity(atoms), atoms)
        if found is None or (found.failure and self._again):
            found = self._obtain(atoms, label)
        self.seconds = found.about.get("seconds")
        if found.failure:
            raise CalculationError(
                str(found.about.get("message") or FAILURES.get(found.failure, found.failure)), failure=found.failure,
                where=f"{label}, {self.name}", fix="other settings of the engine, or leave this structure out",
            )  # fmt: skip
        return found.results

    def is_finished(self, atoms: Atoms) -> bool:
        """Whether a calculation of a crystal is there: nothing has to be calculated for it."""
        return self._store.find(self._code.identity(atoms), atoms) is not None

    def finished(self, atoms: Atoms, beginning: str) -> list[Calculation]:
        """Return finished calculations of a crystal's elements whose label begins so."""
        return self._store.labelled(self._code.identity(atoms), atoms, beginning)

    def _obtain(self, atoms, label):
        folder = self._folder.joinpath(*map(file_name, label.split("/")))
        if self._mode == "run":
            calculation = self._run(atoms, label, folder)
        elif self._mode == "collect" and folder.is_dir():
            calculation = self._collect(atoms, label, folder)
        else:
            if self._mode == "write_inputs":
                folder.mkdir(parents=True, exist_ok=True)
                self._code.write(atoms, folder, "")
            raise _missing(label, folder, self._mode)
        self._store.add(calculation)
        shutil.rmtree(folder)
        with suppress(OSError):  # other calculations of this structure are there
            folder.parent.rmdir()
        return calculation

    def _run(self, atoms, label, folder):
        sha256 = digest_of(self._code.identity(atoms), atoms)
        earlier = noted(folder, sha256)
        goes_on = earlier is not None
        remedy, spent_s = (earlier.remedy, earlier.seconds) if earlier else ("", 0.0)
        begin = time.time() - spent_s
        while True:
            try:
                results = self._attempt(atoms, folder, remedy, label, goes_on)
                seconds = time.time() - begin
                self._longest_s = max(self._longest_s, seconds)
                return self._calculation(atoms, label, results, "", {**self._about(folder, seconds), "remedy": remedy})
            except OutOfTimeError:
                note(folder, Interruption(remedy, time.time() - begin, sha256))
                raise
            except CalculationError as error:
                if not remedy:
                    log.info("%s: %s; tried once more with the remedy for it", label, error.what)
                    remedy, goes_on = error.failure, False
                    continue
                if error.failure in _OF_THE_MACHINE:
                    raise MachineError(error.what, where=f"{label}, {folder}", fix=error.fix) from error
                about = {**self._about(folder, time.time() - begin), "remedy": remedy, "message": error.what}
                return self._calculation(atoms, label, {}, error.failure, about)

    def _attempt(self, atoms, folder, remedy, label, goes_on):
        """Run the program once and return its results; ``goes_on``: behind an attempt that ran out of time."""
        left_s, stopped = self._time_left(label), []
        if not goes_on:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        name, content = self._code.stop_file
        (folder / name).unlink(missing_ok=True)
        self._code.write(atoms, folder, remedy, keep_state=goes_on)

        def stop():
            stopped.append(True)
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)

        try:
            run_program(self._code.command, folder, folder / self._code.log, left_s, stop if goes_on else None)
            return self._read(folder, atoms)
        except CalculationError as error:
            if not stopped:
                raise
            raise OutOfTimeError(
                "stopped before the time of this job is over, its state is kept", where=f"{label}, {folder}",
                fix="run the same command again: it goes on from there",
            ) from error  # fmt: skip
        except OutOfTimeError:
            raise
        except MachineError as error:
            failure = _of_machine(error)
            if failure is None:
                raise
            raise CalculationError(error.what, failure=failure, where=error.where, fix=error.fix) from error

    def _collect(self, atoms, label, folder):
        if not any(path.is_file() and path.name == self._code.log for path in folder.iterdir()):
            raise _missing(label, folder, "collect")
        try:
            results = self._read(folder, atoms)
        except CalculationError as error:
            # It may be calculated again there: a failure is told, not kept.
            raise CalculationError(error.what, failure=error.failure, where=str(folder),
                                   fix="calculate it again there, then collect again") from error  # fmt: skip
        return self._calculation(atoms, label, results, "", self._about(folder, None))

    def _read(self, folder, atoms):
        results = self._code.read(folder, atoms)
        energy_ev, forces = check_results(results["energy_ev"], results["forces"], len(atoms), str(folder))
        return {**results, "energy_ev": energy_ev, "forces": forces}

    def _about(self, folder, seconds):
        about = self._code.about(folder)
        return about if seconds is None else {**about, "seconds": round(seconds, 1)}

    def _calculation(self, atoms, label, results, failure, about):
        arrays = (atoms.numbers, atoms.cell.array, atoms.positions)
        return Calculation(label, self._code.identity(atoms), *arrays, results, failure, about)

    def _time_left(self, label):
        """Return the seconds that a program may run, None without a limit; refuse to begin what cannot end."""
        end = end_of_job()
        if end is None:
            return None
        left_s = end - _MARGIN_S - time.time()
        if left_s < self._longest_s:
            raise MachineError(
                f"{left_s:.0f} s are left of this job, the longest calculation so far took {self._longest_s:.0f} s",
                where=label, fix="run the same command again: it goes on behind the last finished calculation",
            )  # fmt: skip
        return left_s


def program_engine(code: Code, settings: Mapping[str, Any], folder: str | Path) -> ProgramEngine:
    """Return the engine of a DFT code.

    Parameters
    ----------
    code : the DFT code
    settings : ``mode``, ``again``; ``store`` (folder of the finished calculations), ``writer`` and ``others``, as
        ``CalculationStore`` takes them; without them they are kept in ``folder``
    folder : where calculations run
    """
    kept = CalculationStore(
        settings.get("store", Path(folder) / "finished"), settings.get("writer", "calculations"),
        settings.get("others", ()),
    )  # fmt: skip
    return ProgramEngine(code, folder, kept, settings.get("mode", "run"), settings.get("again", False))


def _missing(label, folder, mode):
    what = "its inputs are written, it is not calculated yet" if mode == "write_inputs" else "no outputs yet"
    return CalculationError(what, failure="missing", where=f"{label}, {folder}",
                            fix="run the program there, then give reference.mode: collect")  # fmt: skip


def _of_machine(error):
    if "killed" in error.what and "time was used up" not in error.what:
        return "killed"
    return "memory" if "memory" in error.what else None
