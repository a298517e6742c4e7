"""VASP as reference: writes INCAR, KPOINTS, POSCAR and POTCAR, runs the user's executable, reads vasprun.xml.

VASP is licensed and not part of this project; the user names the command (setting ``reference.vasp.command``) and the
folder of the potentials (environment variable ``VASP_PP_PATH``, as in ASE).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from ase.io import read, write
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import MachineError, StudyError, run_program
from phonoscreen.audit.names import file_name
from phonoscreen.crystal.geometry import check_geometry
from phonoscreen.formats.labelled import read_labelled
from phonoscreen.reference.base import check_results

if TYPE_CHECKING:
    from ase import Atoms

# The recommended PBE potentials of the VASP manual where they are not simply named after the element.
_POTENTIALS = {
    "Li": "Li_sv", "Na": "Na_pv", "K": "K_sv", "Ca": "Ca_sv", "Sc": "Sc_sv", "Ti": "Ti_sv", "V": "V_sv", "Cr": "Cr_pv",
    "Mn": "Mn_pv", "Ga": "Ga_d", "Ge": "Ge_d", "Rb": "Rb_sv", "Sr": "Sr_sv", "Y": "Y_sv", "Zr": "Zr_sv", "Nb": "Nb_sv",
    "Mo": "Mo_sv", "Ru": "Ru_pv", "Rh": "Rh_pv", "In": "In_d", "Sn": "Sn_d", "Cs": "Cs_sv", "Ba": "Ba_sv",
    "Hf": "Hf_pv", "Ta": "Ta_pv", "W": "W_sv", "Tl": "Tl_d", "Pb": "Pb_d", "Bi": "Bi_d",
}  # fmt: skip


def incar(cutoff_ev: float) -> str:
    """Return the INCAR of a single-point calculation with tight forces: PBE, non-magnetic, no +U, no spin-orbit."""
    settings = {
        "GGA": "PE", "PREC": "Accurate", "ENCUT": f"{cutoff_ev:g}", "EDIFF": "1E-8", "NELM": "200", "ISPIN": "1",
        "ISMEAR": "0", "SIGMA": "0.05", "LREAL": ".FALSE.", "LASPH": ".TRUE.", "IBRION": "-1", "NSW": "0",
        "ISIF": "2", "LWAVE": ".FALSE.", "LCHARG": ".FALSE.",
    }  # fmt: skip
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def k_grid(cell: ArrayLike, k_spacing_per_angstrom: float) -> tuple[int, ...]:
    """Return the divisions of a Gamma-centred grid with at most this spacing (2 pi included), (3,) int."""
    reciprocal = 2 * numpy.pi * numpy.linalg.inv(numpy.asarray(cell)).T
    lengths = numpy.linalg.norm(reciprocal, axis=1)
    return tuple(int(n) for n in numpy.maximum(1, numpy.ceil(lengths / k_spacing_per_angstrom - 1e-6)))


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


class VaspEngine:
    """Single-point calculations with VASP, one folder each; a folder with a finished result is not calculated again.

    Parameters
    ----------
    settings : ``command, cutoff_ev, k_spacing_per_angstrom`` of the reference settings, and ``tasks``, the number of
        MPI processes, which ``{tasks}`` in the command stands for
    folder : where the calculations are
    """

    kind, relaxes = "vasp", True

    def __init__(self, settings: Mapping[str, Any], folder: str | Path):
        if not settings.get("command"):
            raise StudyError(
                "no VASP command",
                where="config reference.vasp.command",
                fix="set it, for example to 'mpirun -n {tasks} vasp_std'",
            )
        self._command = settings["command"].replace("{tasks}", str(settings.get("tasks", 1)))
        self._folder = Path(folder)
        self._cutoff_ev, self._k_spacing = settings["cutoff_ev"], settings["k_spacing_per_angstrom"]
        self.name = f"VASP {settings['model']} {self._cutoff_ev:g} eV"

    def write_inputs(self, atoms: Atoms, folder: Path) -> NDArray:
        """Write POSCAR, INCAR, KPOINTS and POTCAR.

        Returns
        -------
        (n_atoms,) order of the atoms in POSCAR (grouped by element)
        """
        folder.mkdir(parents=True, exist_ok=True)
        order = numpy.argsort(atoms.numbers, kind="stable")
        grouped = atoms[order]
        write(folder / "POSCAR", grouped, format="vasp", direct=True, sort=False)
        (folder / "INCAR").write_text(incar(self._cutoff_ev))
        grid = " ".join(map(str, k_grid(atoms.cell, self._k_spacing)))
        (folder / "KPOINTS").write_text(f"Gamma-centred, {self._k_spacing:g} 1/angstrom\n0\nGamma\n{grid}\n0 0 0\n")
        (folder / "POTCAR").write_text("".join(potcar(symbol) for symbol in dict.fromkeys(grouped.symbols)))
        return order

    def evaluate(self, atoms: Atoms, label: str) -> tuple[float, NDArray, NDArray]:
        """Return energy (eV), forces (eV/angstrom) and stress (3, 3) in eV/angstrom^3."""
        check_geometry(atoms, label)
        folder = self._folder.joinpath(*map(file_name, label.split("/")))
        order = self.write_inputs(atoms, folder)
        inputs = "\0".join((folder / name).read_text() for name in ("POSCAR", "INCAR", "KPOINTS"))
        done = folder / "finished"
        if not (done.exists() and done.read_text() == inputs):
            code = run_program(shlex.split(self._command), folder, folder / "vasp.log")
            if code:
                raise StudyError(f"VASP ended with code {code}", where=str(folder), fix="read vasp.log there")
        energy_ev, forces, stress = read_vasprun(folder / "vasprun.xml", len(atoms))
        done.write_text(inputs)
        return energy_ev, forces[numpy.argsort(order)], stress

    def forces(self, atoms: Atoms, label: str) -> tuple[float, NDArray]:
        """Return energy (eV) and forces (n_atoms, 3) in eV/angstrom."""
        return self.evaluate(atoms, label)[:2]


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


def make(settings: Mapping[str, Any], threads: int, folder: str | Path) -> VaspEngine:
    """Return the engine; ``threads`` is not used, the command of the settings says how VASP runs in parallel."""
    return VaspEngine(settings, folder)
