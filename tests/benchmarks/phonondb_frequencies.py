"""Frequencies and verdicts of all compounds of phonondb beside phonopy's from the same files.

``make benchmark-phonondb`` prints the compounds with the largest differences and those near the threshold, and the
summary. Frequencies are compared, and verdicts given, at the wave vectors of the stage ``check_stability`` (mesh and
band path), the three acoustic modes at Gamma left out.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy
import pandas
from threadpoolctl import threadpool_limits

from phonoscreen.formats.displacements import read_born
from phonoscreen.phonons.stability import check_stability
from tests.conftest import reference_folder
from tests.phonondb import archives, fit_compound, of_today, phonopy_of_compound, read_compound, their_points

THRESHOLD_THZ = 0.1
"""Of ``stability.imaginary_threshold_thz``."""

LABELS = {"default": "phonopy's default", "symfc": "phonopy with symfc", "born": "phonopy's default with BORN"}


def compare(name, archive):
    """Largest frequency differences to phonopy's default and to symfc, and the verdicts of both programs."""
    with tempfile.TemporaryDirectory() as folder:
        compound = read_compound(archive, Path(folder))
        crystal, fits = compound.data.crystal, [fit_compound(compound.data, completed) for completed in (True, False)]
        ours = [check_stability(crystal, second, THRESHOLD_THZ) for second in fits]
        theirs = [phonopy_of_compound(compound, calculator) for calculator in (None, "symfc")]
        if (compound.folder / "BORN").exists():
            charges = read_born(compound.folder / "BORN", crystal, compound.unit_cell)
            ours.append(check_stability(crystal, fits[0], THRESHOLD_THZ, charges=charges))
            theirs.append(phonopy_of_compound(compound, born=True))
    qpoints = numpy.concatenate([ours[0].arrays["mesh/qpoints"], ours[0].arrays["band/qpoints"]])
    row = {"compound": name}
    for label, own, phonon in zip(LABELS, ours, theirs):
        phonon.run_qpoints(their_points(qpoints, crystal, phonon))
        mine = numpy.concatenate([own.arrays["mesh/frequencies_thz"], own.arrays["band/frequencies_thz"]])
        both = [without_acoustic(x, qpoints) for x in (mine, of_today(phonon.qpoints.frequencies))]
        row[f"difference_{label}_thz"] = numpy.nanmax(numpy.abs(both[0] - both[1]))
        row[f"lowest_{label}_thz"] = numpy.nanmin(both[1])
        row[f"stable_{label}"] = bool(numpy.nanmin(both[1]) >= -THRESHOLD_THZ)
        row[f"stable_ours_{label}"] = own.stable
    return row


def without_acoustic(frequencies, qpoints):
    """Frequencies in ascending order, NaN for the three smallest at Gamma."""
    rest = frequencies.copy()
    for q in numpy.flatnonzero(numpy.abs(qpoints - numpy.rint(qpoints)).max(axis=1) < 1e-8):
        rest[q, numpy.argsort(numpy.abs(rest[q]))[:3]] = numpy.nan
        rest[q] = numpy.sort(rest[q])
    return rest


def main():
    """Print the comparison; with names of compounds as arguments only of these."""
    folder, started = reference_folder(), time.process_time()
    wanted = archives(folder)
    table = pandas.DataFrame([compare(name, wanted[name]) for name in sys.argv[1:] or wanted])
    for label, program in LABELS.items():
        own = table.dropna(subset=f"difference_{label}_thz")
        difference, stable = own[f"difference_{label}_thz"], own[f"stable_{label}"].astype(bool)
        print(
            f"{program}: {len(own)} compounds, largest frequency difference {difference.max():.1e} THz "
            f"({own['compound'][difference.idxmax()]}), {stable.sum()} stable, {(~stable).sum()} unstable, "
            f"{(stable != own[f'stable_ours_{label}']).sum()} verdicts differ"
        )
    change = (table["lowest_default_thz"] - table["lowest_symfc_thz"]).abs()
    print(f"phonopy's two routes: lowest frequency differs by up to {change.max():.2f} THz "
          f"({table['compound'][change.idxmax()]}), {(table['stable_default'] != table['stable_symfc']).sum()} "
          f"verdicts differ")  # fmt: skip
    print(f"CPU seconds: {time.process_time() - started:.0f}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
