"""Labels of many compounds in one small file, readable without what made them.

Displacements are integers of 1e-6 angstrom, forces integers of 1/32767 of the largest component in their supercell, so
an entry is wrong by at most 1.5e-5 of that: a thousand times less than a potential differs from DFT. Everything else
keeps its precision.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy
from numpy.typing import NDArray

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError

DISPLACEMENT_STEP_ANGSTROM = 1e-6
_LARGEST = 32767
# Arrays of a compound that are written as they are, one row after another, with what decides their number of rows.
_PLAIN = {
    "cell": "float64", "scaled_positions": "float64", "numbers": "uint8", "repetitions": "uint8",
    "energies_ev": "float64", "stresses": "float32",
    "strained/strains": "float64", "strained/energies_ev": "float64", "strained/stresses": "float32",
}  # fmt: skip
_FORCES = ("forces", "strained/forces")


def quantise(forces: NDArray) -> tuple[NDArray, NDArray]:
    """Return forces as int16 and the step of each supercell.

    Parameters
    ----------
    forces : (n_supercells, n_atoms, 3), eV/angstrom

    Returns
    -------
    integers : (n_supercells, n_atoms, 3) int16
    steps : (n_supercells,) float32, eV/angstrom; forces = integers times step
    """
    steps = (numpy.abs(forces).max(axis=(1, 2)) / _LARGEST).astype(numpy.float32)
    divisor = numpy.where(steps > 0, steps, 1)[:, None, None].astype(float)
    return numpy.clip(numpy.rint(forces / divisor), -_LARGEST, _LARGEST).astype(numpy.int16), steps


def write_product(labelled: Iterable[tuple[dict, dict, dict]], path: str | Path) -> None:
    """Write the labels of compounds to one file.

    Parameters
    ----------
    labelled : iterable of (record, arrays, origin) as ``read_chunks`` yields; without arrays where nothing was labelled
    path : HDF5 file; complete when it appears
    """
    records: list[dict] = []
    columns: dict[str, list] = {}
    attributes: dict = {}
    for record, arrays, origin in labelled:
        attributes = origin
        sizes = {"atoms": "numbers", "supercells": "displacements", "strained": "strained/strains"}
        records.append({**record, **{key: len(arrays.get(name, ())) for key, name in sizes.items()}})
        if not arrays:
            continue
        packed = {name: numpy.asarray(arrays[name]).reshape(_rows(name), *_tail(name)) for name in _PLAIN}
        packed["displacements"] = _integers(arrays["displacements"]).reshape(-1, 3)
        for name in _FORCES:
            integers, steps = quantise(arrays[name])
            packed[name], packed[f"{name}_step"] = integers.reshape(-1, 3), steps
        for name, array in packed.items():
            columns.setdefault(name, []).append(array)
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        store.attrs.update(attributes)
        columns["records"] = [numpy.frombuffer(json.dumps(records).encode(), dtype=numpy.uint8)]
        for name, values in columns.items():
            joined = numpy.concatenate(values).astype(_PLAIN.get(name, values[0].dtype))
            store.create_dataset(name, data=joined, compression="gzip", compression_opts=9, shuffle=True)


def _integers(displacements):
    integers = numpy.rint(numpy.asarray(displacements, dtype=float) / DISPLACEMENT_STEP_ANGSTROM)
    if numpy.abs(integers).max(initial=0) > _LARGEST:
        raise StudyError("a displacement exceeds 0.0327 angstrom", fix="keep the chunks instead of the packed file")
    return integers.astype(numpy.int16)


def _rows(name):
    return 1 if name in ("cell", "repetitions") else -1


def _tail(name):
    if name in ("cell", "stresses", "strained/strains", "strained/stresses"):
        return (3, 3)
    return (3,) if name in ("scaled_positions", "repetitions") else ()


def read_product(path: str | Path) -> tuple[dict, list[tuple[dict, dict]]]:
    """Return the compounds of a packed file.

    Parameters
    ----------
    path : file of ``write_product``

    Returns
    -------
    origin : dict with engine, sha256 of the weights, seed, settings, code and packages
    labelled : list of (record, arrays); arrays as in the chunks, {} where a compound has no labels

    Raises
    ------
    StudyError
        If the file is none of these.
    """
    try:
        with h5py.File(path) as store:
            origin = {key: plain(value) for key, value in store.attrs.items()}
            columns = arrays_of(store)
        records = json.loads(columns.pop("records").tobytes())
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise StudyError(
            f"no packed labels: {error}", where=str(path), fix="give a file that phonoscreen.stages.label_product wrote"
        ) from error
    at = dict.fromkeys(columns, 0)
    labelled: list[tuple[dict, dict]] = []

    def take(name, count):
        at[name] += count
        return columns[name][at[name] - count : at[name]]

    for record in records:
        supercells = record["supercells"]
        if not supercells:
            labelled.append((record, {}))
            continue
        cell, repetitions, atoms = take("cell", 1)[0], take("repetitions", 1)[0], record["atoms"]
        count, strained = atoms * int(repetitions.prod()), record["strained"]
        arrays = {"cell": cell, "repetitions": repetitions.astype(int)}
        arrays["numbers"] = take("numbers", atoms).astype(int)
        arrays["scaled_positions"] = take("scaled_positions", atoms)
        moves = take("displacements", supercells * count).reshape(supercells, count, 3)
        arrays["displacements"] = moves * DISPLACEMENT_STEP_ANGSTROM
        for prefix, number, size in (("", supercells, count), ("strained/", strained, atoms)):
            integers = take(f"{prefix}forces", number * size).reshape(number, size, 3)
            arrays[f"{prefix}forces"] = integers * take(f"{prefix}forces_step", number)[:, None, None].astype(float)
            arrays[f"{prefix}energies_ev"] = take(f"{prefix}energies_ev", number)
            arrays[f"{prefix}stresses"] = take(f"{prefix}stresses", number)
        arrays["strained/strains"] = take("strained/strains", strained)
        labelled.append((record, arrays))
    return origin, labelled


def arrays_of(group: h5py.Group) -> dict[str, Any]:
    """Return every array below an HDF5 group by its name."""
    names: list[str] = []
    group.visit(lambda name: names.append(name) if isinstance(group[name], h5py.Dataset) else None)
    return {name: group[name][()] for name in names}


def plain(value: Any) -> Any:
    """Return a number of Python for one of numpy."""
    return value.item() if isinstance(value, numpy.generic) else value
