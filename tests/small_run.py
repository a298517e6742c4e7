"""A study of eight compounds with a universal potential as the reference, in a copy of the repository."""

import json
import os
import shutil
import subprocess
import sys

import pandas
import yaml
from ase.build import bulk
from ase.io import write

from phonoscreen.audit.provenance import file_sha256, record_path, seal
from tests.conftest import ROOT
from tests.environments import write_guard
from tests.small_study import copy_repository

COMPOUNDS = [
    ("nacl", "NaCl", "rocksalt", 5.69), ("kbr", "KBr", "rocksalt", 6.71), ("rbi", "RbI", "rocksalt", 7.49),
    ("bate", "BaTe", "rocksalt", 7.06), ("znte", "ZnTe", "zincblende", 6.18), ("inp", "InP", "zincblende", 5.96),
    ("cscl", "CsCl", "cesiumchloride", 4.22), ("tlbr", "TlBr", "cesiumchloride", 4.06),
]  # fmt: skip
SETTINGS = yaml.safe_load((ROOT / ".test/config/config.yaml").read_text())
SETTINGS["source"] = {"kind": "files", "path": "compounds"}  # with faulty ones among them


SMALLER = """
filter: {training_structures: 2, validation_structures: 1}
training: {epochs: 2, epochs_later_rounds: 1}
"""
"""What a study of four compounds changes in the settings of ``.test``."""


def write_smaller_study(folder):
    """Write settings and pool of the study of ``.test`` with four compounds; return the options that name them."""
    shutil.copytree(ROOT / ".test/config", folder / "config")
    lines = (folder / "config/pool.csv").read_text().splitlines(keepends=True)
    (folder / "config/pool.csv").write_text("".join(lines[:5]))
    (folder / "config/smaller.yaml").write_text(SMALLER)
    return ["--configfile", "config/config.yaml", "config/smaller.yaml", "--cores", "2", "--keep-going"]


class Study:
    """One copy of the repository with the small study in it."""

    def __init__(self, folder):
        self.folder = folder
        copy_repository(folder)
        (folder / "compounds").mkdir()
        for name, formula, lattice, a in COMPOUNDS:
            write(folder / f"compounds/{name}.cif", bulk(formula, lattice, a=a))
        write(folder / "compounds/crushed.cif", bulk("KCl", "rocksalt", a=0.7))
        write(folder / "compounds/hexagonal.cif", bulk("ZnS", "wurtzite", a=3.8, c=6.2))
        (folder / "study.yaml").write_text(yaml.safe_dump(SETTINGS))
        self.places = {path.name for path in folder.iterdir()}

    def command(self, *arguments):
        triggers = ["--rerun-triggers", "mtime", "params", "input", "software-env"]
        return [sys.executable, "-m", "snakemake", "--configfile", "study.yaml", *triggers, "--cores", "2",
                "--keep-going", "--rerun-incomplete", "--max-checksum-file-size", "1GB", *arguments]  # fmt: skip

    def run(self, *arguments):
        guard = write_guard(self.folder.parent / f"{self.folder.name}.guard.json", SETTINGS["reference"]["engine"])
        environment = {**os.environ, **guard}  # every job imports what its environment file lists, and nothing else
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout + done.stderr

    def planned(self, *arguments):
        """Return the number of planned jobs by rule."""
        text = self.run(*arguments, "-n", "--quiet", "rules")
        stats = text.split("Job stats:")[1].split("total")[0] if "Job stats:" in text else ""
        rows = [line.split() for line in stats.splitlines()]
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}

    def records(self, pattern):
        return pandas.read_parquet(self.folder / "results" / pattern).set_index("structure_id")

    def record_again(self, path):
        """Record a product as it is now, as if its own job had written it so: a change in place would be refused."""
        place = record_path(path, self.folder)
        record = json.loads(place.read_text())
        del record["seal"]
        record |= {"sha256": file_sha256(self.folder / path), "n_bytes": (self.folder / path).stat().st_size}
        place.write_text(json.dumps({**record, "seal": seal(record)}))

    def tables(self):
        return {path.name: path.read_text() for path in sorted((self.folder / "results/tables").glob("*.csv"))}
