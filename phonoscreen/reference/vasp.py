"""VASP as reference: writes INCAR, KPOINTS, POSCAR and POTCAR, runs the user's executable, reads vasprun.xml.

VASP is licensed and not part of this project; the user names the command (setting ``reference.vasp.command``) and the
folder of the potentials (environment variable ``VASP_PP_PATH``, as in ASE). Of the potentials titles and sha256 alone
are kept: the POTCAR is removed with the folder of its calculation, and inputs for another machine name the potentials
in ``POTCAR.spec`` instead.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from ase.io import read, write
from numpy.typing import NDArray

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.formats.labelled import read_labelled
from phonoscreen.reference.base import check_results
from phonoscreen.reference.calculations import POTENTIALS
from phonoscreen.reference.k_points import irreducible_k_points, k_grid, k_point_groups
from phonoscreen.reference.programs import CalculationError, ProgramEngine, program_engine

if TYPE_CHECKING:
    from ase import Atoms

# The recommended PBE potentials of the VASP manual where they are not simply named after the element.
_POTENTIALS = {
    "Li": "Li_sv", "Na": "Na_pv", "K": "K_sv", "Ca": "Ca_sv", "Sc": "Sc_sv", "Ti": "Ti_sv", "V": "V_sv", "Cr": "Cr_pv",
    "Mn": "Mn_pv", "Ga": "Ga_d", "Ge": "Ge_d", "Rb": "Rb_sv", "Sr": "Sr_sv", "Y": "Y_sv", "Zr": "Zr_sv", "Nb": "Nb_sv",
    "Mo": "Mo_sv", "Ru": "Ru_pv", "Rh": "Rh_pv", "In": "In_d", "Sn": "Sn_d", "Cs": "Cs_sv", "Ba": "Ba_sv",
    "Hf": "Hf_pv", "Ta": "Ta_pv", "W": "W_sv", "Tl": "Tl_d", "Pb": "Pb_d", "Bi": "Bi_d",
}  # fmt: skip


FUNCTIONALS = {"PBE": "PE", "PBEsol": "PS"}
"""Values of GGA in INCAR. The PAW potentials are those of PBE for both, as the manual of VASP advises."""

_REMEDIES: dict[str, dict[str, str]] = {
    "": {},
    "electrons": {"ALGO": "All", "TIME": "0.3", "NELM": "400"},
    "symmetry": {"ISYM": "0"},
    "k_points": {},  # a grid with the point Gamma instead
    "memory": {"NCORE": "1", "KPAR": "1"},
    "killed": {"NCORE": "1", "KPAR": "1"},
    "unfinished": {"ALGO": "Fast"},
}
"""Tags that avoid a failure without changing what is calculated."""

_SIGNS = {
    "symmetry": ("inverse of rotation matrix was not found", "POSMAP", "PRICEL", "SGRCON", "INVGRP", "group operation"),
    "k_points": ("IBZKPT", "Could not get correct shifts", "Tetrahedron method fails", "k-points in the full"),
    "electrons": ("ZHEGV failed", "BRMIX: very serious problems", "EDDDAV", "Sub-Space-Matrix is not hermitian"),
    "memory": ("oom-kill", "Out Of Memory", "insufficient virtual memory"),
}
"""What VASP prints, by the class of the failure."""


def incar(
    cutoff_ev: float, functional: str = "PBE", smearing_ev: float = 0.05, changes: Mapping[str, str] | None = None
) -> str:
    """Return the INCAR of a single-point calculation with tight forces: non-magnetic, no +U, no spin-orbit.

    Parameters
    ----------
    cutoff_ev : of the plane waves
    functional : one of ``FUNCTIONALS``
    smearing_ev : width of the Gaussian smearing
    changes : further tags
    """
    settings = {
        "GGA": FUNCTIONALS[functional], "PREC": "Accurate", "ENCUT": f"{cutoff_ev:g}", "EDIFF": "1E-8", "NELM": "200",
        "ISPIN": "1", "ISMEAR": "0", "SIGMA": f"{smearing_ev:g}", "LREAL": ".FALSE.", "LASPH": ".TRUE.",
        "IBRION": "-1", "NSW": "0", "ISIF": "2", "LWAVE": ".FALSE.", "LCHARG": ".FALSE.", **(changes or {}),
    }  # fmt: skip
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def read_vasprun(path: str | Path, n_atoms: int) -> tuple[float, NDArray, NDArray]:
    """Read energy, forces and stress of the last ionic step.

    Parameters
    ----------
    path : vasprun.xml
    n_atoms : atoms expected

    Returns
    -------
    energy (eV, extrapolated to zero smearing), forces (n_atoms, 3) in eV/angstrom, stress (3, 3) in eV/angstrom^3

    Raises
    ------
    StudyError
        If the file is incomplete, its electrons did not converge, or it belongs to another number of atoms.
    """
    atoms = read_labelled(path)[-1]
    energy_ev, forces = check_results(atoms.get_potential_energy(), atoms.get_forces(), n_atoms, str(path))
    return energy_ev, forces, _stress(path)


def _stress(path):
    try:
        atoms: Any = read(path, format="vasp-xml")
        return atoms.get_stress(voigt=False)
    except Exception as error:  # the parser raises anything on a file cut short
        raise StudyError(f"stress cannot be read: {error}", where=str(path), fix="repeat this calculation") from error


class VaspCode:
    """VASP, as ``phonoscreen.reference.programs.Code`` describes it.

    Parameters
    ----------
    settings : ``model, cutoff_ev, k_spacing_per_angstrom, k_points, smearing_ev, command`` of the reference settings,
        and ``tasks``, the number of MPI processes, which ``{tasks}`` in the command stands for
    """

    kind, log, stop_file = "vasp", "vasp.log", ("STOPCAR", "LABORT = .TRUE.\n")
    tags: Mapping[str, str] = {}
    """Of INCAR, besides those of ``incar``."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = {
            "engine": "vasp", "functional": settings["model"], "cutoff_ev": float(settings["cutoff_ev"]),
            "k_spacing_per_angstrom": float(settings["k_spacing_per_angstrom"]),
            "k_points": settings.get("k_points", "gamma_centred"),
            "smearing_ev": float(settings.get("smearing_ev", 0.05)),
        }  # fmt: skip
        self.name = f"VASP {settings['model']} {settings['cutoff_ev']:g} eV"
        self.tasks = int(settings.get("tasks", 1))
        words = (settings.get("command") or "").replace("{tasks}", str(self.tasks))
        self.command = shlex.split(words)
        potentials = 'for name in $(cat POTCAR.spec); do cat "$VASP_PP_PATH/potpaw_PBE/$name/POTCAR"; done > POTCAR'
        self.command_elsewhere = ["{", f"{potentials} &&", *(self.command or ["srun", "vasp_std"]), "; }"]
        self._carried = settings.get("mode", "run") != "run"
        self._potentials: dict[tuple[str, ...], str | None] = {}

    def identity(self, atoms: Atoms) -> dict[str, Any]:
        """Return what decides the numbers besides the crystal, with the sha256 of the potentials in their order.

        Where another machine calculates, or the library lacks one, it is None: the outputs say what was used.
        """
        kinds = tuple(dict.fromkeys(atoms[_grouped(atoms)].symbols))
        if kinds not in self._potentials:
            self._potentials[kinds] = None
            with suppress(StudyError, MachineError):
                text = "" if self._carried else "".join(map(potcar, kinds))
                self._potentials[kinds] = hashlib.sha256(text.encode()).hexdigest() if text else None
        return {**self.settings, POTENTIALS: self._potentials[kinds]}

    def write(self, atoms: Atoms, folder: Path, remedy: str, keep_state: bool = False) -> None:
        """Write POSCAR (atoms grouped by element), INCAR, KPOINTS, POTCAR. A WAVECAR that is there is the start.

        MPI tasks share the k points (``KPAR``), which changes no number.
        """
        given, change, kept = self.settings, _REMEDIES[remedy], {"LWAVE": ".TRUE."} if keep_state else {}
        grouped = atoms[_grouped(atoms)]
        write(folder / "POSCAR", grouped, format="vasp", direct=True, sort=False)
        centred = given["k_points"] == "gamma_centred" or remedy == "k_points"
        divisions = k_grid(atoms.cell, given["k_spacing_per_angstrom"])
        groups = k_point_groups(self.tasks, irreducible_k_points(atoms, divisions, centred)) if self.tasks > 1 else 1
        shared = {"KPAR": str(groups)} if groups > 1 else {}
        changes = {**shared, **change, **kept, **self.tags}
        (folder / "INCAR").write_text(incar(given["cutoff_ev"], given["functional"], given["smearing_ev"], changes))
        grid = " ".join(map(str, divisions))
        scheme = "Gamma" if centred else "Monkhorst-Pack"
        spacing = f"{given['k_spacing_per_angstrom']:g} 1/angstrom"
        (folder / "KPOINTS").write_text(f"spacing {spacing}\n0\n{scheme}\n{grid}\n0 0 0\n")
        kinds = list(dict.fromkeys(grouped.symbols))
        (folder / "POTCAR.spec").write_text("".join(f"{_POTENTIALS.get(kind, kind)}\n" for kind in kinds))
        if not self._carried:
            (folder / "POTCAR").write_text("".join(map(potcar, kinds)))

    def read(self, folder: Path, atoms: Atoms) -> dict[str, Any]:
        """Return energy, forces and stress of vasprun.xml, in the order of the atoms that were given."""
        failure = _failure(folder, self.log)
        if failure:
            raise failure
        back = numpy.argsort(_grouped(atoms))
        try:
            energy_ev, forces, stress = read_vasprun(folder / "vasprun.xml", len(atoms))
        except StudyError as error:
            kind = "electrons" if "converge" in error.what else "unfinished"
            raise CalculationError(error.what, failure=kind, where=str(folder), fix=error.fix) from error
        _check_same(folder / "vasprun.xml", atoms)
        return {"energy_ev": energy_ev, "forces": forces[back], "stress": stress}

    def about(self, folder: Path) -> dict[str, Any]:
        """Return titles and sha256 of the potentials, and the version of VASP."""
        found: dict[str, Any] = {}
        if (folder / "POTCAR").exists():
            text = (folder / "POTCAR").read_text(errors="replace")
            titles = [line.strip() for line in text.splitlines() if line.strip().startswith("PAW")]
            found["potentials"] = titles
            found[POTENTIALS] = hashlib.sha256(text.encode()).hexdigest()
        if (folder / "vasprun.xml").exists():
            with open(folder / "vasprun.xml", errors="replace") as stream:
                version = re.search(r'name="version"[^>]*>\s*([^<\s]+)', stream.read(4000))
            if version:
                found["version"] = version[1]
        return found


