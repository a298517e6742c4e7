"""Learning curves on the kept labels: errors on compounds that no training saw against the compounds trained on.

``python -m tests.benchmarks.learning_curve LABELS FOLDER`` trains one member of each model on the first 100, 316, 1,000
and on all compounds of the kept labels. All points are judged on the same test compounds, and their epochs on the same
held-out ones. An interrupted training goes on at its last epoch; a point that is done is not computed again.
``--record FILE`` adds the points of some folders to a YAML file, and those of other trainings that
``learning_curve.yaml`` has recorded; ``--draw FILE`` draws the figure from the recorded points alone.
``--train-nothing`` takes what is there, of a training that goes on the best epoch so far, marked as unfinished.
"""

import argparse
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy
import pandas
import torch
import yaml

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.records import write_table
from phonoscreen.experiment.figures import PAPER, colours_of, words
from phonoscreen.experiment.measures import PAPER_SIZE
from phonoscreen.experiment.subsets import training_for_size
from phonoscreen.figures import style
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.member import train_to_files
from phonoscreen.stages.label_dataset import write_label_dataset
from phonoscreen.stages.published_model import errors_on_test_compounds, member_files
from phonoscreen.workflow.inputs import model_settings, training_settings
from phonoscreen.workflow.settings.check import check_settings

SEED = 1
SIZES = (100, 316, 1000, 0)  # 0: all
KINDS = ("elemental_sdnnff", "equivariant")
SETTINGS = Path(__file__).with_name("learning_curve.yaml")
RECORDED = Path("resources/learning_curve.yaml")


def settings_of(kind: str) -> tuple[dict, dict]:
    """Return the settings of a model and of its training on all compounds."""
    sections = check_settings(yaml.safe_load(SETTINGS.read_text())[kind])
    return model_settings(sections["force_model"]), training_settings(sections["training"])


def write_subset(whole: Path, path: Path, size: int) -> pandas.DataFrame:
    """Write the data set with its first ``size`` compounds to train on (0: all); return its table.

    The compounds left out stay in the file under the split ``unused``, which nothing reads.
    """
    table = pandas.read_parquet(whole.with_suffix(".parquet"))
    unused = table.index[table.split == "training"][size if size else len(table) :]
    table.loc[unused, "split"] = "unused"
    with written_whole(path) as partial:
        shutil.copyfile(whole, partial)
        with h5py.File(partial, "r+") as store:
            for structure_id in table.structure_id[unused]:
                store[structure_id].attrs["split"] = "unused"
    return table


def point(labels: Path, folder: Path, kind: str, size: int, epochs: int | None = None) -> dict[str, Any]:
    """Train what is not trained yet of a point, and return its row; ``epochs`` as for the option."""
    whole, own = folder / "dataset.h5", folder / f"{kind}-{size or 'all'}"
    row_path = own / "point.json"
    if row_path.exists():
        return json.loads(row_path.read_text())
    model, training = settings_of(kind)
    own.mkdir(parents=True, exist_ok=True)
    if not whole.with_suffix(".parquet").exists():
        table = write_label_dataset(labels, whole, held_out_fraction=training["held_out_fraction"], seed=SEED)
        write_table(table, whole.with_suffix(".parquet"))
    table = write_subset(whole, own / "dataset.h5", size)
    counts = table[table.split == "training"]
    largest = int(table.split.isin(["training", "unused"]).sum())
    training = {**training, "epochs": epochs} if epochs else training_for_size(training, len(counts), largest)
    weights, described, history = member_files(own, 0)
    if not history.exists():
        train_to_files(
            own / "dataset.h5", model, training, weights=weights, model=described, history=history, seed=SEED,
            member=0, round_number=0, key="member0", device="cpu", progress=own / "member0.csv",
        )  # fmt: skip
    judged = errors_on_test_compounds(Committee.load([weights], [described], "cpu"), table, own / "dataset.h5")
    write_table(judged, own / "test.parquet")
    row = {"model": kind, "compounds": len(counts), "supercells": int(counts.n_supercells.sum())}
    row |= _training_facts(pandas.read_parquet(history), training) | errors(judged)
    row_path.write_text(json.dumps(row, indent=1) + "\n")
    (own / "dataset.h5").unlink()
    return row


