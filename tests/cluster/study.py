"""A small study of rock salts with a stand-in for VASP, run through ``--profile slurm`` in a copy of the repository."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy
import pandas
import yaml
from ase.build import bulk
from ase.io import write
from snakemake.utils import update_config

from tests.cluster.fake_vasp import REST
from tests.cluster.slurm import PATIENCE_S
from tests.conftest import ROOT
from tests.small_study import copy_repository

COMPOUNDS = {name: bulk(name, "rocksalt", a=2.01 * REST[name]) for name in ("NaCl", "KBr", "RbI", "MgO")}
STAGES = ("structures", "relaxed", "supercells", "labels", "checked_labels", "tables")
"""Folders of products that are compared; the tables gather all others."""
SETTINGS = {
    "shards": 2, "source": {"kind": "files", "path": "compounds"},
    "filter": {"training_structures": 2, "validation_structures": 1},
    "training": {"epochs": 2}, "active_learning": {"rounds_max": 0},
}  # fmt: skip
"""Changes of the settings of ``.test``: every stage runs, each in seconds."""
FAKE = Path(__file__).with_name("fake_vasp.py")


class ClusterStudy:
    """One study in a folder of its own.

    Parameters
    ----------
    folder : where it goes
    slurm : ``RealSlurm``
    seconds : how long one calculation of the stand-in takes
    settings : changes of the settings
    command : that starts the stand-in
    compounds : crystals by name; the stand-in knows its rock salts alone
    compiled : folder of an earlier study, whose compiled kernels are taken along beside those of the repository
    """

    def __init__(self, folder, slurm, *, seconds=0.0, settings=None, command=None, compounds=COMPOUNDS, compiled=None):
        self.folder, self.slurm, self._launchers = Path(folder), slurm, []
        copy_repository(self.folder, leave_out=("tests/", "docs/"))
        for repository in (ROOT, compiled or ROOT):
            self._take_kernels(repository)
        (self.folder / "compounds").mkdir()
        for name, atoms in compounds.items():
            write(self.folder / f"compounds/{name}.cif", atoms)
        self.settings = yaml.safe_load((ROOT / ".test/config/config.yaml").read_text())
        fake = f"{shlex.quote(sys.executable)} {shlex.quote(str(FAKE))}"
        vasp = {"reference": {"engine": "vasp", "vasp": {"command": command or fake}}}
        for changes in (
            SETTINGS,
            vasp,
            {"reference": {"label": ["training", "validation", "unexplored"]}},
            settings or {},
        ):
            update_config(self.settings, changes)
        (self.folder / "study.yaml").write_text(yaml.safe_dump(self.settings))
        self.runs_file = self.folder / "runs.txt"
        for symbol in ("Na_pv", "Cl", "K_sv", "Br", "Rb_sv", "I", "Mg", "O"):
            place = self.folder / "potentials/potpaw_PBE" / symbol
            place.mkdir(parents=True)
            (place / "POTCAR").write_text(f" PAW_PBE {symbol}\n")
        self.environment = {
            **slurm.environment,
            "VASP_PP_PATH": str(self.folder / "potentials"),
            "FAKE_VASP_RUNS": str(self.runs_file),
            "FAKE_VASP_SECONDS": str(seconds),
            "FAKE_VASP_FAIL": str(self.folder / "fail"),
            "FAKE_VASP_HANG": str(self.folder / "hang"),
            "FAKE_VASP_HOLD": str(self.folder / "hold"),
            "SBATCH_ACCOUNT": "crystals",
            "PYTHONNOUSERSITE": "1",
        }

    def _take_kernels(self, repository):
        """Take compiled kernels along: compiling them is a fifth of the CPU time of such a study.

        Numba knows them by size and time of their source, so that the copy of it gets the same time.
        """
        for path in (repository / "phonoscreen").rglob("__pycache__/*.nb[ic]"):
            place = self.folder / path.relative_to(repository)
            source = path.parents[1] / f"{path.name.split('.')[0]}.py"
            place.parent.mkdir(exist_ok=True)
            shutil.copy(path, place)
            shutil.copystat(source, place.parents[1] / source.name)

    def command(self, *arguments, profile="slurm"):
        """Return the command of a launcher; it asks Slurm every two seconds."""
        options = ["--profile", profile, "--configfile", "study.yaml"]
        if profile == "slurm":
            options += ["--seconds-between-status-checks", "2", "--latency-wait", "5"]
        return [sys.executable, "-m", "snakemake", *options, *arguments]

    def launch(self, *arguments, name="launcher"):
        """Start a launcher and return its process."""
        return self._start(self.command(*arguments), name)

    def _start(self, command, name):
        with (self.folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_listen_to_hangups,
            )
        self._launchers.append(started)
        return started

    def submit_again(self, number):
        """Submit the script of a job once more, as a launcher would that finds nothing; return the number."""
        script = self.folder / "again.sh"
        self.slurm.change("scontrol", "write", "batch_script", number, str(script))
        options = [f"--chdir={self.folder}", f"--output={self.folder}/.snakemake/slurm_logs/%j.log", "--comment=again"]
        command = ["sbatch", "--parsable", *options, "--mem=800M", "--time=60", str(script)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def close(self):
        """End what still runs of the study, so that a test that failed leaves nothing behind."""
        for launcher in self._launchers:
            launcher.kill()
            launcher.wait()
        for number, _, _ in self.jobs("PENDING,RUNNING"):
            self.slurm.ask("scancel", number)

    def run(self, *arguments, fails=False):
        """Run a launcher to its end and return what it says."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, said[-6000:]
        return said

    def start_here(self, *arguments, name="here"):
        """Start to run the study on this machine, without Slurm, and return the process."""
        options = ["--configfile", "study.yaml", "--quiet", "all", "--cores", "2", *arguments]
        return self._start([sys.executable, "-m", "snakemake", *options], name)

    def jobs(self, states=None):
        """Return number, state and comment of this study's jobs in some states; None: of all that were ever submitted.

        The controller forgets jobs that have ended some minutes ago, the accounts do not.
        """
        command = ["squeue", "-h", f"--states={states}", "--format=%i|%T|%Z|%k"]
        if states is None:
            command = ["sacct", "--noheader", "--parsable2", "--allocations", "--allusers", "--starttime=now-7days"]
            command.append("--format=JobID,State,WorkDir,Comment")
        rows = [line.split("|") for line in (self.slurm.ask(*command) or "").splitlines()]
        return [(i, state, comment) for i, state, place, comment in rows if os.path.realpath(place) == str(self.folder)]

    def wait_for(self, is_so, words, launcher=None):
        """Wait until something is so, or a launcher that it needs has ended."""
        end = time.monotonic() + PATIENCE_S
        while not (found := is_so()):
            assert launcher is None or launcher.poll() is None, f"ended before {words}\n{self.said()[-6000:]}"
            assert time.monotonic() < end, f"waited until {words}\n{self.said()[-3000:]}"
            time.sleep(0.3)
        return found

    def wait_for_run(self, stage):
        """Wait until both shards of a rule calculate and return the numbers of their Slurm jobs."""

        def calculating():
            found = {place.split("shard=")[1][:4]: job for _, place, job in self.runs() if stage in place}
            return list(found.values()) if len(found) == 2 else None

        return self.wait_for(calculating, f"the calculations of {stage} have begun")

    def runs(self):
        """Return (begun or done, folder, Slurm job) of every run of the stand-in."""
        return [line.split() for line in self.runs_file.read_text().splitlines()] if self.runs_file.exists() else []

    def hold(self, yes=True):
        """Let no calculation end, or let them end again."""
        (self.folder / "hold").touch() if yes else (self.folder / "hold").unlink()

    def number_in(self, name):
        """Return the Slurm job that has written its number into a file, None if there is none."""
        path = self.folder / name
        return path.read_text() if path.exists() and path.read_text() else None

    def finished_twice(self):
        """Return the folders in which a calculation was done more than once."""
        done = Counter(place for what, place, _ in self.runs() if what == "done")
        return sorted(place for place, n in done.items() if n > 1)

    def said(self, name="launcher"):
        """Return what a launcher has said so far."""
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def logs_say(self, words):
        """Return whether a job of Slurm that failed, or is running, has printed some words."""
        logs = (self.folder / ".snakemake/slurm_logs").rglob("*.log")
        return any(words in path.read_text(errors="replace") for path in logs if path.exists())

    def products(self, *folders):
        """Return the content of the products of some stages, without times."""
        found = {}
        for folder in folders:
            for path in sorted((self.folder / "results" / folder).glob("*")):
                if path.suffix == ".h5":
                    found |= {f"{folder}/{path.name}:{key}": value for key, value in _arrays(path).items()}
                elif path.suffix in (".parquet", ".csv") and path.stem != "timings":
                    table = pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path, dtype=str)
                    kept = [column for column in table if "seconds" not in column]
                    found[f"{folder}/{path.name}"] = table[kept].to_csv()
                elif path.is_file() and path.stem != "timings":
                    found[f"{folder}/{path.name}"] = path.read_bytes()
        return found


def _listen_to_hangups():
    """Let SIGHUP end a launcher also where these tests run under nohup, which hands on that it is ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _arrays(path):
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = numpy.asarray(item).tobytes()

    with h5py.File(path) as store:
        store.visititems(visit)
    return found
