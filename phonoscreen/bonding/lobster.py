"""Files of LOBSTER: ICOHPLIST, COHPCAR and CHARGE, read and written; spilling from lobsterout (Maintz et al. 2016)."""

import gzip
import re
from pathlib import Path

import numpy
from ase import Atoms
from ase.io import write

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.cohp import SPILLING_MENTIONED, Cohp
from phonoscreen.crystal.constants import Crystal
from phonoscreen.formats.compressed import find
from phonoscreen.formats.structure_files import read_crystal

_PAIR = re.compile(r"No\.(\d+):([A-Za-z]+)(\d+)->([A-Za-z]+)(\d+)\(")


def read_lobster(folder: str | Path) -> Cohp:
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
        If a file is missing or cannot be read, is of LOBSTER 2, or the two do not list the same pairs.
    """
    from pymatgen.io.lobster import Cohpcar, Icohplist

    folder = Path(folder)
    paths = [str(_find(folder, name)) for name in ("COHPCAR.lobster", "ICOHPLIST.lobster")]
    _refuse_version_2(paths[1])
    try:
        with gzip.open(paths[0], "rt") if paths[0].endswith(".gz") else open(paths[0]) as lines:
            sites = {match[1]: match.groups()[1:] for match in map(_PAIR.match, lines) if match}
        curves = Cohpcar(filename=paths[0])
        strengths = Icohplist(filename=paths[1]).icohplist
    except Exception as error:  # the parsers raise whatever a damaged file leads them to
        raise _unreadable(folder, error) from error
    data = {label: pair for label, pair in curves.cohp_data.items() if label != "average"}
    labels = sorted(data, key=int)
    if not labels or set(labels) != set(strengths) or not set(labels) <= set(sites):
        raise StudyError(
            f"COHPCAR.lobster lists {len(data)} pairs, {len(set(sites) & set(data))} of them with atoms, "
            f"ICOHPLIST.lobster {len(strengths)}",
            where=str(folder),
            fix="take both files from one LOBSTER run",
        )
    try:
        cohp = _cohp(curves, strengths, data, labels, sites)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise StudyError(f"the pairs of COHPCAR.lobster and ICOHPLIST.lobster do not agree: {str(error)[:300]}",
                         where=str(folder), fix="take both files from one LOBSTER run") from error  # fmt: skip
    n_pairs, n_energies = len(labels), len(cohp.energies_ev)
    shapes = {"energies_ev": (n_energies,), "curves": (n_pairs, n_energies), "icohp_ev": (n_pairs,),
              "below_ev": (n_pairs,), "distances_angstrom": (n_pairs,), "translations": (n_pairs, 3)}  # fmt: skip
    for name, shape in shapes.items():
        values = getattr(cohp, name)
        if values.shape != shape or values.dtype.kind not in "fi" or not numpy.isfinite(values).all():
            raise StudyError(f"{name} of the LOBSTER output are not finite numbers of shape {shape}", where=str(folder),
                             fix="run LOBSTER again")  # fmt: skip
    if not (numpy.diff(cohp.energies_ev) > 0).all() or not (cohp.distances_angstrom > 0).all():
        raise StudyError("energies of COHPCAR.lobster do not ascend, or a bond has no length", where=str(folder),
                         fix="run LOBSTER again")  # fmt: skip
    cohp.spilling, cohp.warnings = _log(folder)
    cohp.mulliken, cohp.loewdin = _charges(folder)
    return cohp


def _refuse_version_2(path):
    """Refuse an ICOHPLIST whose rows have six columns: equal bonds in one row, without their translations."""
    try:
        with gzip.open(path, "rt") if path.endswith(".gz") else open(path) as lines:
            rows = [line.split() for line in lines]
    except (OSError, EOFError, UnicodeDecodeError):
        return  # the parser says what is wrong with it
    if any(len(row) == 6 and row[0].isdigit() for row in rows):
        raise StudyError(
            "ICOHPLIST.lobster is of version 2 of LOBSTER, which does not say between which cells the bonds are",
            where=path, fix="run LOBSTER 3 or later",
        )  # fmt: skip


def _log(folder):
    """Return the absolute charge spilling of lobsterout, the larger of the spins, and what its log warns of.

    Without the file NaN and no warning.
    """
    from pymatgen.io.lobster import Lobsterout

    path = _find(folder, "lobsterout", required=False)
    if path is None:
        return float("nan"), []
    try:
        log = Lobsterout(filename=str(path))
        spilling = float(max(log.charge_spilling))
        said = [" ".join(str(line).split()) for line in log.warning_lines or []]
    except Exception as error:  # the parser raises whatever a damaged file leads it to
        raise _unreadable(folder, error) from error
    warnings = [f"LOBSTER: {line.removeprefix('WARNING: ')}" for line in said if "could not be orthonormalized" in line]
    if spilling > SPILLING_MENTIONED:
        warnings.insert(
            0, f"{spilling:.1%} of the occupied bands lie outside LOBSTER's basis: ICOHP may be a quarter off"
        )
    return spilling, warnings


def _charges(folder):
    """Return Mulliken and Loewdin charges of CHARGE.lobster, or two times None without the file."""
    from pymatgen.io.lobster import Charge

    path = _find(folder, "CHARGE.lobster", required=False)
    if path is None:
        return None, None
    try:
        charges = Charge(filename=str(path))
        return numpy.array(charges.mulliken, float), numpy.array(charges.loewdin, float)
    except Exception as error:  # as above
        raise _unreadable(folder, error) from error


def crystal_of_outputs(folder: str | Path) -> Crystal | None:
    """Return the crystal of a folder of LOBSTER's outputs, from its CONTCAR or POSCAR; None without one.

    LOBSTER counts the atoms in their order, which need not be that of the crystal in a study.

    Raises
    ------
    StudyError
        If the file is no crystal.
    """
    for name in ("CONTCAR", "POSCAR"):
        path = find(Path(folder), name)
        if path is not None:
            return Crystal.from_ase(read_crystal(path))
    return None


def _unreadable(folder, error):
    return StudyError(
        f"unreadable LOBSTER output: {type(error).__name__}: {str(error)[:300]}",
        where=str(folder),
        fix="run LOBSTER again",
    )


def _cohp(curves, strengths, data, labels, sites):
    """``Cohp`` from pymatgen's objects, spins summed."""
    spins = list(data[labels[0]]["COHP"])
    return Cohp(
        energies_ev=numpy.array(curves.energies),
        symbols=numpy.array([sites[label][0::2] for label in labels]),
        atoms=numpy.array([[int(number) - 1 for number in sites[label][1::2]] for label in labels]),
        translations=numpy.array([strengths[label]["translation"] for label in labels]),
        distances_angstrom=numpy.array([data[label]["length"] for label in labels]),
        curves=numpy.array([sum(data[label]["COHP"][spin] for spin in spins) for label in labels]),
        icohp_ev=numpy.array([sum(strengths[label]["icohp"].values()) for label in labels]),
        below_ev=numpy.array([sum(data[label]["ICOHP"][spin][0] for spin in spins) for label in labels]),
    )