def _grouped(atoms):
    """Order of the atoms in POSCAR, (n_atoms,)."""
    return numpy.argsort(atoms.numbers, kind="stable")


def _check_same(path, atoms):
    found, wanted = read_labelled(path)[-1], atoms[_grouped(atoms)]
    apart = (found.positions - wanted.positions) @ numpy.linalg.inv(atoms.cell.array)
    same = (found.numbers == wanted.numbers).all() and numpy.abs(found.cell.array - atoms.cell.array).max() < 1e-4
    if not same or numpy.abs((apart - numpy.rint(apart)) @ atoms.cell.array).max() > 1e-4:
        raise CalculationError("these outputs are of another crystal", failure="unfinished", where=str(path),
                               fix="calculate it again from its own POSCAR")  # fmt: skip


def _failure(folder, log):
    """Return what VASP itself complains about, None if nothing."""
    path = folder / log
    text = path.read_text(errors="replace")[-50_000:] if path.exists() else ""
    for failure, signs in _SIGNS.items():
        for sign in signs:
            if sign in text and not (folder / "vasprun.xml").exists():
                return CalculationError(f"VASP says: {sign}", failure=failure, where=str(folder))
    if not (folder / "vasprun.xml").exists():
        return CalculationError("VASP wrote no vasprun.xml", failure="unfinished", where=str(folder),
                                fix=f"read {log} there")  # fmt: skip
    return None


