"""A folder of ShengBTE: force constants beside CONTROL, and the writing of all its files.

Formats: W. Li, J. Carrete, N. A. Katcho, N. Mingo, Comput. Phys. Commun. 185, 1747 (2014), and the manual of ShengBTE.
The file CONTROL is read by ``phonoscreen.formats.control``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.masses import standard_masses
from phonoscreen.formats.compressed import find
from phonoscreen.formats.espresso import check_espresso_crystal, read_espresso
from phonoscreen.formats.force_constants import (
    exchange_asymmetry,
    read_second_order,
    read_third_order,
    write_second_order,
    write_third_order,
)
from phonoscreen.phonons.dynamical_matrix import LARGEST_ASYMMETRY
from phonoscreen.transport.isotopes import mass_variances

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
    from phonoscreen.formats.control import Control


def read_force_constants(folder: str | Path, control: Control) -> tuple[SecondOrder, ThirdOrder | None, float | None]:
    """Read the force constants that stand beside a CONTROL file (plain or compressed with xz or gzip).

    Returns
    -------
    second : SecondOrder
    third : ThirdOrder, or None where CONTROL asks for harmonic properties only
    alat_angstrom : lattice parameter celldm(1) of espresso.ifc2, or None
    """
    folder = Path(folder)
    n, alat = len(control.crystal.numbers), None
    if control.flags["espresso"]:
        path = existing(folder, "espresso.ifc2")
        second, alat = read_espresso(path, n, control.repetitions)
        check_espresso_crystal(path, control.crystal)
    else:
        path = existing(folder, "FORCE_CONSTANTS_2ND")
        second = read_second_order(path, n, control.repetitions)
        asymmetry = exchange_asymmetry(second)
        if asymmetry > LARGEST_ASYMMETRY:
            raise StudyError(
                f"{path} changes by {100 * asymmetry:.0f} % of its largest constant when two atoms are exchanged: it "
                f"is not for the supercell {' x '.join(map(str, control.repetitions))} of this cell",
                where="transport", fix="correct scell of CONTROL, or the order of the atoms in positions and types",
            )  # fmt: skip
    third = None
    if not control.flags["onlyharmonic"]:
        third = read_third_order(existing(folder, "FORCE_CONSTANTS_3RD"), control.crystal.cell, n)
    return second, third, alat


def existing(folder: Path, name: str) -> Path:
    """Return the path of a file of a folder, plain or compressed with xz, gzip or bzip2."""
    path = find(folder, name)
    if path is not None:
        return path
    raise StudyError(f"{folder / name} does not exist", where="transport", fix="copy it beside CONTROL")


def write_directory(
    crystal: Crystal,
    second: SecondOrder,
    third: ThirdOrder,
    folder: str | Path,
    *,
    mesh: Iterable[int],
    temperature_k: float,
    scalebroad: float = 1.0,
    isotopes: bool = True,
    born: NDArray | None = None,
    epsilon: ArrayLike | None = None,
    iterations_max: int = 1000,
    tolerance: float = 1e-5,
) -> None:
    """Write CONTROL, FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD: a folder that ShengBTE runs in.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    second, third : ``SecondOrder`` and ``ThirdOrder``
    folder : made if it does not exist
    mesh : (3,) integers
    temperature_k : kelvin
    scalebroad, isotopes, iterations_max, tolerance : as in ``phonoscreen.transport.solve.Settings``
    born, epsilon : (n_atoms, 3, 3) and (3, 3), both or neither
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_control(crystal, folder / "CONTROL", repetitions=second.repetitions, mesh=mesh, temperature_k=temperature_k,
                  scalebroad=scalebroad, isotopes=isotopes, born=born, epsilon=epsilon, iterations_max=iterations_max,
                  tolerance=tolerance)  # fmt: skip
    write_second_order(second, folder / "FORCE_CONSTANTS_2ND")
    write_third_order(third, crystal.cell, folder / "FORCE_CONSTANTS_3RD")


def write_control(
    crystal: Crystal,
    path: str | Path,
    *,
    repetitions: Iterable[int],
    mesh: Iterable[int],
    temperature_k: float = 300.0,
    scalebroad: float = 1.0,
    isotopes: bool = True,
    born: NDArray | None = None,
    epsilon: ArrayLike | None = None,
    iterations_max: int = 1000,
    tolerance: float = 1e-5,
    onlyharmonic: bool = False,
) -> None:
    """Write CONTROL; masses that are not the standard ones are written out.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    path : text file
    repetitions : (3,) integers of the supercell of the second-order force constants
    onlyharmonic : no third-order force constants stand beside it
    mesh, temperature_k, scalebroad, isotopes, born, epsilon, iterations_max, tolerance : as in ``write_directory``
    """
    from ase.data import chemical_symbols

    atoms = list(zip(numpy.asarray(crystal.numbers).tolist(), numpy.asarray(crystal.masses, float).tolist()))
    kinds = list(dict.fromkeys(atoms))
    standard = standard_masses([number for number, _ in kinds])
    natural = numpy.allclose(standard, [mass for _, mass in kinds], rtol=1e-6)
    symbols = " ".join(f'"{chemical_symbols[number]}"' for number, _ in kinds)
    lines = ["&allocations", f"  nelements={len(kinds)}", f"  natoms={len(atoms)}", f"  ngrid(:)={_join(mesh)}", "&end",
             "&crystal", "  lfactor=0.1"]  # fmt: skip
    lines += [f"  lattvec(:,{i})={_join(vector)}" for i, vector in enumerate(crystal.cell, 1)]
    lines += [f"  elements={symbols}", f"  types={_join(kinds.index(atom) + 1 for atom in atoms)}"]
    if not natural:
        variances = mass_variances(*zip(*kinds)) if isotopes else numpy.zeros(len(kinds))
        lines += [f"  masses={_join(mass for _, mass in kinds)}", f"  gfactors={_join(variances)}"]
    lines += [f"  positions(:,{i})={_join(point)}" for i, point in enumerate(crystal.scaled_positions, 1)]
    if born is not None:
        lines += [f"  epsilon(:,{i})={_join(row)}" for i, row in enumerate(numpy.asarray(epsilon).T, 1)]
        lines += [
            f"  born(:,{j},{a})={_join(numpy.asarray(charge)[:, j - 1])}"
            for a, charge in enumerate(born, 1) for j in (1, 2, 3)
        ]  # fmt: skip
    lines += [f"  scell(:)={_join(repetitions)}", "&end", "&parameters", f"  T={temperature_k:g}",
              f"  scalebroad={scalebroad:g}", f"  maxiter={iterations_max}", f"  eps={tolerance:g}", "&end", "&flags",
              f"  nonanalytic={_logical(born is not None)}", f"  isotopes={_logical(isotopes)}",
              "  nanowires=.FALSE."]  # fmt: skip
    lines += [] if natural else ["  autoisotopes=.FALSE."]
    lines += ["  onlyharmonic=.TRUE."] if onlyharmonic else []
    lines += ["&end", ""]
    Path(path).write_text("\n".join(lines))


def _join(values):
    return " ".join(f"{value:.12g}" for value in values)


def _logical(value):
    return ".TRUE." if value else ".FALSE."
