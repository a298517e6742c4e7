"""The kept DFT labels (GPAW, PBE) and the published model beside phonondb's force constants (VASP, PBEsol).

``make benchmark-dft-phonondb`` takes every compound that both have, by composition and structure. Force constants of
the labels come from all atoms displaced in a small supercell, phonondb's from single displaced atoms in a larger one;
they are compared at the wave vectors that both supercells hold, the acoustic modes at Gamma left out. The published
model predicts the forces of phonondb's own supercells. The functionals differ: PBE has longer bonds, softer phonons.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy
import pandas
from ase import Atoms
from threadpoolctl import threadpool_limits

from phonoscreen.analysis.metrics import frequency_error
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.geometry import distance_fingerprint, same_crystal
from phonoscreen.forcefield.publish import default_model_path, load_published
from phonoscreen.formats.displacements import DisplacedSupercells
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from phonoscreen.stages.one_crystal import Choices, determine
from phonoscreen.structures.formulas import composition
from phonoscreen.structures.packed_labels import read_product
from tests.benchmarks.real_dft import committee_forces
from tests.conftest import ROOT, reference_folder
from tests.phonondb import archives, fit_compound, read_compound

LABELS = ROOT / "resources/labels/dft_labels.h5"


def atoms_of(crystal):
    """The crystal as ``ase.Atoms``."""
    return Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)


def spectrum(crystal, second, repetitions):
    """Frequencies (n_q, n_band) at the wave vectors of a supercell, in an order that no choice of the cell changes."""
    qpoints = numpy.array(list(numpy.ndindex(*repetitions))) / numpy.array(repetitions)
    found = frequencies_thz(DynamicalMatrix(crystal, second), qpoints)
    found[0] = numpy.sort(numpy.where(numpy.argsort(numpy.argsort(numpy.abs(found[0]))) < 3, 0.0, found[0]))
    return found[numpy.argsort((found**2).sum(axis=1).round(6))]


def counterpart(formula, atoms, catalogue, folder):
    """phonondb's compound of the same structure, or None."""
    wanted, fingerprint = composition(formula), distance_fingerprint(atoms)
    known = archives(reference_folder())
    for row in catalogue[[composition(one) == wanted for one in catalogue["formula"]]].itertuples():
        name = row.file.split(".")[0].removeprefix("materials-id-")
        place = folder / name
        place.mkdir()
        compound = read_compound(known[name], place)
        if same_crystal(fingerprint, distance_fingerprint(atoms_of(compound.data.crystal))):
            return compound.data
    return None


def compare(record, arrays, data, committee):
    """One row of the table."""
    crystal = Crystal.from_ase(
        Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
    )
    repetitions = tuple(int(n) for n in arrays["repetitions"])
    labelled = DisplacedSupercells(crystal, repetitions, arrays["displacements"], arrays["forces"])
    theirs = spectrum(data.crystal, fit_compound(data), repetitions)
    ours = spectrum(crystal, determine(labelled, Choices()).second, repetitions)
    predicted = fit_compound(replace(data, forces=committee_forces(committee, data)))
    model = spectrum(data.crystal, predicted, repetitions)
    volumes = [abs(numpy.linalg.det(one.cell)) for one in (crystal, data.crystal)]
    moving = theirs > 0.1
    return {
        "compound": record["formula"], "supercell": "x".join(map(str, repetitions)),
        "length_percent": 100 * ((volumes[0] / volumes[1]) ** (1 / 3) - 1), "range_thz": float(numpy.ptp(theirs)),
        "dft_percent": 100 * frequency_error(theirs, ours)[2],
        "dft_ratio": float((ours[moving] / theirs[moving]).mean()),
        "model_percent": 100 * frequency_error(theirs, model)[2],
    }  # fmt: skip


def main():
    """Print the comparison."""
    catalogue = pandas.read_csv(reference_folder() / "phonondb/catalogue.csv")
    (committee, *_), rows = load_published(default_model_path()), []
    _, labelled = read_product(LABELS)
    for record, arrays in labelled:
        atoms = Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
        with tempfile.TemporaryDirectory() as folder:
            data = counterpart(record["formula"], atoms, catalogue, Path(folder))
            if data is not None:
                rows.append(compare(record, arrays, data, committee))
    table = pandas.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.2f"))
    labels, model, ratio = (table[name].mean() for name in ("dft_percent", "model_percent", "dft_ratio"))
    print(f"{len(table)} of {len(labelled)} compounds; mean error of frequencies over their range: labels {labels:.1f}"
          f" %, published model {model:.1f} %; the labels' frequencies are {ratio:.3f} of phonondb's")  # fmt: skip


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
