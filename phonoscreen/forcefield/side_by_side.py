"""Members of a committee trained side by side, in processes that share the prepared supercells.

What a supercell is prepared to (``phonoscreen.forcefield.training.prepare_item``) is the same for all members, takes
as long as an epoch and most of the memory. It is prepared once, and the processes that train are forked from it.
"""

import gc
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from phonoscreen.forcefield.member import read_start, train_to_files
from phonoscreen.forcefield.training import prepare_training_cells


def train_side_by_side(
    dataset_path: str | Path,
    settings: dict,
    training: dict,
    tasks: Sequence[dict],
    *,
    processes: int,
    memory_gib: float,
) -> None:
    """Train members, several at a time. The weights do not depend on how many.

    Parameters
    ----------
    dataset_path, settings, training : see ``phonoscreen.forcefield.training.train_member``
    tasks : further arguments of ``phonoscreen.forcefield.member.train_to_files`` by name, of one member each
    processes : members at a time
    memory_gib : of the supercells that are prepared once for all of them

    Raises
    ------
    StudyError
        If a member fails; those that train beside it end their training first.
    """
    if not tasks:
        return
    first = tasks[0]
    prepared = prepare_training_cells(
        dataset_path, settings, training, seed=first["seed"], bytes_max=int(memory_gib * 2**30),
        start=read_start(first["start"][0], first["start"][1], settings) if first["start"] else None,
        checkpoint=Path(first["folder"]) / f"checkpoint.{first['key']}",
    )  # fmt: skip
    shared = dataset_path, settings, training, prepared
    if processes == 1:
        for task in tasks:
            train_to_files(*shared[:3], **task, prepared=prepared)
        return
    gc.freeze()  # the pages of what is prepared are not written to, and stay those of all processes
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(min(processes, len(tasks)), context, initializer=_begin, initargs=shared) as pool:
            for training_of_member in as_completed([pool.submit(_train, task) for task in tasks]):
                training_of_member.result()
    finally:
        gc.unfreeze()


_SHARED: dict[str, Any] = {}


def _begin(dataset_path: str | Path, settings: dict, training: dict, prepared: Mapping) -> None:
    """What every process knows from the fork; a process whose parent was killed ends as well."""
    _SHARED.update(dataset_path=dataset_path, settings=settings, training=training, prepared=prepared)
    parent = multiprocessing.parent_process()

    def end_with_parent():
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _train(task):
    train_to_files(**_SHARED, **task)
