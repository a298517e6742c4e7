"""Compare an engine with outputs of LOBSTER: ``python -m phonoscreen.bonding.validate ENGINE [FOLDER]``.

FOLDER holds one folder per crystal with CONTCAR, COHPCAR.lobster and ICOHPLIST.lobster (all may be gzipped).
"""

import argparse
import gzip
import os
import time
from io import StringIO
from pathlib import Path
from typing import Any

import numpy
from ase.io import read

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.cohp import bonding_and_antibonding
from phonoscreen.bonding.engines import find_cohp
from phonoscreen.bonding.lobster import read_lobster
from phonoscreen.crystal.constants import Crystal


def compare(
    folder: str | Path, engine: str
) -> tuple[list[tuple[str, float, float, float]], tuple[tuple[float, float], tuple[float, float]], float]:
    """Return what LOBSTER and an engine say about one crystal.

    Parameters
    ----------
    folder : with CONTCAR, COHPCAR.lobster and ICOHPLIST.lobster
    engine : as in ``find_cohp``

    Returns
    -------
    bonds : list of (name, length angstrom, ICOHP of LOBSTER eV, ICOHP of the engine eV), shortest first
    descriptors : ((bonding, antibonding) of LOBSTER, (bonding, antibonding) of the engine), eV per pair
    spilling : of the engine
    """
    folder = Path(folder)
    plain = folder / "CONTCAR"
    text = plain.read_text() if plain.exists() else gzip.open(folder / "CONTCAR.gz", "rt").read()
    atoms: Any = read(StringIO(text), format="vasp")
    crystal = Crystal.from_ase(atoms)
    theirs, ours = read_lobster(folder), find_cohp(crystal, folder.name, engine=engine)
    found = ours.bond_types()
    bonds = []
    for name, length, members in theirs.bond_types():
        for other, other_length, other_members in found:
            if other == name and abs(other_length - length) < 0.02:
                bonds.append((name, length, theirs.icohp_ev[members].mean(), ours.icohp_ev[other_members].mean()))
    return bonds, (bonding_and_antibonding(theirs), bonding_and_antibonding(ours)), ours.spilling


def main() -> None:
    """Print the comparison for every crystal as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", nargs="?", default="tblite", choices=["tblite", "gpaw"])
    parser.add_argument("folder", nargs="?", help="default: lobster below the folder PHONOSCREEN_REFERENCE names")
    arguments = parser.parse_args()
    engine, given = arguments.engine, os.environ.get("PHONOSCREEN_REFERENCE")
    root = Path(arguments.folder or (Path(given) / "lobster" if given else ""))
    if not (arguments.folder or given) or not root.is_dir():
        parser.error("no folder of outputs of LOBSTER: name it, or set PHONOSCREEN_REFERENCE")
    print(f"| crystal | bond | length, A | ICOHP LOBSTER, eV | {engine}, eV | ratio |\n|---|---|---|---|---|---|")
    rows = []
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        begin = time.process_time()
        try:
            bonds, descriptors, spilling = compare(path, engine)
        except StudyError as error:
            print(f"| {path.name} | {error.what} | | | | |")
            continue
        for name, length, theirs, ours in [bond for bond in bonds if abs(bond[2]) > 0.01][:4]:
            print(f"| {path.name} | {name} | {length:.3f} | {theirs:.3f} | {ours:.3f} | {ours / theirs:.2f} |")
        rows.append((path.name, *numpy.ravel(descriptors), spilling, time.process_time() - begin))
    print("\n| crystal | bonding LOBSTER | antibonding LOBSTER | bonding | antibonding | spilling | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name, *values, seconds in rows:
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + f" | {seconds:.1f} |")


if __name__ == "__main__":
    main()
