"""Files of LOBSTER: ICOHPLIST.lobster and COHPCAR.lobster, read and written (Maintz et al. 2016)."""

from pathlib import Path

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.cohp import Cohp


def read_lobster(folder):
    """Return the COHP of a finished LOBSTER run, spins summed.

    Parameters
    ----------
    folder : with COHPCAR.lobster and ICOHPLIST.lobster (both may be gzipped)

    Returns
    -------
    Cohp
        The pairs of the run's lobsterin.

    Raises
    ------
    StudyError
        If a file is missing or cannot be read, or the two do not list the same pairs.
    """
    from pymatgen.io.lobster import Cohpcar, Icohplist

    folder = Path(folder)
    paths = [str(_find(folder, name)) for name in ("COHPCAR.lobster", "ICOHPLIST.lobster")]
    try:
        curves = Cohpcar(filename=paths[0])
        pairs = Icohplist(filename=paths[1]).icohpcollection.as_dict()
    except Exception as error:  # the parsers raise whatever a damaged file leads them to
        raise StudyError(
            f"unreadable LOBSTER output: {type(error).__name__}: {error}", where=str(folder), fix="run LOBSTER again"
        ) from error
    data = {label: pair for label, pair in curves.cohp_data.items() if label != "average"}
    labels = pairs["list_labels"]
    if not labels or set(labels) != set(data):
        raise StudyError(
            f"COHPCAR.lobster lists {len(data)} pairs, ICOHPLIST.lobster {len(labels)}",
            where=str(folder),
            fix="take both files from one LOBSTER run",
        )
    sites = list(zip(pairs["list_atom1"], pairs["list_atom2"], strict=True))
    return Cohp(
        energies_ev=numpy.array(curves.energies),
        symbols=numpy.array([[site.rstrip("0123456789") for site in pair] for pair in sites]),
        atoms=numpy.array([[int(site.lstrip(_LETTERS)) - 1 for site in pair] for pair in sites]),
        translations=numpy.array(pairs["list_translation"]),
        distances_angstrom=numpy.array([data[label]["length"] for label in labels]),
        curves=numpy.array([sum(data[label]["COHP"].values()) for label in labels]),
        icohp_ev=numpy.array([sum(strength.values()) for strength in pairs["list_icohp"]]),
    )


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def write_lobster(cohp, folder):
    """Write COHPCAR.lobster and ICOHPLIST.lobster as LOBSTER does without spin polarisation.

    Parameters
    ----------
    cohp : Cohp
    folder : made if it does not exist
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sites = numpy.char.add(cohp.symbols, (cohp.atoms + 1).astype(str))
    rows = ["  COHP#       atomMU       atomNU     distance     translation      ICOHP (at) eF   for spin  1"]
    for number, (pair, length, cell, strength) in enumerate(
        zip(sites, cohp.distances_angstrom, cohp.translations, cohp.icohp_ev, strict=True), start=1
    ):
        shift = " ".join(f"{component:3d}" for component in cell)
        rows.append(f"{number:7d} {pair[0]:>12} {pair[1]:>12} {length:12.5f}     {shift} {strength:18.5f}")
    (folder / "ICOHPLIST.lobster").write_text("\n".join(rows) + "\n")
    step = numpy.diff(cohp.energies_ev)
    running = numpy.concatenate(
        [numpy.zeros((len(cohp.curves), 1)), numpy.cumsum((cohp.curves[:, 1:] + cohp.curves[:, :-1]) / 2 * step, axis=1)],
        axis=1,
    )
    energies = cohp.energies_ev
    lines = [
        "ESCALE ; pCOHP file. Energy is shifted such that the Fermi level lies at 0 eV.",
        f"{len(cohp.curves) + 1:10d} {1:10d} {len(energies):10d} {energies[0]:12.5f} {energies[-1]:12.5f} {0:12.5f}",
        "Average",
    ]
    for number, (pair, length) in enumerate(zip(sites, cohp.distances_angstrom, strict=True), start=1):
        lines.append(f"No.{number}:{pair[0]}->{pair[1]}({length:.6f})")
    table = numpy.empty((2 * len(cohp.curves) + 2, len(energies)))
    table[0], table[1] = cohp.curves.mean(axis=0), running.mean(axis=0)
    table[2::2], table[3::2] = cohp.curves, running
    for energy, values in zip(energies, table.T, strict=True):
        lines.append(" ".join(f"{value:11.5f}" for value in (energy, *values)))
    (folder / "COHPCAR.lobster").write_text("\n".join(lines) + "\n")


def _find(folder, name):
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise StudyError(f"no {name}", where=str(folder), fix="run LOBSTER there, one folder per structure id")
