"""The published model: a committee trained on the kept labels, judged on compounds that no training saw.

``phonoscreen train LABELS FOLDER`` (``phonoscreen.commands.train``) calls this. The folder holds the data set, one
weights file, settings, history and checkpoint per member, the errors on the test compounds and the published model.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy
import pandas
import torch

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.records import write_table
from phonoscreen.forcefield.checkpoint import read_checkpoint
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.dataset import STRAINED, Dataset
from phonoscreen.forcefield.models.files import save_model
from phonoscreen.forcefield.models.model_json import write_json
from phonoscreen.forcefield.models.registry import create_model
from phonoscreen.forcefield.publish import publish_model
from phonoscreen.forcefield.side_by_side import train_side_by_side
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.forcefield.validation import force_errors, squares_by_element
from phonoscreen.stages.force_set_dataset import read_roles, write_force_sets
from phonoscreen.stages.label_dataset import write_label_dataset
from phonoscreen.stages.republishing import keep_judgement
from phonoscreen.structures.formulas import composition_key

log = logging.getLogger("phonoscreen")

NOTES = """Stress: the virials of strained primitive cells (strains of one or two per cent) of these compounds are wrong
by {virial:.1f} % of their root mean square (median over the compounds).

{others}
Against real DFT of compounds that neither this training nor the teacher's saw (phonondb: VASP, PBEsol): see
[force models](../../docs/force_models.md).

