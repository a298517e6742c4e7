"""One member of the committee from data to files: in one or several processes, continued after a kill."""

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import write_table
from phonoscreen.forcefield import distributed
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.models.base import ForceModel
from phonoscreen.forcefield.models.files import load_model, save_model
from phonoscreen.forcefield.models.model_json import write_json
from phonoscreen.forcefield.training import train_member


def train_to_files(
    dataset_path: str | Path,
    settings: dict,
    training: dict,
    *,
    weights: str | Path,
    model: str | Path,
    history: str | Path,
    seed: int,
    member: int,
    round_number: int,
    key: str,
    start: tuple[str | Path, str | Path] | None = None,
    device: str = "auto",
    processes: int = 1,
    folder: str | Path | None = None,
    progress: str | Path | None = None,
    prepared: Mapping[tuple[str, int], dict] | None = None,
) -> None:
    """Train a member and write its weights, settings and history; an interrupted training of the same key goes on.

    Parameters
    ----------
    dataset_path, settings, training, seed, member, round_number, device : see
        ``phonoscreen.forcefield.training.train_member``
    weights, model, history : files to write (safetensors, JSON, Parquet)
    key : what the result depends on besides the arguments (code, inputs); names the checkpoint
    start : (weights, settings) paths of a member to start from, or None
    folder : for the checkpoint, which is removed at the end; None takes that of the weights
    progress : CSV file of the history, written after every epoch, or None
    processes : how many share the batches; does not change the result beyond rounding
    prepared : supercells that are prepared already, see ``train_member``; of use to one process
    """
    folder = Path(folder or Path(weights).parent)
    folder.mkdir(parents=True, exist_ok=True)
    task = {
        "dataset": str(dataset_path), "settings": dict(settings), "training": dict(training), "weights": str(weights),
        "model": str(model), "history": str(history), "seed": seed, "member": member, "round": round_number,
        "start": [str(path) for path in start] if start else None, "device": device,
        "checkpoint": str(folder / f"checkpoint.{key}"), "progress": str(progress) if progress else None,
    }  # fmt: skip
    if processes == 1:
        _run(task, prepared)
    else:
        description = str(folder / "checkpoint.task.json")
        write_json(task, description)
        meeting = str(folder / "checkpoint.meeting")
        distributed.run_processes(processes, "phonoscreen.forcefield.member", description, meeting)
    for stale in folder.glob("checkpoint.*"):
        stale.unlink()


def _run(task, prepared=None):
    settings = task["settings"]
    start = read_start(task["start"][0], task["start"][1], settings) if task["start"] else None
    model, history = train_member(
        task["dataset"], settings, task["training"], seed=task["seed"], member=task["member"],
        round_number=task["round"], start=start, checkpoint=task["checkpoint"], device=task["device"],
        progress=task["progress"], prepared=prepared,
    )  # fmt: skip
    if distributed.is_first():
        dataset = Dataset(task["dataset"], model.cutoff_angstrom)
        save_model(
            model, task["weights"], task["model"], elements=dataset.elements(), round=task["round"],
            member=task["member"], training=task["training"], label_engine=dataset.store.attrs["engine"],
            label_model=dataset.store.attrs["model"],
        )  # fmt: skip
        write_table(history, task["history"])


def read_start(weights_path: str | Path, settings_path: str | Path, settings: dict) -> ForceModel:
    """Return the model to start from, or raise StudyError if it is of another make than ``settings`` say."""
    model = load_model(weights_path, settings_path, "cpu")
    different = sorted(key for key in settings if settings[key] != model.settings.get(key))
    if different:
        raise StudyError(
            f"{settings_path} has other settings than force_model: {', '.join(different)}", where="train_to_files",
            fix="give force_model the settings of the model to start from, or start anew",
        )  # fmt: skip
    return model


if __name__ == "__main__":
    distributed.join()
    logging.basicConfig(
        level=logging.INFO if distributed.is_first() else logging.WARNING, format="%(asctime)s %(message)s"
    )
    _run(json.loads(Path(sys.argv[1]).read_text()))
