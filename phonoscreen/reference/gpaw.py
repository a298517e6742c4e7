"""GPAW as reference, an open plane-wave PAW code: Mortensen et al., J. Chem. Phys. 160, 092503 (2024)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phonoscreen.reference.base import CalculatorEngine, missing_package


def make(settings: Mapping[str, Any], threads: int, folder: str | Path) -> CalculatorEngine:
    """Return the engine that runs GPAW inside this process.

    Plane waves up to ``cutoff_ev``, Gamma-centred k points, Fermi-Dirac smearing of 0.05 eV, no symmetry of displaced
    cells, tight energies and forces.

    Parameters
    ----------
    settings : ``model`` (functional), ``cutoff_ev, k_spacing_per_angstrom`` of the reference settings
    threads : not used
    folder : where the log is written

    Raises
    ------
    MachineError
        If gpaw is not installed.
    """
    try:
        from gpaw import GPAW, PW, FermiDirac
    except ImportError as error:
        raise missing_package("gpaw", error) from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    calculator = GPAW(
        mode=PW(settings["cutoff_ev"]),
        xc=settings["model"],
        # GPAW's density counts points per reciprocal length without the factor 2 pi.
        kpts={"density": 1 / settings["k_spacing_per_angstrom"], "gamma": True},
        occupations=FermiDirac(0.05),
        symmetry={"point_group": False, "time_reversal": True},
        convergence={"energy": 1e-6, "forces": 1e-3},
        txt=str(folder / "gpaw.txt"),
    )
    return CalculatorEngine("gpaw", f"GPAW {settings['model']} {settings['cutoff_ev']:g} eV", calculator)