"""
LEARNED_BEFORE = "learned_before.csv"
"""Compounds that the model to begin with had learned from."""
BEGAN = """
Training began with an earlier model, which had learned from {labels} compounds of these labels and {others} of DFT."""
LABELS_ALONE = "The labels are no DFT."
WITH_FORCE_SETS = """The labels are no DFT. Beside them the model learned from forces of DFT: {count} displaced
supercells of {compounds} compounds of phonondb@kyoto-u 2018-04-17 (A. Togo, CC BY 4.0; VASP, PBEsol). Cubic compounds
whose formula is among those that judge here were left out."""
LICENCE = "MIT, as this repository; labels: nequix-oam-1-pft (MIT), a universal potential trained on OMat24 and on "
LICENCE += "phonon data of the Materials Project (CC BY 4.0)"


def prepare_training(
    product: Path,
    folder: Path,
    *,
    force_model: dict,
    training: dict,
    seed: int,
    compounds_max: int | None,
    more_labels: Sequence[Path] = (),
    start: Path | None = None,
    force_sets: tuple[Path, Path] | None = None,
    force_sets_weight: float = 1.0,
    together: bool = False,
) -> None:
    """Write the data set and the settings of a training to its folder, or check that they are those already there.

    Parameters
    ----------
    product, more_labels : files of kept labels; the test compounds of the first one judge
    folder : of the training
    force_model, training : as for ``phonoscreen.forcefield.training.train_member``
    seed : of the split, the weights and the order of the data
    compounds_max : see ``write_label_dataset``
    start : see ``train_members``
    force_sets : their folder and the file of their roles, or None
    force_sets_weight : of one of their supercells in the loss, where a labelled one has 1
    together : all members are trained at once (``phonoscreen.stages.joint_training``)

    Raises
    ------
    StudyError
        If the folder holds a training of other settings, labels or beginnings.
    """
    for file in (product, *more_labels):
        if not file.is_file():
            raise StudyError(f"there is no file {file}", where="phonoscreen train", fix="give a file of kept labels")
    folder.mkdir(parents=True, exist_ok=True)
    plan = {
        "labels_sha256": file_sha256(product), "force_model": force_model, "training": training, "seed": seed,
        "compounds_max": compounds_max or 0,
        "start_sha256": file_sha256(_origin_of(start)) if start and _origin_of(start).exists() else "",
    }  # fmt: skip
    if more_labels:
        plan["more_labels_sha256"] = [file_sha256(file) for file in more_labels]
    if force_sets:
        plan |= {"roles_sha256": file_sha256(force_sets[1]), "together": together}
        plan |= {"force_sets_weight": force_sets_weight} if force_sets_weight != 1.0 else {}
    path = folder / "training.json"
    if path.exists():
        kept = json.loads(path.read_text())
        wanted = json.loads(json.dumps(plan))
        different = sorted(name for name in {*wanted, *kept} if kept.get(name) != wanted.get(name))
        if different:
            raise StudyError(
                f"{folder} holds a training with other {', '.join(different)}", where="phonoscreen train",
                fix="give the settings and labels it was begun with, or another folder",
            )  # fmt: skip
        return
    table = write_label_dataset(
        product, folder / "dataset.h5", more=more_labels, held_out_fraction=training["held_out_fraction"], seed=seed,
        compounds_max=compounds_max,
    )  # fmt: skip
    write_table(table, folder / "dataset.parquet")
    if force_sets:
        judging = set(table.loc[table.split != "training", "formula"])
        used = write_force_sets(
            force_sets[0], read_roles(force_sets[1]), folder / "force_sets.h5", excluded=judging,
            floor_mev_per_angstrom=training["relative_floor_mev_per_angstrom"] or 0.0, seed=seed,
            weight=force_sets_weight,
        )  # fmt: skip
        write_table(used, folder / "force_sets.parquet")
        if not together:
            _link(folder / "dataset.h5", folder / "force_sets.h5")
    if start and (start / "compounds.csv").is_file():
        shutil.copyfile(start / "compounds.csv", folder / LEARNED_BEFORE)
    write_json(plan, path)


def _origin_of(start):
    """What a training to begin with is told from others by: its plan, or the description of a published model."""
    return start / ("training.json" if (start / "training.json").exists() else "model.json")


def _link(dataset, force_sets):
    """Make the structures of one data set, which lies beside it, part of another."""
    with h5py.File(dataset, "a") as store, h5py.File(force_sets) as source:
        for name in source:
            store[name] = h5py.ExternalLink(force_sets.name, name)


def train_members(
    folder: Path, members: int, start: Path | None = None, *, processes: int = 1, memory_gib: float = 2.0
) -> None:
    """Train the members that are not trained yet; a killed training goes on at its last epoch.

    Parameters
    ----------
    folder : of the training
    members : how many
    start : folder of a training, or of a published model, with the same ``force_model`` whose members these begin with;
        or None
    processes : members at a time; does not change the weights
    memory_gib : of the supercells that are prepared once for all members

    Raises
    ------
    StudyError
        If that training has fewer members.
    """
    if start is not None and not all(path.exists() for path in _beginning(start, members - 1)):
        raise StudyError(
            f"{start} holds no {members} trained members to begin with", where="phonoscreen train",
            fix="give fewer --members, or another --start",
        )  # fmt: skip
    plan = json.loads((folder / "training.json").read_text())
    tasks = []
    for member in range(members):
        weights, model, history = member_files(folder, member)
        if not history.exists():
            tasks.append({
                "weights": weights, "model": model, "history": history, "seed": plan["seed"], "member": member,
                "round_number": 0, "key": f"member{member}", "folder": _unfinished(folder, member), "device": "cpu",
                "progress": folder / f"member{member}.csv", "start": _beginning(start, member) if start else None,
            })  # fmt: skip
    train_side_by_side(
        folder / "dataset.h5", plan["force_model"], plan["training"], tasks, processes=processes, memory_gib=memory_gib
    )
    for task in tasks:
        task["folder"].rmdir()


def _unfinished(folder, member):
    """Folder of the checkpoint of a member."""
    return folder / f"member{member}.unfinished"


def _beginning(start, member):
    """Return weights and settings of a member of a training, or of a published model."""
    weights, settings, _ = member_files(start, member)
    return weights, settings if settings.exists() else start / "model.json"


def member_files(folder: Path, member: int) -> tuple[Path, Path, Path]:
    """Return the files of a member: weights, settings, history."""
    stem = folder / f"member{member}"
    return Path(f"{stem}.safetensors"), Path(f"{stem}.json"), Path(f"{stem}.parquet")


def interim_members(folder: Path, members: int) -> list[tuple[Path, Path]]:
    """Return the files of trained members, and of the best weights so far of the one whose training goes on."""
    if not (folder / "training.json").is_file():
        raise StudyError(f"{folder} holds no training", where="phonoscreen train", fix="leave out --interim")
    plan, found = json.loads((folder / "training.json").read_text()), []
    for member in range(members):
        weights, model, history = member_files(folder, member)
        kept = None if history.exists() else read_checkpoint(_unfinished(folder, member) / f"checkpoint.member{member}")
        if history.exists():
            found.append((weights, model))
        elif kept is not None and kept["best_weights"]:
            network = create_model(plan["force_model"], 0)
            network.load_state_dict(kept["best_weights"])
            weights, model = (folder / f"interim{member}.{ending}" for ending in ("safetensors", "json"))
            dataset = Dataset(folder / "dataset.h5", network.cutoff_angstrom)
            save_model(
                network, weights, model, elements=dataset.elements(), round=0, member=member, training=plan["training"],
                label_engine=dataset.store.attrs["engine"], label_model=dataset.store.attrs["model"],
            )  # fmt: skip
            found.append((weights, model))
    if not found:
        raise StudyError("no member has finished an epoch", where=str(folder), fix="wait, or train first")
    return found


def errors_on_test_compounds(committee: Committee, table: pandas.DataFrame, path: Path) -> pandas.DataFrame:
    """Errors on every test compound: nothing was trained on them and nothing decided by them.

    Parameters
    ----------
    committee : to be judged
    table, path : of ``write_label_dataset``

    Returns
    -------
    pandas.DataFrame with ``structure_id, formula, prototype, status``, the columns of
    ``phonoscreen.forcefield.validation.force_errors``, ``squares_by_element`` and ``virial_rmse_relative``, the error
    of the strained cells' virials over their root mean square
    """
    rows, dataset = [], Dataset(path, committee.cutoff_angstrom)
    for row in table[table.split == "test"].itertuples():
        group = dataset.store[row.structure_id]
        data, reference = Supercells.read(group), group["forces"][:]
        forces = committee.supercell_forces(data)
        numbers = numpy.tile(data.crystal.numbers, data.n_atoms // len(data.crystal.numbers))
        squares = squares_by_element(forces.mean(axis=0), reference, numbers)
        rows.append(
            {
                "structure_id": row.structure_id, "formula": row.formula, "prototype": row.prototype,
                "status": "ok", "squares_by_element": json.dumps(squares),
                **_force_errors(committee, data, forces, reference), **_virial_errors(committee, dataset, row),
            }
        )  # fmt: skip
    return pandas.DataFrame(rows)


def _force_errors(committee, data, forces, reference):
    several = forces if len(forces) > 1 else numpy.repeat(forces, 2, axis=0)  # one member: its spread is zero
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return force_errors(several, committee.perfect_crystal_forces(data), reference)


def _virial_errors(committee, dataset, row):
    if not committee.has_energy:
        return {"virial_rmse_relative": numpy.nan}
    neighbourhoods, _ = dataset.read((row.structure_id, STRAINED))
    reference, _ = dataset.virials((row.structure_id, STRAINED))
    error = committee.virials(neighbourhoods).mean(axis=0) - reference
    return {"virial_rmse_relative": float(numpy.sqrt((error**2).mean() / (reference**2).mean()))}


def check_target(target: Path) -> None:
    """Refuse to publish where something else than a published model stands."""
    if target.exists() and not (target / "model.json").is_file() and (target.is_file() or any(target.iterdir())):
        raise StudyError(
            f"{target} is there and holds no published model", where="phonoscreen train",
            fix="give another folder with --publish",
        )  # fmt: skip


def publish(
    folder: Path, files: list[tuple[Path, Path]], target: Path, code: str, test_labels: Path | None = None
) -> dict:
    """Judge members on the test compounds and publish them; returns ``model.json``'s contents.

    Where the same networks were published before, their comparison with the labels and the calibration that comes from
    it are kept; of other networks nothing is kept (``phonoscreen.stages.republishing``).

    Parameters
    ----------
    folder : of the training
    files : weights and settings of each member
    target : folder of the published model; what it held before is replaced
    code : digest of the code that trained
    test_labels : kept labels whose test compounds judge; None: those that were trained on
    """
    check_target(target)
    torch.set_num_threads(1)
    trained = pandas.read_parquet(folder / "dataset.parquet")
    table, path = trained, folder / "dataset.h5"
    if test_labels is not None:
        path = folder / "test.h5"
        table = write_label_dataset(test_labels, path, held_out_fraction=0.0, seed=0, only_test=True)
    validation = errors_on_test_compounds(
        Committee.load([weights for weights, _ in files], [path for _, path in files], device="cpu"), table, path
    )
    write_table(validation, folder / "test.parquet")
    fresh = target.with_name(f"{target.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    content = publish_model(
        files, [fresh / f"member{number}.safetensors" for number in range(len(files))], fresh / "model.json",
        fresh / "README.md", dataset=trained,
        dataset_path=folder / "dataset.h5", validation=validation, code=code, licence=LICENCE,
        notes=NOTES.format(virial=100 * validation.virial_rmse_relative.median(), others=_others(folder)),
    )  # fmt: skip
    learned_compounds(folder).to_csv(fresh / "compounds.csv", index=False)
    keep_judgement(target, fresh)
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
    return content


def learned_compounds(folder: Path) -> pandas.DataFrame:
    """Return the compounds of a training, each once, those held out to judge its epochs included.

    Parameters
    ----------
    folder : of the training

    Returns
    -------
    DataFrame ``formula, space_group_number, source``, the last "labels" or "force sets"
    """
    labels = pandas.read_parquet(folder / "dataset.parquet").query("split != 'test'")
    tables = [labels.assign(space_group_number=labels.prototype.str.split("-").str[0].astype(int), source="labels")]
    if (folder / "force_sets.parquet").exists():
        used = pandas.read_parquet(folder / "force_sets.parquet").query("n_supercells > 0")
        tables.append(used.assign(source="force sets"))
    if (folder / LEARNED_BEFORE).exists():
        tables.append(pandas.read_csv(folder / LEARNED_BEFORE, keep_default_na=False))
    columns = ["formula", "space_group_number", "source"]
    learned = pandas.concat(tables)[columns]
    same = learned.assign(formula=learned.formula.map(composition_key)).duplicated(columns[:2])
    return learned[~same].sort_values(columns[:2], ignore_index=True)


def _others(folder):
    """What the training learned from beside the labels, for the card."""
    text = LABELS_ALONE
    if (folder / "force_sets.parquet").exists():
        used = pandas.read_parquet(folder / "force_sets.parquet").query("n_supercells > 0")
        text = WITH_FORCE_SETS.format(count=used.n_supercells.sum(), compounds=len(used))
    if (folder / LEARNED_BEFORE).exists():
        sources = pandas.read_csv(folder / LEARNED_BEFORE, keep_default_na=False).source
        labels = sources.str.startswith("labels").sum()
        text += BEGAN.format(labels=labels, others=len(sources) - labels)
    return text


def summary(folder: Path) -> str:
    """Errors on the test compounds in two lines, from the table that ``publish`` wrote."""
    judged = pandas.read_parquet(folder / "test.parquet")
    squares = [list(json.loads(one).values()) for one in judged.squares_by_element]
    error, size, count = numpy.sum([numpy.sum(one, axis=0) for one in squares], axis=0)
    return (
        f"{len(judged)} test compounds: force RMSE {1e3 * (error / count) ** 0.5:.1f} meV/A, "
        f"{100 * (error / size) ** 0.5:.1f} % of the RMS force; per compound median "
        f"{100 * judged.force_rmse_relative.median():.1f} %, mean {100 * judged.force_rmse_relative.mean():.1f} %; "
        f"virials of strained cells {100 * judged.virial_rmse_relative.median():.1f} % (median)"
    )
