"""GPAW as reference, an open plane-wave PAW code: Mortensen et al., J. Chem. Phys. 160, 092503 (2024).

Each calculation has a folder with ``calculation.json``, the crystal and all parameters, and ``run.py``, which needs
nothing but GPAW: it runs here or on any other machine, by itself or under MPI.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.reference.base import missing_package
from phonoscreen.reference.k_points import k_grid
from phonoscreen.reference.programs import CalculationError, ProgramEngine, program_engine

if TYPE_CHECKING:
    from ase import Atoms

_INSIDE = ("LDA", "PBE", "RPBE", "revPBE")
"""Functionals that GPAW knows without the library libxc."""

_REMEDIES: dict[str, dict[str, Any]] = {
    "": {},
    "electrons": {"mixer": {"backend": "pulay", "beta": 0.02, "nmaxold": 5, "weight": 100.0}, "maxiter": 600},
    "symmetry": {"symmetry": "off"},
    "k_points": {"gamma": True},
    # The eigensolver with the smallest work space, and the same calculation again.
    "memory": {"eigensolver": {"name": "rmm-diis"}},
    "killed": {},
    "unfinished": {},
}

_RUN = '''"""Run GPAW for calculation.json; write results.json."""

import json
import os

import numpy
from ase import Atoms
from gpaw import GPAW, __version__
from gpaw.mpi import world

with open("calculation.json") as stream:
    given = json.load(stream)
atoms = Atoms(given["numbers"], positions=given["positions"], cell=given["cell"], pbc=True)
if os.path.exists("state.gpw"):
    calculator = GPAW("state.gpw", txt="gpaw.txt")
else:
    calculator = GPAW(txt="gpaw.txt", **given["parameters"])
if given["keep_state"]:
    for _ in calculator.icalculate(atoms):
        if world.max_scalar(int(os.path.exists("STOP"))):
            calculator.write("partial.gpw", "all")
            if world.rank == 0:
                os.replace("partial.gpw", "state.gpw")
            raise SystemExit("stopped, the state is kept in state.gpw")
atoms.calc = calculator
forces = atoms.get_forces()
results = {
    "energy_ev": atoms.get_potential_energy(),
    "forces": forces.tolist(),
    "stress": atoms.get_stress(voigt=False).tolist(),
    "version": __version__,
}
if world.rank == 0:
    with open("results.json.partial", "w") as stream:
        json.dump(results, stream)
    os.replace("results.json.partial", "results.json")
'''


class GpawCode:
    """GPAW in plane waves, as ``phonoscreen.reference.programs.Code`` describes it.

    Parameters
    ----------
    settings : ``model`` (functional), ``cutoff_ev, k_spacing_per_angstrom, k_points, smearing_ev`` of the reference
        settings, ``command`` and ``tasks``

    Raises
    ------
    StudyError
        If the functional needs libxc and GPAW was installed without it.
    """

    kind, log, stop_file = "gpaw", "output.txt", ("STOP", "")
    script = _RUN

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = {
            "engine": "gpaw", "functional": settings["model"], "cutoff_ev": float(settings["cutoff_ev"]),
            "k_spacing_per_angstrom": float(settings["k_spacing_per_angstrom"]),
            "k_points": settings.get("k_points", "gamma_centred"), "smearing_ev": float(settings["smearing_ev"]),
        }  # fmt: skip
        self.name = f"GPAW {settings['model']} {settings['cutoff_ev']:g} eV"
        words = shlex.split((settings.get("command") or "").replace("{tasks}", str(settings.get("tasks", 1))))
        self.command = [*(words or [sys.executable]), "run.py"]
        self.command_elsewhere = [*(words or ["mpirun", "gpaw", "python"]), "run.py"]

    def parameters(self, atoms: Atoms, remedy: str = "") -> dict[str, Any]:
        """Return the arguments of GPAW's calculator for a crystal."""
        given = self.settings
        change = dict(_REMEDIES[remedy])
        gamma = change.pop("gamma", given["k_points"] == "gamma_centred")
        return {
            "mode": {"name": "pw", "ecut": given["cutoff_ev"]},
            "xc": given["functional"],
            "kpts": {"size": k_grid(atoms.cell, given["k_spacing_per_angstrom"]), "gamma": gamma},
            "occupations": {"name": "fermi-dirac", "width": given["smearing_ev"]},
            # Without glide planes and screw axes: GPAW fits its grid to their translations and, where an atom is
            # displaced along an axis, looks for such a grid without end.
            "symmetry": {"point_group": True, "time_reversal": True, "symmorphic": True},
            "convergence": {"energy": 1e-6, "density": 1e-5, "eigenstates": 1e-8},
            **change,
        }

    def identity(self, atoms: Atoms) -> dict[str, Any]:
        """Return what decides the numbers besides the crystal."""
        return self.settings

    def write(self, atoms: Atoms, folder: Path, remedy: str, keep_state: bool = False) -> None:
        """Write ``calculation.json`` and ``run.py``."""
        document = {
            "numbers": atoms.numbers.tolist(), "cell": atoms.cell.tolist(), "positions": atoms.positions.tolist(),
            "parameters": self.parameters(atoms, remedy), "keep_state": keep_state,
        }  # fmt: skip
        (folder / "calculation.json").write_text(json.dumps({**document, **self.further_inputs(atoms)}))
        (folder / "run.py").write_text(self.script)

    def further_inputs(self, atoms: Atoms) -> dict[str, Any]:
        """Return what ``run.py`` needs besides the crystal and the parameters."""
        return {}

    def read(self, folder: Path, atoms: Atoms) -> dict[str, Any]:
        """Return energy, forces and stress; why there are none is looked for in what GPAW has printed."""
        if not (folder / "results.json").exists():
            raise _failure(folder, self.log)
        given = json.loads((folder / "calculation.json").read_text())
        same = given["numbers"] == atoms.numbers.tolist() and all(
            numpy.allclose(given[name], array, atol=1e-5)
            for name, array in (("cell", atoms.cell.array), ("positions", atoms.positions))
        )
        if not same:
            raise CalculationError("these outputs are of another crystal", failure="unfinished", where=str(folder))
        found = json.loads((folder / "results.json").read_text())
        arrays = {name: numpy.array(found[name], dtype=float) for name in ("forces", "stress")}
        return {"energy_ev": float(found["energy_ev"]), **arrays}

    def about(self, folder: Path) -> dict[str, Any]:
        """Return GPAW's version."""
        path = folder / "results.json"
        return {"version": json.loads(path.read_text())["version"]} if path.exists() else {}


