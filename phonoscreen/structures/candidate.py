"""Candidates: the structures a source offers before any filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import pandas
from ase import Atoms
from ase.io import read, write

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import write_table
from phonoscreen.formats.extended_xyz import comment_value, comments
from phonoscreen.formats.hidden_content import own_masses

if TYPE_CHECKING:
    from pathlib import Path

NOT_GIVEN = float("nan")
_WRITTEN_TOGETHER = 500


@dataclass
class Candidate:
    """One structure of a source.

    Parameters
    ----------
    structure_id : unique in the study
    source, source_id : where it comes from and its name there
    formula : as the source writes it
    atoms : None where no geometry could be had
    formation_energy_ev_per_atom, hull_distance_ev_per_atom : NaN where the source gives none
    part : training, unexplored, validation, screened or check; "" lets the filter draw it
    problem : why there is no geometry
    source_space_group_number : of the source's own statement, 0 where it makes none
    """

    structure_id: str
    source: str
    source_id: str
    formula: str
    atoms: Atoms | None
    formation_energy_ev_per_atom: float = NOT_GIVEN
    hull_distance_ev_per_atom: float = NOT_GIVEN
    part: str = ""
    problem: str = ""
    source_space_group_number: int = 0


_COLUMNS = [name for name in Candidate.__dataclass_fields__ if name != "atoms"]


def write_structures(structures: Mapping[str, Atoms] | Iterable[tuple[str, Atoms]], path: str | Path) -> None:
    """Write structures as extended XYZ, ``structure_id`` in the comment line.

    Parameters
    ----------
    structures : ase.Atoms by structure id, or pairs of both, which are taken one by one
    path : file; complete when it appears
    """
    pairs = iter(structures.items() if isinstance(structures, Mapping) else structures)
    with written_whole(path) as partial, open(partial, "w") as stream:
        while frames := [_frame(*pair) for pair in islice(pairs, _WRITTEN_TOGETHER)]:
            write(stream, frames, format="extxyz")


def _frame(structure_id, atoms):
    frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    if own_masses(atoms):
        frame.set_masses(atoms.get_masses())
    frame.info["structure_id"] = structure_id
    return frame


def write_candidates(candidates: Iterable[Candidate], structures: str | Path, table: str | Path) -> None:
    """Write candidates as they come: those with atoms as extended XYZ, the values of all as a table.

    Parameters
    ----------
    candidates : may be a generator; no more than a few structures are held at a time
    structures : extended XYZ file
    table : Parquet file
    """
    rows = []

    def with_atoms():
        for one in candidates:
            rows.append({name: getattr(one, name) for name in _COLUMNS})
            if one.atoms is not None:
                yield one.structure_id, one.atoms

    write_structures(with_atoms(), structures)
    write_table(pandas.DataFrame(rows, columns=_COLUMNS), table)


def read_structures_by_id(path: str | Path) -> dict[str, Atoms]:
    """Return the structures of a file of ``write_structures`` by their ``structure_id``.

    The ids are taken from the comment lines: a reader of extended XYZ would turn ``001234``, ``1e5`` or ``True`` into
    something else.
    """
    with open(path) as stream:
        ids = [comment_value(comment, "structure_id") for comment in comments(stream)]
    if not ids:
        return {}
    own = [one for one in ids if one is not None]
    if len(set(own)) < len(ids):
        raise StudyError(f"{len(ids)} structures without ids of their own", where=str(path), fix="make it again")
    return dict(zip(own, read(str(path), index=":", format="extxyz"), strict=True))
