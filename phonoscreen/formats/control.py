"""The CONTROL file of ShengBTE and FourPhonon.

Formats: W. Li, J. Carrete, N. A. Katcho, N. Mingo, Comput. Phys. Commun. 185, 1747 (2014), and the manuals of
ShengBTE 1.5 and FourPhonon 1.2 (Z. Han et al., Comput. Phys. Commun. 270, 108179 (2022)).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.masses import standard_masses
from phonoscreen.crystal.sizes import check_size
from phonoscreen.crystal.symmetry import TOLERANCE_ANGSTROM, symmetrise
from phonoscreen.formats.control_entries import Entries
from phonoscreen.phonons.dipoles import check_charges
from phonoscreen.transport.nanowires import Nanowires

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS = {"nonanalytic": True, "convergence": True, "isotopes": True, "autoisotopes": True, "nanowires": False,
          "onlyharmonic": False, "espresso": False}  # fmt: skip

_TEMPERATURES_MAX = 1000
_ORIENTATIONS_MAX = 1000
_RADII_MAX = 1000


@dataclass
class Control:
    """What a CONTROL file asks for.

    Attributes
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``; standard masses unless the file gives them
    mesh : (3,) integers
    repetitions : (3,) integers of the second-order supercell
    temperatures_k : tuple
    scalebroad : factor on the broadening
    iterations_max, tolerance : of the full solution
    epsilon, born : dielectric tensor (3, 3) and Born charges (n_atoms, 3, 3), or None
    mass_variances : (n_atoms,) given in the file, or None for natural isotopes
    flags : dict of booleans ``nonanalytic, convergence, isotopes, autoisotopes, onlyharmonic, espresso, nanowires``
    mean_free_paths_nm : (n,) ticks of the cumulative conductivity
    n_ticks : number of frequency ticks
    omega_max : modes above it have no three-phonon processes of their own, rad/ps, or None
    nanowires : ``phonoscreen.transport.nanowires.Nanowires``, or None
    notes : what the file gives that has no effect, one sentence each
    """

    crystal: Crystal
    mesh: tuple
    repetitions: tuple
    temperatures_k: tuple
    scalebroad: float = 1.0
    iterations_max: int = 1000
    tolerance: float = 1e-5
    epsilon: numpy.ndarray | None = None
    born: numpy.ndarray | None = None
    mass_variances: numpy.ndarray | None = None
    flags: dict = field(default_factory=dict)
    mean_free_paths_nm: numpy.ndarray = field(default_factory=lambda: numpy.geomspace(0.01, 1e6, 100))
    n_ticks: int = 100
    omega_max: float | None = None
    nanowires: Nanowires | None = None
    notes: list = field(default_factory=list)


def read_control(path: str | Path, *, mesh: Iterable[int] | None = None, memory_gib: float = 4.0) -> Control:
    """Read ShengBTE's CONTROL file.

    Parameters
    ----------
    path : text file
    mesh : (3,) integers instead of ngrid, or None
    memory_gib : sizes that need more are refused before anything is allocated

    Returns
    -------
    Control

    Raises
    ------
    StudyError
        If an entry is unknown, misplaced, repeated, missing, of the wrong kind, outside its limits, asks for what is
        not computed, or contradicts another entry.
    """
    entries = Entries(path)
    entries.refuse_not_done()
    sizes = {name: entries.number(name, at_least=1) for name in ("natoms", "nelements")}
    sizes["norientations"] = entries.number("norientations", 0, at_least=0)
    ticks = entries.number("nticks", 100, at_least=1)
    temperatures = _temperatures(entries)
    grid = tuple(entries.array("ngrid", (3,)).tolist()) if mesh is None else tuple(mesh)
    repetitions = tuple(entries.array("scell", (3,)).tolist())
    if min(*grid, *repetitions) < 1:
        name = "ngrid" if min(grid) < 1 else "scell"
        raise entries.error(name, f"{name} is not three counts above 0: {grid if name == 'ngrid' else repetitions}")
    check_size(sizes["natoms"], grid, repetitions=repetitions, n_temperatures=len(temperatures), n_ticks=ticks,
               memory_gib=memory_gib, where=str(path))  # fmt: skip
    if sizes["nelements"] > sizes["natoms"]:
        raise entries.error("nelements", f"nelements = {sizes['nelements']} is more than natoms = {sizes['natoms']}")
    if sizes["norientations"] > _ORIENTATIONS_MAX:
        raise entries.error("norientations", f"{sizes['norientations']} orientations; at most {_ORIENTATIONS_MAX}")
    entries.sizes = sizes
    flags = {name: entries.value(name, default) for name, default in _FLAGS.items()}
    crystal, variances = _crystal(entries, flags)
    epsilon, born = _charges(entries, flags)
    if born is not None:
        check_charges(crystal, born, epsilon, where=str(path))
    return Control(
        crystal=crystal, mesh=grid, repetitions=repetitions, temperatures_k=temperatures,
        scalebroad=entries.number("scalebroad", 1.0, above=0),
        iterations_max=entries.number("maxiter", 1000, at_least=1), tolerance=entries.number("eps", 1e-5, above=0),
        epsilon=epsilon, born=born, mass_variances=variances, flags=flags,
        mean_free_paths_nm=numpy.geomspace(0.01, 1e6, ticks), n_ticks=ticks,
        omega_max=entries.number("omega_max", math.inf, above=0) if entries.given("omega_max") else None,
        nanowires=_nanowires(entries, flags, crystal), notes=entries.notes,
    )  # fmt: skip


def _crystal(entries, flags):
    """Crystal and mass variances (or None) of a CONTROL file."""
    types = entries.array("types") - 1
    if types.min() < 0 or types.max() >= entries.sizes["nelements"]:
        raise entries.error("types", f"types {(types + 1).tolist()} name elements outside "
                            f"1..{entries.sizes['nelements']}", "correct types or nelements")  # fmt: skip
    names = entries.array("elements")
    numbers = numpy.array([_atomic_number(names[kind], entries, flags["autoisotopes"]) for kind in types])
    cell = entries.array("lattvec").T * entries.number("lfactor", 1.0, above=0) * 10.0
    if not 1e-3 < abs(numpy.linalg.det(cell)) < 1e9:
        raise entries.error("lattvec", f"the cell has a volume of {abs(numpy.linalg.det(cell)):.3g} A^3",
                            "give lattvec in units of lfactor, which is in nm")  # fmt: skip
    masses, variances = standard_masses(numbers), None
    if flags["autoisotopes"]:
        for name in ("masses", "gfactors"):
            if entries.given(name):
                entries.notes.append(f"{name} of CONTROL are not used, because autoisotopes is on (as in ShengBTE)")
    else:
        if not entries.given("masses") or (flags["isotopes"] and not entries.given("gfactors")):
            raise entries.error("autoisotopes", "autoisotopes is off, but masses or gfactors are missing",
                                "add masses and gfactors, or set autoisotopes=.TRUE.")  # fmt: skip
        masses = entries.array("masses")[types]
        variances = entries.array("gfactors")[types] if entries.given("gfactors") else numpy.zeros(len(types))
        if not (0.1 < masses.min() and masses.max() < 1000 and 0 <= variances.min() and variances.max() < 1):
            raise entries.error("masses", f"masses {masses.tolist()} or gfactors {variances.tolist()} of no atom",
                                "give masses in g/mol, and gfactors from 0 to 1")  # fmt: skip
    given = Crystal(cell, entries.array("positions").T, numbers, masses)
    # CONTROL is often rounded to five decimals, and the images that share a force constant are those at equal distances
    return symmetrise(given, TOLERANCE_ANGSTROM), variances


def _atomic_number(name, entries, natural):
    from ase.data import atomic_numbers

    name = name.strip()
    # a label such as Fe1 may have a mass of its own; a natural mass needs the symbol
    symbol = (name if natural else "".join(re.findall("^[A-Za-z]+", name))).capitalize()
    if symbol not in atomic_numbers or atomic_numbers[symbol] == 0:
        raise entries.error("elements", f"unknown element {name!r}", "use chemical symbols in elements")
    return atomic_numbers[symbol]


def _charges(entries, flags):
    """Dielectric tensor and Born charges as (3, 3) and (n_atoms, 3, 3), or None twice."""
    epsilon, born = entries.read("epsilon"), entries.read("born")
    known = flags["nonanalytic"]
    if not known:
        if born is not None:
            entries.notes.append("epsilon and born of CONTROL are not used, because nonanalytic is off")
        return None, None
    filled = numpy.zeros((3, 3, entries.sizes["natoms"]))
    if born is not None:
        filled[born != None] = born[born != None].astype(float)  # noqa: E711
    if not filled.any():
        flags["nonanalytic"] = False
        if epsilon is not None:
            entries.notes.append("no Born charges in CONTROL: no long-range forces, as in ShengBTE")
        return None, None
    diagonal = [None] * 3 if epsilon is None else epsilon.diagonal().tolist()
    if None in diagonal:
        raise entries.error("epsilon", "Born charges are given, but not the diagonal of the dielectric tensor epsilon",
                            "add epsilon to &crystal, or set nonanalytic=.FALSE.")  # fmt: skip
    tensor = numpy.where(epsilon == None, 0.0, epsilon).astype(float)  # noqa: E711
    tensor, filled = tensor.T, filled.transpose(2, 0, 1)
    bare = [k + 1 for k in range(len(filled)) if not filled[k].any()]
    if bare:
        entries.notes.append(f"Born charges of atoms {bare} are zero or not given")
    return tensor, filled


def _nanowires(entries, flags, crystal):
    """Nanowires, or None if they are off; what the file says about them is checked in either case."""
    radii = {"rmin": 5.0, "rmax": 505.0, "dr": 100.0}
    low, high, step = (entries.value(name, default) for name, default in radii.items())
    if not (0 < low < high and step > 0):
        raise entries.error("rmin", f"radii {low:g} to {high:g} nm in steps of {step:g}",
                            "give rmin and dr above 0, and rmax above rmin")  # fmt: skip
    count = entries.sizes["norientations"]
    if count and (flags["nanowires"] or entries.given("orientations")):
        indices = entries.array("orientations")
        if not indices.any(axis=0).all():
            raise entries.error("orientations", "an orientation is zero")
    if not flags["nanowires"]:
        return None
    if not count:
        raise entries.error("nanowires", "nanowires is on, but norientations is 0", "add orientations to &crystal")
    if flags["onlyharmonic"]:
        entries.notes.append("nanowires of CONTROL has no effect, because onlyharmonic is on")
    if (high - low) / step > _RADII_MAX:
        raise entries.error("dr", f"{low:g} to {high:g} nm in steps of {step:g} are more than {_RADII_MAX} radii")
    axes = indices.T @ crystal.cell
    steps = numpy.arange(max(1, math.floor((high - low) / step + 1e-9)))  # rmax itself is left out, as in ShengBTE
    return Nanowires(axes / numpy.linalg.norm(axes, axis=1)[:, None], 2 * (low + step * steps))


def _temperatures(entries):
    """Temperatures as ShengBTE counts them: T alone, or T_min to T_max in steps of T_step."""
    single = entries.value("t", 0.0)
    if single > 0:
        if entries.given("t_min"):
            entries.notes.append("T_min, T_max and T_step of CONTROL are not used, because T is given (as in ShengBTE)")
        return (single,)
    if not entries.given("t_min"):
        what = f"T = {single:g} K must be above 0" if entries.given("t") else "no temperature: T is missing"
        raise entries.error("t", what, "add T, or T_min, T_max and T_step")
    low, high, step = (entries.number(name, above=0) for name in ("t_min", "t_max", "t_step"))
    if high < low:
        raise entries.error("t_max", f"temperatures {low:g} to {high:g} K", "correct T_min and T_max")
    if (high - low) / step >= _TEMPERATURES_MAX:
        raise entries.error("t_step", f"{low:g} to {high:g} K in steps of {step:g} are more than {_TEMPERATURES_MAX} "
                            "temperatures")  # fmt: skip
    count = math.ceil((high - low) / step - 1e-9) + 1
    found = [low + k * step for k in range(count)]
    if found[-1] > high + 1.0:  # the last step is cut at T_max; one that misses it by up to 1 K is left out
        found[-1] = high
    return tuple(t for t in found if t <= high + 1e-9 * high)
