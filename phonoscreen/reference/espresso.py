"""Quantum ESPRESSO as reference: Giannozzi et al., J. Phys. Condens. Matter 29, 465901 (2017).

Inputs are written and outputs read by ASE's interface. The potentials are files of the user's own: one for each element
in a folder, made for the functional of the settings; their sha256 is part of what identifies a calculation.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from ase.io import read
from ase.io.espresso import write_espresso_in
from ase.units import Rydberg

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.formats.labelled import read_labelled
from phonoscreen.reference.k_points import k_grid
from phonoscreen.reference.programs import CalculationError, ProgramEngine, program_engine

if TYPE_CHECKING:
    from ase import Atoms

_FUNCTIONALS = {"PBE": ("PBE", "SLA PW PBX PBC", "SLA PW PBE PBE"), "PBEsol": ("PBESOL", "SLA PW PSX PSC")}
"""How the header of a potential names the functional that it is made for."""

_REMEDIES: dict[str, dict[str, Any]] = {
    "": {},
    "electrons": {"mixing_beta": 0.2, "electron_maxstep": 400, "mixing_mode": "local-TF"},
    "symmetry": {"nosym": True},
    "k_points": {},  # a grid with the point Gamma instead
    "memory": {"diagonalization": "cg", "mixing_ndim": 4},
    "killed": {"diagonalization": "cg", "mixing_ndim": 4},
    "unfinished": {"diagonalization": "cg"},
}
"""Settings that avoid a failure without changing what is calculated."""

_SIGNS = {
    "electrons": ("convergence NOT achieved", "too many bands are not converged"),
    "symmetry": ("not orthogonal operation", "symmetry operation", "sym_rho_init", "checkallsym"),
    "k_points": ("kpoint_grid", "k-points", "irreducible_BZ"),
    "memory": ("error allocating", "Not enough memory", "insufficient virtual memory"),
}
"""What the error of pw.x says, by the class of the failure."""


class EspressoCode:
    """pw.x of Quantum ESPRESSO, as ``phonoscreen.reference.programs.Code`` describes it.

    Parameters
    ----------
    settings : ``model, cutoff_ev, density_cutoff_factor, k_spacing_per_angstrom, k_points, smearing_ev, potentials,
        command`` of the reference settings, and ``tasks``
    """

    kind, log, stop_file = "espresso", "espresso.pwo", ("work/pwscf.EXIT", "")

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = {
            "engine": "espresso", "functional": settings["model"], "cutoff_ev": float(settings["cutoff_ev"]),
            "density_cutoff_factor": float(settings["density_cutoff_factor"]),
            "k_spacing_per_angstrom": float(settings["k_spacing_per_angstrom"]),
            "k_points": settings["k_points"], "smearing_ev": float(settings["smearing_ev"]),
        }  # fmt: skip
        self.name = f"Quantum ESPRESSO {settings['model']} {settings['cutoff_ev']:g} eV"
        words = shlex.split((settings.get("command") or "pw.x").replace("{tasks}", str(settings.get("tasks", 1))))
        self.command = [*words, "-in", "espresso.pwi"]
        self.command_elsewhere = self.command
        self._library = settings["potentials"]

    def identity(self, atoms: Atoms) -> dict[str, Any]:
        """Return the settings and the sha256 of the potentials."""
        return {**self.settings, "potentials": {name: sha256 for name, (_, sha256) in self._potentials(atoms).items()}}

    def write(self, atoms: Atoms, folder: Path, remedy: str, keep_state: bool = False) -> None:
        """Write ``espresso.pwi`` and copies of the potentials, so that the folder can be carried."""
        given, potentials = self.settings, self._potentials(atoms)
        for path, _ in potentials.values():
            (folder / path.name).write_bytes(path.read_bytes())
        cutoff_ry, centred = given["cutoff_ev"] / Rydberg, given["k_points"] == "gamma_centred"
        grid = k_grid(atoms.cell, given["k_spacing_per_angstrom"])
        shift = tuple(0 if centred or remedy == "k_points" or n % 2 else 1 for n in grid)
        input_data = {
            "calculation": "scf", "tprnfor": True, "tstress": True, "disk_io": "none", "outdir": "./work",
            "pseudo_dir": "./", "ecutwfc": cutoff_ry, "ecutrho": cutoff_ry * given["density_cutoff_factor"],
            "occupations": "smearing", "smearing": "gaussian", "degauss": given["smearing_ev"] / Rydberg,
            "conv_thr": 1e-11 * len(atoms), "electron_maxstep": 200, **_REMEDIES[remedy],
        }  # fmt: skip
        if keep_state:
            stopped = (folder / "work/pwscf.restart_scf").exists()
            input_data |= {"disk_io": "low", "restart_mode": "restart" if stopped else "from_scratch"}
        plain = type(atoms)(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        names = {symbol: path.name for symbol, (path, _) in potentials.items()}
        with open(folder / "espresso.pwi", "w") as stream:
            write_espresso_in(stream, plain, input_data=input_data, pseudopotentials=names, kpts=grid, koffset=shift)

    def read(self, folder: Path, atoms: Atoms) -> dict[str, Any]:
        """Return energy, forces and stress of the output."""
        path = folder / self.log
        text = path.read_text(errors="replace") if path.exists() else ""
        failure = _failure(text, folder)
        if failure:
            raise failure
        frame = read_labelled(path)[-1]
        apart = (frame.positions - atoms.positions) @ numpy.linalg.inv(atoms.cell.array)
        same = len(frame) == len(atoms) and (frame.numbers == atoms.numbers).all()
        if not same or numpy.abs((apart - numpy.rint(apart)) @ atoms.cell.array).max() > 1e-4:
            raise CalculationError("these outputs are of another crystal", failure="unfinished", where=str(path))
        whole: Any = read(path, format="espresso-out")
        return {
            "energy_ev": float(frame.get_potential_energy()), "forces": frame.get_forces(),
            "stress": whole.get_stress(voigt=False),
        }  # fmt: skip

    def about(self, folder: Path) -> dict[str, Any]:
        """Return the version of pw.x."""
        path = folder / self.log
        found = re.search(r"Program PWSCF v\.(\S+)", path.read_text(errors="replace")) if path.exists() else None
        return {"version": found[1]} if found else {}

    def _potentials(self, atoms):
        library = self._library or os.environ.get("ESPRESSO_PSEUDO")
        if not library or not Path(library).is_dir():
            raise MachineError(
                f"no folder {library!r} of potentials for Quantum ESPRESSO", where="reference.espresso.potentials",
                fix="name one, or set ESPRESSO_PSEUDO to a library with one UPF file for each element (SSSP)",
            )  # fmt: skip
        functional = self.settings["functional"]
        return {symbol: _potential(str(library), symbol, functional) for symbol in dict.fromkeys(atoms.symbols)}


@cache
def _potential(library, symbol, functional):
    """Return path and sha256 of the potential of an element."""
    pattern = re.compile(rf"{symbol}[._-].*\.upf", re.I)
    paths = sorted(path for path in Path(library).iterdir() if pattern.fullmatch(path.name))
    if len(paths) != 1:
        raise StudyError(
            f"{len(paths)} potentials of {symbol}: {', '.join(path.name for path in paths) or 'none'}", where=library,
            fix="keep exactly one UPF file for each element there",
        )  # fmt: skip
    content = paths[0].read_bytes()
    header = " ".join(content[:200_000].decode(errors="replace").upper().split())
    attribute = re.search(r'FUNCTIONAL="\s*([^"]*?)\s*"', header)
    line = re.search(r"([A-Z]+ [A-Z]+ [A-Z]+ [A-Z]+) EXCHANGE-CORRELATION", header)
    named = " ".join((attribute or line or ["", ""])[1].replace("-", " ").split())
    if named not in _FUNCTIONALS[functional]:
        raise StudyError(
            f"{paths[0].name} is made for the functional {named or 'of an unknown name'}, not for {functional}",
            where=library, fix=f"take potentials made for {functional}, or another reference.espresso.model",
        )  # fmt: skip
    return paths[0], hashlib.sha256(content).hexdigest()


def _failure(text, folder):
    """Return why an output holds no result, None if it does."""
    if "JOB DONE." in text and "!    total energy" in text and "convergence NOT achieved" not in text:
        return None
    error = text[text.find("%%%%%%") :] if "%%%%%%" in text else text[-3000:]
    for failure, signs in _SIGNS.items():
        for sign in signs:
            if sign in error:
                return CalculationError(f"pw.x says: {sign}", failure=failure, where=str(folder))
    lines = [line.strip() for line in error.splitlines() if line.strip(" %\n")] or ["nothing"]
    return CalculationError(f"pw.x ended without a result: {' '.join(lines[:3])[:200]}", failure="unfinished",
                            where=str(folder))  # fmt: skip


code_of_settings = EspressoCode


def make(settings: Mapping[str, Any], threads: int, folder: str | Path) -> ProgramEngine:
    """Return the engine; ``threads`` is not used."""
    return program_engine(EspressoCode(settings), settings, folder)
