"""The entries that a CONTROL file may hold, and how one is looked up.

Formats: manuals of ShengBTE 1.5 and FourPhonon 1.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.namelists import check_entries, read_assignments, read_values

if TYPE_CHECKING:
    from pathlib import Path

# Namelist: entry: kind and shape, in terms of the sizes of &allocations.
ENTRIES: dict[str, dict[str, tuple[type, tuple]]] = {
    "allocations": {"nelements": (int, ()), "natoms": (int, ()), "ngrid": (int, (3,)), "norientations": (int, ())},
    "crystal": {
        "lfactor": (float, ()), "lattvec": (float, (3, 3)), "elements": (str, ("nelements",)),
        "types": (int, ("natoms",)), "positions": (float, (3, "natoms")), "masses": (float, ("nelements",)),
        "gfactors": (float, ("nelements",)), "epsilon": (float, (3, 3)), "born": (float, (3, 3, "natoms")),
        "scell": (int, (3,)), "orientations": (int, (3, "norientations")),
    },
    "parameters": {
        **dict.fromkeys(("t", "t_min", "t_max", "t_step", "omega_max", "scalebroad", "rmin", "rmax", "dr", "eps",
                         "length", "ewald"), (float, ())),
        **dict.fromkeys(("maxiter", "nticks", "num_sample_process_3ph", "num_sample_process_3ph_phase_space",
                         "num_sample_process_4ph", "num_sample_process_4ph_phase_space"), (int, ())),
    },
    "flags": {
        **dict.fromkeys(("nonanalytic", "convergence", "isotopes", "autoisotopes", "nanowires", "onlyharmonic",
                         "espresso", "tdep", "four_phonon", "four_phonon_iteration", "nanolength"), (bool, ())),
        "nthreads": (int, ()),
    },
}  # fmt: skip

_NOT_DONE = {  # entries that change ShengBTE's or FourPhonon's result in a way that this program does not compute
    "four_phonon": "four-phonon scattering", "four_phonon_iteration": "four-phonon scattering",
    "tdep": "force constants of TDEP with their own long-range part", "nanolength": "boundaries at a finite length",
    "ewald": "the long-range part of TDEP", "num_sample_process_3ph": "sampling of three-phonon processes",
    "num_sample_process_3ph_phase_space": "sampling of the phase space",
    "num_sample_process_4ph": "four-phonon scattering", "num_sample_process_4ph_phase_space": "four-phonon scattering",
}  # fmt: skip


class Entries:
    """The entries of a CONTROL file, looked up by name."""

    def __init__(self, path: str | Path):
        self.path = path
        self.sizes: dict[str, int] = {}
        self.notes: list[str] = []
        self._groups = read_assignments(path)
        check_entries(self._groups, ENTRIES, path)
        self._home = {name: group for group, names in ENTRIES.items() for name in names}

    def given(self, name: str) -> bool:
        """Whether the file gives the entry."""
        return any(item.name == name and item.words for item in self._groups[self._home[name]])

    def error(self, name: str, what: str, fix: str | None = None) -> StudyError:
        """StudyError about one entry, with its place."""
        places = [item.where for item in self._groups[self._home[name]] if item.name == name]
        return StudyError(what, where=places[0] if places else f"{self.path}, namelist &{self._home[name]}",
                          fix=fix or f"correct {name}")  # fmt: skip

    def read(self, name: str, shape: tuple[int, ...] | None = None) -> NDArray | None:
        """Array of objects with None where no value is given, or None; its shape follows from &allocations."""
        kind, axes = ENTRIES[self._home[name]][name]
        shape = tuple(self.sizes.get(axis, axis) for axis in axes) if shape is None else shape
        return read_values(self._groups[self._home[name]], name, shape, kind)

    def value(self, name: str, default: Any = None) -> Any:
        """One value, or the default if the file does not give it."""
        found = self.read(name, ())
        if found is None or found[()] is None:
            if default is None:
                raise self.error(name, f"{name} is missing", f"add {name} to &{self._home[name]}")
            return default
        return found[()]

    def number(
        self, name: str, default: float | None = None, *, above: float | None = None, at_least: float | None = None
    ) -> Any:
        """One number within limits."""
        value = self.value(name, default)
        if (above is not None and not value > above) or (at_least is not None and not value >= at_least):
            limit = f"above {above}" if above is not None else f"{at_least} or more"
            raise self.error(name, f"{name} = {value:g} must be {limit}")
        return value

    def array(self, name: str, shape: tuple[int, ...] | None = None) -> NDArray:
        """Array without gaps."""
        found = self.read(name, shape)
        absent = 1 if found is None else int(sum(value is None for value in found.ravel()))
        if found is None or absent:
            what = f"{name} is missing" if found is None else f"{name} lacks {absent} of {found.size} values"
            raise self.error(name, what, f"complete {name} in &{self._home[name]}")
        kind = ENTRIES[self._home[name]][name][0]
        return found if kind is str else found.astype(kind)

    def refuse_not_done(self) -> None:
        """Raise StudyError on what ShengBTE or FourPhonon would compute and this program does not."""
        for name, what in _NOT_DONE.items():
            if not self.given(name):
                continue
            value = self.value(name)
            if value > 0:  # .true., or a number that switches it on
                off = ".false." if value is True else "-1"
                raise self.error(name, f"{name} = {value}: {what} is not computed here",
                                 f"set {name} = {off}, or use FourPhonon")  # fmt: skip
