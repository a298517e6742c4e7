"""All compounds of phonondb collected as force sets, their frequencies beside phonopy's.

``make benchmark-force-sets`` goes through them in a random order that does not change, so that any beginning is a fair
draw, and keeps a row of each in a table (``runs/phonondb_collection.csv``, or ``--table``): a command that was stopped
continues there. A number (COMPOUNDS) ends it after that many rows. The summary names the largest difference, and every
refusal with its reason.
"""

import argparse
import csv
import random
import tempfile
import time
from pathlib import Path

import pandas
from threadpoolctl import threadpool_limits

from phonoscreen.audit.errors import StudyError
from tests.conftest import reference_folder
from tests.test_force_sets import study_against_phonopy

DIFFERENCE_THZ = 1e-4
COLUMNS = ("compound", "difference_thz", "refusal")


def compare(archive):
    """Return the row of one compound: a difference of frequencies, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return archive.name, repr(float(study_against_phonopy(archive, Path(folder)))), ""
        except (StudyError, ValueError) as error:
            return archive.name, "", " ".join(str(error).splitlines()[0].split())


def extend(table, archives):
    """Append the rows of all archives that the table lacks."""
    known = set(pandas.read_csv(table)["compound"]) if table.exists() else set()
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "a", newline="") as stream:
        writer = csv.writer(stream)
        if not known:
            writer.writerow(COLUMNS)
        for archive in archives:
            if archive.name not in known:
                writer.writerow(compare(archive))
                stream.flush()


def summary(rows, n_all):
    """Return the summary of a table in lines."""
    compared = rows.dropna(subset="difference_thz").sort_values("difference_thz", ascending=False)
    differences = compared["difference_thz"]
    lines = [f"{len(rows)} of {n_all} compounds: {len(compared)} collected and compared, {len(rows) - len(compared)} "
             f"refused; largest difference {differences.max():.1e} THz, median {differences.median():.1e}, "
             f"{(differences > DIFFERENCE_THZ).sum()} above {DIFFERENCE_THZ:g}"]  # fmt: skip
    lines += [f"  {name}: {value:.1e} THz" for name, value in zip(compared["compound"][:3], differences[:3])]
    refused = rows[rows["difference_thz"].isna()]
    return lines + [f"  {name}: {reason}" for name, reason in zip(refused["compound"], refused["refusal"])]


def main():
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("compounds", nargs="?", type=int, help="end after so many rows")
    parser.add_argument("--table", type=Path, default=Path("runs/phonondb_collection.csv"))
    options = parser.parse_args()
    archives = sorted((reference_folder() / "phonondb").rglob("*.tar.lzma"))
    random.Random(1).shuffle(archives)
    began = time.process_time()
    extend(options.table, archives[: options.compounds])
    rows = pandas.read_csv(options.table).astype({"difference_thz": float})
    print("\n".join(summary(rows, len(archives))))
    print(f"CPU seconds of this command: {time.process_time() - began:.0f}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