_SIGNS = {
    "electrons": ("ConvergenceError", "Did not converge"),
    "symmetry": ("SymmetryBrokenError", "Broken symmetry"),
    "k_points": ("k-points are not as symmetric", "KPointError"),
}
"""What the last line of GPAW's traceback says, by the class of the failure."""


def _failure(folder, log):
    path = folder / log
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()] if path.exists() else []
    last = next((line for line in reversed(lines) if line), "no output")[:200]
    for failure, signs in _SIGNS.items():
        if any(sign in last for sign in signs):
            return CalculationError(f"GPAW: {last}", failure=failure, where=str(folder))
    return CalculationError(f"GPAW ended without a result: {last}", failure="unfinished", where=str(folder))


code_of_settings = GpawCode


def make(settings: Mapping[str, Any], threads: int, folder: str | Path) -> ProgramEngine:
    """Return the engine.

    Parameters
    ----------
    settings : as for ``GpawCode`` and ``program_engine``
    threads : not used
    folder : where the calculations run

    Raises
    ------
    MachineError
        If GPAW is not installed.
    StudyError
        If it cannot calculate the functional.
    """
    return run_with(GpawCode(settings), settings, folder)


def run_with(code: GpawCode, settings: Mapping[str, Any], folder: str | Path) -> ProgramEngine:
    """Return the engine of a code that runs GPAW; as ``make``."""
    if settings.get("mode", "run") == "run" and not settings.get("command"):
        _check_installed(settings["model"])
    return program_engine(code, settings, folder)


def _check_installed(functional):
    if importlib.util.find_spec("gpaw") is None:
        raise missing_package("gpaw", ImportError("no module named gpaw"))
    from gpaw import cgpaw

    if functional not in _INSIDE and not hasattr(cgpaw, "lxcXCFunctional"):
        raise StudyError(
            f"this GPAW is installed without libxc, which {functional} needs", where="reference.gpaw.model",
            fix="install GPAW with libxc (envs/reference.yaml), or give --config 'reference={gpaw: {model: PBE}}'",
        )  # fmt: skip
