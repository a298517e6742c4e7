"""Frequencies with Born charges of phonondb's crystals that are not cubic, beside phonopy's from the same files.

``make benchmark-phonondb``. Wave vectors of the supercell, others, and some beside Gamma in random directions. The
sum of phonopy over reciprocal vectors ends at a sphere around Gamma, so it gets the shortest equivalents.
"""

import sys
import tarfile
import tempfile
from pathlib import Path

import numpy
from threadpoolctl import threadpool_limits

from phonoscreen.crystal.supercell import supercell_cells
from phonoscreen.force_constants.finite_displacements import finite_differences
from phonoscreen.formats.displacements import read_born
from phonoscreen.phonons.dipoles import dipole_correction
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from tests.conftest import reference_folder
from tests.phonondb import phonopy_of_compound, read_compound, their_points

STEP = 7
"""Every so many-th compound, by name."""

MOST_ATOMS = 150

KINDS = ("supercell", "between", "beside Gamma")


def compare(archive):
    """Largest difference of any frequency at each kind of wave vector, THz; None for larger supercells."""
    with tempfile.TemporaryDirectory() as folder:
        compound = read_compound(archive, Path(folder))
        data = compound.data
        if data.displacements.shape[1] > MOST_ATOMS:
            return None
        second, _ = finite_differences(data.crystal, data.repetitions, data.displacements, data.forces)
        charges = read_born(compound.folder / "BORN", data.crystal, compound.unit_cell)
        phonon = phonopy_of_compound(compound, born=True)
    rng, cells = numpy.random.default_rng(0), supercell_cells(data.repetitions) / data.repetitions
    fitting = cells[1:][rng.permutation(len(cells) - 1)[:6]]
    differences = []
    for qpoints in (fitting, rng.random((6, 3)) - 0.5, 1e-3 * rng.normal(size=(4, 3))):
        ours = frequencies_thz(DynamicalMatrix(data.crystal, second, dipole_correction(data.crystal, charges)), qpoints)
        phonon.run_qpoints(shortest(their_points(qpoints, data.crystal, phonon), phonon.primitive.cell))
        differences.append(float(numpy.abs(ours - phonon.qpoints.frequencies).max(initial=0.0)))
    return differences


def shortest(qpoints, cell):
    """The shortest equivalent of each wave vector."""
    steps = numpy.array(list(numpy.ndindex(7, 7, 7))) - 3
    images = (qpoints - numpy.rint(qpoints))[:, None] + steps
    lengths = numpy.linalg.norm(images @ numpy.linalg.inv(cell).T, axis=2)
    return images[numpy.arange(len(images)), lengths.argmin(axis=1)]


def with_charges(archive):
    """Whether an archive holds a BORN file."""
    with tarfile.open(archive, "r:xz") as packed:
        return any(name.split("/")[-1] == "BORN" for name in packed.getnames())


def main(step=STEP):
    """Print each compound's differences and the largest."""
    archives = sorted((reference_folder() / "phonondb" / "not_cubic").glob("*.tar.lzma"))[::step]
    rows = []
    for archive in filter(with_charges, archives):
        differences = compare(archive)
        if differences is not None:
            rows.append(differences)
            print(archive.name.split(".")[0], " ".join(f"{x:.1e}" for x in differences), flush=True)
    largest = ", ".join(f"{kind} {x:.1e}" for kind, x in zip(KINDS, numpy.max(rows, axis=0)))
    print(f"{len(rows)} compounds that are not cubic, with BORN: largest frequency difference in THz: {largest}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main(*(int(word) for word in sys.argv[1:]))
