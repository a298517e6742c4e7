"""The items of a data set as arrays for training on a GPU, prepared by several processes."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from phonoscreen.forcefield.dataset import STRAINED, Dataset
from phonoscreen.forcefield.precomputed import Item, item_arrays

CHUNK = 32  # structures that a process prepares at once


def dataset_items(
    path: Path, splits: list[str], cutoff_angstrom: float, training: dict, *, processes: int = 1
) -> tuple[list[tuple[str, int]], list[dict[str, NDArray]]]:
    """Return the items of some splits of a data set, in the order of the ids, and their arrays.

    Parameters
    ----------
    path : of ``phonoscreen.forcefield.dataset.Dataset``
    splits : which; of ``training`` also the strained cells, where there are any
    cutoff_angstrom : radius of the neighbourhoods
    training : the config section
    processes : that share the work
    """
    dataset = Dataset(path, cutoff_angstrom)
    items = [item for split in splits
             for item in (dataset.cells(split) if split == "training" else dataset.supercells(split))]  # fmt: skip
    weights = dataset.weights(training["relative_floor_mev_per_angstrom"])
    dataset.store.close()
    order = sorted(range(len(items)), key=lambda place: items[place][0])  # those of a structure share its neighbours
    parts = [order[begin : begin + CHUNK] for begin in range(0, len(order), CHUNK)]
    tasks = [[(items[place], weights[items[place][0]]) for place in part] for part in parts]
    shared = path, cutoff_angstrom, training["stress_weight"]
    if processes == 1:
        _open(*shared)
        prepared = [_prepare(task) for task in tasks]
    else:
        with ProcessPoolExecutor(processes, initializer=_open, initargs=shared) as pool:
            prepared = list(pool.map(_prepare, tasks))
    arrays = [array for part in prepared for array in part]
    place_of = {place: number for number, place in enumerate(order)}
    return items, [arrays[place_of[place]] for place in range(len(items))]


_OPENED: dict[str, Any] = {}


def _open(path, cutoff_angstrom, stress_weight):
    """What every task of a process needs."""
    _OPENED.update(dataset=Dataset(path, cutoff_angstrom), stress_weight=stress_weight)


def _prepare(task):
    dataset, stress_weight = _OPENED["dataset"], _OPENED["stress_weight"]
    arrays = []
    for item, weight in task:
        neighbourhoods, forces = dataset.read(item)
        virials, virial_weight = numpy.zeros((len(neighbourhoods.structures), 3, 3)), 0.0
        if dataset.has_stress and stress_weight:
            virials, unit = dataset.virials(item)
            virial_weight = stress_weight / unit**2
        at_rest = dataset.undisplaced(item) if item[1] != STRAINED else None
        arrays.append(item_arrays(Item(neighbourhoods, forces, weight, virials, virial_weight, at_rest)))
    return [{name: value.astype(numpy.float32) if value.dtype == float and name != "positions" else value
             for name, value in one.items()} for one in arrays]  # fmt: skip