def points_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder, those of unfinished trainings included: they have no errors on test compounds."""
    rows = []
    for own in sorted(path for path in folder.iterdir() if (path / "member0.csv").is_file()):
        if (own / "point.json").is_file():
            rows.append(json.loads((own / "point.json").read_text()))
            continue
        kind, size = own.name.rsplit("-", 1)
        table = pandas.read_parquet(folder / "dataset.parquet").query("split == 'training'")
        counts = table if size == "all" else table.head(int(size))
        row = {"model": kind, "compounds": len(counts), "supercells": int(counts.n_supercells.sum())}
        history = pandas.read_csv(own / "member0.csv")
        rows.append(row | _training_facts(history, {"epochs": 0}) | {"finished": False})
    return rows


def _training_facts(history, training):
    """How long a member was trained, and when it was best."""
    best = history.loc[history.held_out_rmse_relative.idxmin()]
    return {
        "finished": True, "epochs": len(history), "epochs_planned": int(training["epochs"]),
        "best_epoch": int(best.epoch) + 1,
        "held_out_mev_per_angstrom": round(float(best.held_out_rmse_mev_per_angstrom), 1),
        "held_out_relative": round(float(best.held_out_rmse_relative), 3),
        "held_out_relative_last": round(float(history.held_out_rmse_relative.iloc[-1]), 3),
        "training_relative_at_best": round(float(best.training_rmse_relative), 3),
        "training_wall_seconds": round(float(history.seconds.sum())),
    }  # fmt: skip


def errors(judged: pandas.DataFrame) -> dict[str, Any]:
    """Return the errors on the test compounds: over all force components, and over compounds."""
    squares = [list(json.loads(one).values()) for one in judged.squares_by_element]
    error, size, count = numpy.sum([numpy.sum(one, axis=0) for one in squares], axis=0)
    return {
        "test_compounds": len(judged),
        "test_mev_per_angstrom": round(1e3 * float((error / count) ** 0.5), 1),
        "test_mev_per_angstrom_median": round(float(judged.force_rmse_mev_per_angstrom.median()), 1),
        "test_relative_to_all": round(float((error / size) ** 0.5), 4),
        "test_relative_mean": round(float(judged.force_rmse_relative.mean()), 4),
        "test_relative_median": round(float(judged.force_rmse_relative.median()), 4),
    }


def record(rows: list[dict[str, Any]], labels: Path, path: Path) -> None:
    """Write the points with their origin; points of the same labels that the file has already are kept."""
    sections = yaml.safe_load(SETTINGS.read_text())
    about = {
        "command": f"python -m tests.benchmarks.learning_curve {labels.name} FOLDER --record {path.name}",
        "labels_sha256": file_sha256(labels), "seed": SEED, "settings": {kind: sections[kind] for kind in KINDS},
        "held_out": "compounds that decide which epoch is kept and are not trained on",
        "test": "compounds that no training saw and that decide nothing",
    }  # fmt: skip
    done = {(row["model"], row["compounds"]) for row in rows}
    kept = [row for row in _points_kept(path, about) if (row["model"], row["compounds"]) not in done]
    rows = rows + kept + sections["recorded"]
    ordered = sorted(rows, key=lambda row: (row["model"], row["compounds"]))
    with written_whole(path) as partial:
        partial.write_text(yaml.safe_dump({"about": about, "points": ordered}, sort_keys=False, width=120))


def _points_kept(path, about):
    """Points that this command recorded before, of the same labels, seed and settings."""
    content = yaml.safe_load(path.read_text()) if path.exists() else {"about": {}, "points": []}
    same = all(content["about"].get(name) == about[name] for name in ("labels_sha256", "seed", "settings"))
    return [row for row in content["points"] if "origin" not in row] if same else []


QUANTITIES = {
    "held_out_mev_per_angstrom": "force RMSE, held out (meV Å$^{-1}$)",
    "test_mev_per_angstrom": "force RMSE, test compounds (meV Å$^{-1}$)",
}


def draw(recorded: Path, path: Path) -> None:
    """Draw the recorded points, filled and joined; open ones are of trainings that had not ended."""
    points = pandas.DataFrame(yaml.safe_load(recorded.read_text())["points"]).sort_values("compounds")
    shown = [name for name in QUANTITIES if name in points and points[name].count() > 2]
    figure, axes = style.new_figure(style.SINGLE * len(shown), 80, columns=len(shown))
    colours = colours_of(points["model"].unique())
    for axis, letter, quantity in zip(axes[0], "ab", shown):
        if len(shown) > 1:
            style.panel(axis, letter)
        for (model, finished), group in points.dropna(subset=[quantity]).groupby(["model", "finished"]):
            colour, label = colours[model], words(model) + ("" if finished else ", unfinished")
            best = group.groupby("compounds")[quantity].min()
            axis.plot(
                best.index, best, "o-" if finished else "o", color=colour, linewidth=0.9, markersize=4, label=label,
                markerfacecolor=colour if finished else "white",
            )  # fmt: skip
        axis.plot(PAPER_SIZE, PAPER["force_rmse_mev_per_angstrom"], "*", color=style.ORANGE, label="paper, against DFT")
        axis.set(xlabel="compounds trained on", ylabel=QUANTITIES[quantity], xscale="log", yscale="log")
        axis.set_xlim(80, 4500)
        style.log_ticks(axis.xaxis, *axis.get_xlim())
        style.log_ticks(axis.yaxis, *axis.get_ylim())
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=6)
    figure.savefig(path, dpi=200)


def main() -> None:
    """Train and judge the points, record and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labels", type=Path, help="kept labels, for example resources/labels/teacher_labels.h5")
    parser.add_argument("folder", type=Path, nargs="+", help="of trainings; the first one is gone on with")
    parser.add_argument("--train-nothing", action="store_true", help="record and draw what is there")
    parser.add_argument("--models", nargs="+", choices=KINDS, default=KINDS, help="models (both)")
    parser.add_argument(
        "--compounds", nargs="+", type=int, default=SIZES, metavar="N", help="to train on; 0: all (100 316 1000 0)"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="of every point (those of the settings)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="YAML of all points done so far in the folder")
    parser.add_argument("--draw", type=Path, metavar="FILE", help=f"figure, from --record or {RECORDED}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for size in () if arguments.train_nothing else arguments.compounds:
        for kind in arguments.models:
            print(json.dumps(point(arguments.labels, arguments.folder[0], kind, size, arguments.epochs)), flush=True)
    if arguments.record:
        record([row for folder in arguments.folder for row in points_of(folder)], arguments.labels, arguments.record)
    if arguments.draw:
        draw(arguments.record or RECORDED, arguments.draw)


if __name__ == "__main__":
    main()
