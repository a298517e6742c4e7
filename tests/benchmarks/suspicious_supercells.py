"""How often one faulty supercell among single displacements is found: phonondb's compounds of the reference data.

``python -m tests.benchmarks.suspicious_supercells [COMPOUNDS]``. In turn one supercell's forces change their sign, or
are given in Ry/bohr; a fault counts as found if ``check_labels`` refuses the set. The sets as they are must pass.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from ase.units import Bohr, Rydberg
from threadpoolctl import threadpool_limits

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.mesh import point_group
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.label_checks import check_labels
from tests.conftest import reference_folder
from tests.phonondb import archives, read_compound

FAULTS = {"none": 1.0, "sign of one": -1.0, "one in Ry/bohr": Bohr / Rydberg}
MOST_ATOMS = 150


def judge(archive):
    """Return the kind of crystal and which faults are found, or None for larger supercells."""
    with tempfile.TemporaryDirectory() as folder:
        data = read_compound(archive, Path(folder)).data
    if data.displacements.shape[1] > MOST_ATOMS:
        return None
    matrix = FitMatrix(build_basis(data.crystal, data.repetitions, (None,)))
    found = set()
    for name, factor in FAULTS.items():
        forces = data.forces.copy()
        forces[0] *= factor
        try:
            check_labels(data.crystal, data.displacements, forces, matrix)
        except StudyError:
            found.add(name)
    return ("cubic" if len(point_group(data.crystal)) in (24, 48) else "not cubic"), found


def main():
    """Print the counts for cubic and other crystals."""
    counts = Counter()
    for archive in list(archives(reference_folder()).values())[: int(sys.argv[1]) if sys.argv[1:] else None]:
        with threadpool_limits(1):
            outcome = judge(archive)
        if outcome:
            kind, found = outcome
            counts.update([(kind, "all"), *((kind, name) for name in found)])
    for kind in ("cubic", "not cubic"):
        shown = ", ".join(f"{name} {counts[kind, name]}" for name in FAULTS)
        print(f"{kind}: {counts[kind, 'all']} compounds; refused: {shown}")


if __name__ == "__main__":
    main()
