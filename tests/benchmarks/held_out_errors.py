"""Force errors of published models on the compounds that a training held out, by the file that their labels are in.

``python -m tests.benchmarks.held_out_errors TRAINING LABELS [LABELS ...] --models FOLDER [FOLDER ...]``: TRAINING is
the folder of ``phonoscreen train``, LABELS the files that it was given, each FOLDER a published model. Printed are the
RMSE over all force components and the mean over compounds of the error over the RMS force.
"""

import argparse
from pathlib import Path

import pandas

from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.publish import load_published
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.stages.label_product import read_product


def errors(model: Path, training: Path, held_out: pandas.DataFrame) -> pandas.DataFrame:
    """Return a row per file: compounds, RMSE in meV/angstrom, mean relative error in per cent."""
    committee, _ = load_published(model, "cpu")
    dataset, rows = Dataset(training / "dataset.h5", committee.cutoff_angstrom), []
    for row in held_out.itertuples():
        group = dataset.store[row.structure_id]
        reference = group["forces"][:]
        error = committee.supercell_forces(Supercells.read(group)).mean(axis=0) - reference
        square, size = (error**2).sum(), (reference**2).sum()
        rows.append((row.file, square, error.size, 100 * (square / size) ** 0.5))
    table = pandas.DataFrame(rows, columns=["file", "square", "count", "relative_percent"]).groupby("file")
    rmse = 1e3 * (table.square.sum() / table["count"].sum()) ** 0.5
    return pandas.DataFrame(
        {"compounds": table.size(), "rmse_mev_per_angstrom": rmse, "relative_percent": table.relative_percent.mean()}
    )


def main() -> None:
    """Print the errors of every model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("training", type=Path)
    parser.add_argument("labels", type=Path, nargs="+")
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    file_of: dict[str, str] = {}
    for path in arguments.labels:
        for record, _ in read_product(path)[1]:
            file_of.setdefault(record["structure_id"], path.name)
    table = pandas.read_parquet(arguments.training / "dataset.parquet").query("split == 'held_out'")
    held_out = table.assign(file=table.structure_id.map(file_of))
    for model in arguments.models:
        print(f"{model}\n{errors(model, arguments.training, held_out).round(1)}\n", flush=True)


if __name__ == "__main__":
    main()