def potcar(symbol: str) -> str:
    """Return the PAW-PBE potential of an element from the user's library.

    Raises
    ------
    MachineError
        If ``VASP_PP_PATH`` is not set.
    StudyError
        If it has no potential for the element.
    """
    library = os.environ.get("VASP_PP_PATH")
    if not library:
        raise MachineError("VASP_PP_PATH is not set", fix="set it to the folder that holds potpaw_PBE")
    path = Path(library) / "potpaw_PBE" / _POTENTIALS.get(symbol, symbol) / "POTCAR"
    if not path.exists():
        raise StudyError(f"no potential {path}", where=symbol, fix="install the PAW-PBE potentials of VASP there")
    return path.read_text()


code_of_settings = VaspCode


def make(settings: Mapping[str, Any], threads: int, folder: str | Path) -> ProgramEngine:
    """Return the engine; ``threads`` is not used, the command of the settings says how VASP runs in parallel.

    Raises
    ------
    StudyError
        If no command is given.
    """
    return run_with(VaspCode(settings), settings, folder)


def run_with(code: VaspCode, settings: Mapping[str, Any], folder: str | Path) -> ProgramEngine:
    """Return the engine of a code that runs VASP; as ``make``."""
    if settings.get("mode", "run") == "run" and not settings.get("command"):
        raise StudyError(
            "no VASP command", where="config reference.vasp.command",
            fix="set it, for example to 'mpirun -n {tasks} vasp_std'",
        )  # fmt: skip
    return program_engine(code, settings, folder)
