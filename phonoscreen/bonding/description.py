"""What lobsterpy's automatic analysis says about a crystal (George et al., ChemPlusChem 87, e202200123 (2022))."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.lobster import write_contcar, write_lobster

if TYPE_CHECKING:
    from phonoscreen.bonding.cohp import Cohp
    from phonoscreen.crystal.constants import Crystal


@dataclass
class Description:
    """Result of lobsterpy's analysis.

    Parameters
    ----------
    which_bonds : ``"cation-anion"``, or ``"all"`` where no cation is found
    text : the description in words
    condensed : lobsterpy's condensed analysis: environments, relevant bonds, antibonding states, charges
    """

    which_bonds: str
    text: str
    condensed: dict[str, Any]


def describe(cohp: Cohp, crystal: Crystal, plot: str | Path | None = None) -> Description:
    """Run lobsterpy's automatic analysis on a COHP, with its own settings, through files as LOBSTER writes them.

    Parameters
    ----------
    cohp : with charges; without them all bonds are analysed, not those of cations to anions
    crystal : the crystal that it is of
    plot : file for lobsterpy's plot of the relevant bonds, see ``describe_folder``

    Raises
    ------
    StudyError
        If lobsterpy finds no bond or fails.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_lobster(cohp, folder)
        write_contcar(crystal, folder / "CONTCAR")
        return describe_folder(folder, plot)


def describe_folder(folder: str | Path, plot: str | Path | None = None) -> Description:
    """Run lobsterpy's automatic analysis on a folder with CONTCAR, COHPCAR, ICOHPLIST and CHARGE.

    Parameters
    ----------
    folder : of files that LOBSTER or ``write_lobster`` wrote
    plot : file for lobsterpy's plot of the relevant bonds; with several inequivalent ions ``NAME-0.png`` and so on

    Raises
    ------
    StudyError
        If lobsterpy finds no bond or fails.
    """
    from lobsterpy.coxx.analyze import Analysis
    from lobsterpy.coxx.describe import Description as Words

    folder = Path(folder)
    names = ("CONTCAR", "ICOHPLIST.lobster", "COHPCAR.lobster", "CHARGE.lobster")
    structure, strengths, curves, charges = (_present(folder, name) for name in names)
    for which in ("cation-anion", "all") if charges else ("all",):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = Analysis.from_files(structure, strengths, curves, charges, which_bonds=which)
                words = Words(found)
                text = " ".join(words.text)
                if plot:
                    words.plot_cohps(save=True, filename=str(plot), hide=True, ylim=[-15, 3])
            except Exception as error:  # lobsterpy raises whatever an unusual crystal leads it to
                reason = f"{type(error).__name__}: {str(error)[:300]}"
                continue
        return Description(which, text, found.condensed_bonding_analysis)
    raise StudyError(f"lobsterpy has no analysis: {reason}", where=str(folder), fix="read the table of bonds instead")


def _present(folder, name):
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    return None