def write_lobster(cohp: Cohp, folder: str | Path) -> None:
    """Write COHPCAR, ICOHPLIST and (where the charges are known) CHARGE as LOBSTER does without spin polarisation.

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
    panels = (cohp.curves[:, 1:] + cohp.curves[:, :-1]) / 2 * numpy.diff(cohp.energies_ev)
    running = numpy.cumsum(numpy.column_stack([cohp.below_ev, panels]), axis=1)
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
    if cohp.mulliken is not None and cohp.loewdin is not None:
        _write_charges(cohp, folder / "CHARGE.lobster")


def write_contcar(crystal: Crystal, path: str | Path) -> None:
    """Write the crystal of a COHP as CONTCAR.

    Coordinates are direct and without the noise of their last digits: an atom at -1e-17 is read back on the other side
    of the cell, where the analysis of neighbours no longer finds the bonds that ICOHPLIST lists.
    """
    positions = numpy.round(crystal.scaled_positions, 10) + 0.0
    write(path, Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=positions, pbc=True), format="vasp",
          direct=True)  # fmt: skip


def _write_charges(cohp, path):
    names = dict(zip(cohp.atoms.ravel().tolist(), cohp.symbols.ravel().tolist(), strict=True))
    lines = [
        "MULLIKEN and LOEWDIN POPULATION ANALYSIS",
        "",
        "  atom#    atom      Mulliken charge       Loewdin charge",
    ]
    for atom, (mulliken, loewdin) in enumerate(zip(cohp.mulliken, cohp.loewdin, strict=True)):
        lines.append(f"{atom + 1:7d} {names[atom]:>7} {mulliken:20.2f} {loewdin:20.2f}")
    total = f"{cohp.mulliken.sum():20.2f} {cohp.loewdin.sum():20.2f}"
    path.write_text("\n".join([*lines, "", f"          total {total}"]) + "\n")


def _find(folder, name, required=True):
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    if not required:
        return None
    raise StudyError(f"no {name}", where=str(folder), fix="run LOBSTER there, one folder per structure id")
