"""Candidates: the structures a source offers before any filter."""

import os
from dataclasses import dataclass

import pandas
from ase import Atoms
from ase.io import read, write

NOT_GIVEN = float("nan")


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
    part : training, unexplored, validation or check; "" lets the filter draw it
    problem : why there is no geometry
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


_COLUMNS = [name for name in Candidate.__dataclass_fields__ if name != "atoms"]


def candidate_table(candidates):
    """Return the table of candidates (all fields but the atoms)."""
    return pandas.DataFrame([{name: getattr(one, name) for name in _COLUMNS} for one in candidates], columns=_COLUMNS)


def write_structures(structures, path):
    """Write structures as extended XYZ, ``structure_id`` in the comment line.

    Parameters
    ----------
    structures : dict of ase.Atoms by structure id
    path : file; complete when it appears
    """
    frames = []
    for structure_id, atoms in structures.items():
        frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frame.info["structure_id"] = structure_id
        frames.append(frame)
    partial = f"{path}.partial"
    write(partial, frames, format="extxyz")
    os.replace(partial, path)


def read_structures_by_id(path):
    """Return the structures of an extended-XYZ file by their ``structure_id``."""
    with open(path) as stream:
        if not stream.read(1):
            return {}
    return {str(frame.info["structure_id"]): frame for frame in read(str(path), index=":", format="extxyz")}
