"""How exact GPAW is at the default settings: forces against a tighter calculation, lattice constants against others'.

``make benchmark-gpaw`` displaces an atom of primitive silicon and rock salt by 0.03 angstrom and calculates the
forces with the default settings, those of ``profiles/dft`` and tighter ones, then relaxes the crystals with the default
settings.
"""

import resource
import sys
import tempfile

import numpy
import yaml
from ase.build import bulk
from ase.collections import dcdft

from phonoscreen.reference.registry import make_engine
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.workflow.inputs import engine_settings
from phonoscreen.workflow.settings.check import check_settings
from tests.conftest import ROOT

PBE_ANGSTROM = {"Si": (8 * dcdft.data["Si"]["wien2k_volume"]) ** (1 / 3), "NaCl": 5.714}
"""All-electron lattice constants of PBE. Si: 5.4695 angstrom, from the volume per atom of WIEN2k in the delta project
(K. Lejaeghere et al., Science 351, aad3000 (2016)), 20.453 angstrom^3, as ASE keeps it; the volume of a later
comparison (E. Bosoni et al., Nat. Rev. Phys. 6, 45 (2024)), 20.457 angstrom^3 in ``gpaw.utilities.acwf``, gives
5.4699. NaCl: WIEN2k of K. F. Garrity et al., Comput. Mater. Sci. 81, 446 (2014), where VASP and two sets of
pseudopotentials have 5.701, 5.701, 5.696.
"""
CRYSTALS = {"Si": bulk("Si", "diamond", 5.47), "NaCl": bulk("NaCl", "rocksalt", 5.70)}
DISPLACED_ANGSTROM = {"Si": [0.03 / 3**0.5] * 3, "NaCl": [0.03, 0.0, 0.0]}
"""Of the first atom, along an axis that keeps some symmetry, so that the tighter calculation ends within minutes."""
TIGHTER = {"cutoff_ev": 800.0, "k_spacing_per_angstrom": 0.25, "k_points": "gamma_centred"}


def forces_at(name, settings, folder):
    """Return the forces of a displaced crystal and the CPU seconds that they took."""
    atoms = CRYSTALS[name].copy()
    atoms.positions[0] += DISPLACED_ANGSTROM[name]
    began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    forces = make_engine(settings, 1, folder).forces(atoms, f"{name}/moved")[1]
    return forces, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began


def main(names):
    """Print the measurement."""
    default = check_settings({"reference": {"engine": "gpaw"}})
    profile = yaml.safe_load((ROOT / "profiles/dft/study.yaml").read_text())["reference"]
    profile = check_settings({"reference": {**profile, "calculations": None}})["reference"]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows = {"default": engine_settings(default["reference"], "supercell"),
                    "profile dft": engine_settings(profile, "supercell")}  # fmt: skip
            rows["tighter"] = {**rows["default"], **TIGHTER}
            found = {label: forces_at(name, settings, folder) for label, settings in rows.items()}
            tight = found["tighter"][0]
            print(f"{name}: forces of {1e3 * numpy.sqrt((tight**2).mean()):.1f} meV/angstrom (root mean square)")
            for label, (forces, seconds) in found.items():
                away = 1e3 * numpy.abs(forces - tight).max()
                print(
                    f"  {label}: largest difference to the tighter one {away:.2f} meV/angstrom, {seconds:.0f} CPU s",
                    flush=True,
                )
            engine = make_engine(engine_settings(default["reference"], "relax"), 1, folder)
            outcome = relax_structure(CRYSTALS[name], engine, name, default["relax"], 0.01)
            length, other = outcome.values["lattice_constant_angstrom"], PBE_ANGSTROM[name]
            print(
                f"  lattice constant {length:.4f} angstrom, all-electron {other:.4f}, {length / other - 1:+.2%}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or list(CRYSTALS))
