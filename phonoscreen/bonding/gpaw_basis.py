"""Atomic orbitals of GPAW's calculations, and which of them make up the minimal basis.

The crystal is solved in GPAW's own double-zeta basis with three changes. In hydrogen and the p block, whose orbitals
LOBSTER takes from the free atom, the confinement of GPAW's orbitals (0.1 eV) shortens the tails of anions; they are
generated again with 0.01 eV. The s orbital of an alkali metal, which is empty in most crystals and reaches across
several cells, is generated with 0.3 eV and has no second zeta. A shell that is empty in the free atom has one function
and only if that ends within 12 Bohr; a polarisation function takes its place otherwise. More makes the basis
over-complete and a calculation ten times as long.

The minimal basis follows from the element alone: the shells that hold electrons in the free atom, the outermost s
shell, and for lithium and beryllium the outermost p shell, as in the bases that LOBSTER recommends.
"""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING

from ase.data import atomic_numbers, chemical_symbols

if TYPE_CHECKING:
    from gpaw.basis_data import Basis

FREE_ATOM_SHIFT_EV = 0.01
CONFINED_SHIFT_EV = 0.1
ALKALI_SHIFT_EV = 0.3
REACH_OF_EMPTY_SHELLS_BOHR = 12.0
ALKALI_METALS = ("Li", "Na", "K", "Rb", "Cs")
WITH_OUTERMOST_P = ("Li", "Be")
_P_BLOCK = (range(5, 10), range(13, 18), range(31, 36), range(49, 54), range(81, 84))
_ORBITAL = re.compile(r"(\d)([spdf])-(sz|dz)")

Shell = tuple[int, int]
"""Principal quantum number and angular momentum."""


@cache
def shells_of(symbol: str) -> dict[Shell, float]:
    """Return the valence shells of GPAW's PBE data set and the electrons that the free atom has in each."""
    from gpaw.setup_data import SetupData

    data = SetupData(symbol, "PBE")
    return {(n, momentum): held for n, momentum, held in zip(data.n_j, data.l_j, data.f_j, strict=True) if n > 0}


def outermost_s(symbol: str) -> Shell:
    """Return the outermost s shell of an element."""
    return max(shell for shell in shells_of(symbol) if shell[1] == 0)


@cache
def basis_of(symbol: str) -> Basis:
    """Return the functions in which an element is solved.

    Raises
    ------
    FileNotFoundError
        If GPAW has no data for the element.
    """
    from gpaw.basis_data import Basis

    held = shells_of(symbol)
    if _shift_ev(symbol) != CONFINED_SHIFT_EV or symbol in WITH_OUTERMOST_P:
        basis = _generate(symbol)
    else:
        basis = Basis.find(symbol, "dzp")
    kept = [orbital for orbital in basis.bf_j if _is_kept(symbol, orbital, held)]
    own = {_shell(orbital.type) for orbital in kept} - {None}
    empty_momenta = {momentum for n, momentum in own if held.get((n, momentum), 0.0) == 0}
    polarisation = [o for o in basis.bf_j if "olarization" in o.type and o.l < 3 and o.l not in empty_momenta]
    return replace(basis, bf_j=kept + polarisation)


def _is_kept(symbol, orbital, held):
    """Whether an orbital other than a polarisation function belongs to the basis."""
    found = _ORBITAL.match(orbital.type)
    if "olarization" in orbital.type:
        return False
    if not found:
        return True
    occupied = held.get(_shell(orbital.type), 0.0) > 0
    if found[3] == "dz":
        return occupied and symbol not in ALKALI_METALS
    return occupied or orbital.l == 0 or orbital.rc <= REACH_OF_EMPTY_SHELLS_BOHR


def _shift_ev(symbol):
    """Energy by which the confinement of the occupied shells raises them."""
    if symbol in ALKALI_METALS:
        return ALKALI_SHIFT_EV
    free = symbol == "H" or any(atomic_numbers[symbol] in row for row in _P_BLOCK)
    return FREE_ATOM_SHIFT_EV if free else CONFINED_SHIFT_EV


def _generate(symbol):
    """Make GPAW's double-zeta polarised basis again with another confinement, all shells of the data set included."""
    from gpaw.atom.basis import BasisMaker

    maker = BasisMaker.from_symbol(symbol, gtxt=StringIO())
    data = maker.valence_data
    shells = sorted((data.l_j[j], j) for j in range(len(data.n_j)) if data.n_j[j] > 0)
    shifts = [_shift_ev(symbol) if data.f_j[j] > 0 else CONFINED_SHIFT_EV for _, j in shells]
    polarisation = 1 if symbol in ALKALI_METALS and symbol not in WITH_OUTERMOST_P else None
    with redirect_stdout(StringIO()):
        return maker.generate(jvalues=[j for _, j in shells], energysplit=shifts, l_pol=polarisation, txt=StringIO())


def _shell(description):
    found = _ORBITAL.match(description)
    return (int(found[1]), "spdf".index(found[2])) if found else None


def shells_of_functions(symbol: str) -> list[Shell | None]:
    """Return the shell that each function of ``basis_of`` stands for in a minimal basis; None for all others.

    A polarisation function of p type stands for the outermost p shell where that has no function of its own.
    """
    known: list[Shell | None] = []
    shells = sorted(shells_of(symbol))
    outermost = (outermost_s(symbol)[0], 1)
    for orbital in basis_of(symbol).bf_j:
        found = _ORBITAL.match(orbital.type)
        if found:
            known.append(_shell(orbital.type) if found[3] == "sz" else None)
        elif orbital.type == "bound state":  # the files of the lanthanides do not say of which shell
            of_this_kind = [shell for shell in shells if shell[1] == orbital.l]
            known.append(of_this_kind[sum(shell is not None and shell[1] == orbital.l for shell in known)])
        elif "olarization" in orbital.type and orbital.l == 1 and outermost not in known:
            known.append(outermost)
        else:
            known.append(None)
    return known


def minimal_shells(symbol: str, extended: bool = False) -> set[Shell]:
    """Return the shells of the minimal basis of an element.

    Parameters
    ----------
    symbol : chemical symbol
    extended : with the next shell: the d shell below the outermost s of alkali and alkaline-earth metals where GPAW has
        it, the outermost p shell of every other element that has no electron there
    """
    shells, outer = shells_of(symbol), outermost_s(symbol)
    chosen = {shell for shell, held in shells.items() if held > 0} | {outer}
    if symbol in WITH_OUTERMOST_P:
        chosen.add((outer[0], 1))
    if extended:
        available = {shell for shell in shells_of_functions(symbol) if shell}
        next_shells = [(outer[0] - 1, 2), (outer[0], 1)]
        chosen.update([shell for shell in next_shells if shell in available - chosen][:1])
    return chosen


def has_data(number: int) -> bool:
    """Return whether GPAW has what it needs for an element."""
    try:
        basis_of(chemical_symbols[number])
    except FileNotFoundError:
        return False
    return True
