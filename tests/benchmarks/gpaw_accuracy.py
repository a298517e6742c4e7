"""How exact GPAW is at the default settings: forces against a tighter calculation, lattice constants against others'.

``make benchmark-gpaw`` displaces both atoms of primitive silicon and rock salt by 0.03 angstrom and calculates the
forces with the default settings, those of ``profiles/dft`` and tighter ones, then relaxes the crystals with the default
settings.
"""

import sys
import tempfile
import time

import numpy
import yaml
from ase.build import bulk

from phonoscreen.reference.registry import make_engine
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.supercells import random_displacements
from phonoscreen.workflow.settings.check import check_settings
from tests.conftest import ROOT

PBE_ANGSTROM = {"Si": 5.459, "NaCl": 5.714}
"""All-electron lattice constants of PBE, as GPAW's own tests of bulk crystals quote them (NaCl: F. Tran et al., Phys.
Rev. B 75, 115131 (2007))."""
CRYSTALS = {"Si": bulk("Si", "diamond", 5.47), "NaCl": bulk("NaCl", "rocksalt", 5.70)}
TIGHTER = {"cutoff_ev": 800.0, "k_spacing_per_angstrom": 0.2, "k_points": "gamma_centred"}


def settings_of(section, purpose):
    """Settings of an engine from a section of the reference settings."""
    gpaw = {key: section["gpaw"][key] for key in ("model", "command", "cutoff_ev", "k_points", "smearing_ev")}
    return {"engine": "gpaw", **gpaw, "k_spacing_per_angstrom": section["gpaw"][f"k_spacing_{purpose}_per_angstrom"]}


def forces_at(name, settings, folder):
    """Return the forces of a displaced crystal and the seconds that they took."""
    atoms = CRYSTALS[name].copy()
    atoms.positions += random_displacements(1, len(atoms), 0.03, numpy.random.default_rng(3))[0]
    engine = make_engine(settings, 1, folder)
    began = time.monotonic()
    return engine.forces(atoms, f"{name}/moved")[1], time.monotonic() - began


def main(names):
    """Print the measurement."""
    default = check_settings({"reference": {"engine": "gpaw"}})
    profile = yaml.safe_load((ROOT / "profiles/dft/study.yaml").read_text())["reference"]
    profile = check_settings({"reference": {**profile, "calculations": None}})["reference"]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows = {"default": settings_of(default["reference"], "supercell"),
                    "profile dft": settings_of(profile, "supercell")}  # fmt: skip
            rows["tighter"] = {**rows["default"], **TIGHTER}
            found = {label: forces_at(name, settings, folder) for label, settings in rows.items()}
            tight = found["tighter"][0]
            print(f"{name}: forces of {1e3 * numpy.sqrt((tight**2).mean()):.1f} meV/angstrom (root mean square)")
            for label, (forces, seconds) in found.items():
                away = 1e3 * numpy.abs(forces - tight).max()
                print(
                    f"  {label}: largest difference to the tighter one {away:.2f} meV/angstrom, {seconds:.0f} s",
                    flush=True,
                )
            engine = make_engine(settings_of(default["reference"], "relax"), 1, folder)
            outcome = relax_structure(CRYSTALS[name], engine, name, default["relax"], 0.01)
            length, other = outcome.values["lattice_constant_angstrom"], PBE_ANGSTROM[name]
            print(
                f"  lattice constant {length:.4f} angstrom, others {other}: {100 * (length / other - 1):+.2f} %",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or list(CRYSTALS))
