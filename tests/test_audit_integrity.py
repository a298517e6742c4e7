"""A damaged product is named before anybody reads it, and made again by the command that is printed.

The workflow of this file is small (two numbers, doubled, then summed) but runs through the project's own scripts' door,
``run_job``, and the hooks of the project's own ``Snakefile``.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.integrity import check_inputs
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.remake import call_options
from tests.conftest import ROOT

SNAKEFILE = """
from phonoscreen.audit.integrity import check_before_start
from phonoscreen.audit.remake import announce_call

configfile: "config.yaml"

if workflow.is_main_process:
    announce_call()


onstart:
    check_before_start(workflow.dag.needrun_jobs())

rule total:
    input: expand("results/doubled/{n}.txt", n=[0, 1])
    output: "results/total.txt"
    params: plus=config["plus"]
    script: "add.py"

rule double:
    input: "numbers/{n}.txt"
    output: number="results/doubled/{n}.txt", note="results/doubled/{n}.note"
    params: factor=config["factor"]
    script: "double.py"
"""
DOUBLE = """
from phonoscreen.audit.job import run_job
def main(job):
    number = job.params.factor * int(open(job.input[0]).read())
    open(job.output.number, "w").write(str(number))
    open(job.output.note, "w").write(f"{number} is {job.params.factor} times as much")
run_job(snakemake, main)
"""
ADD = """
from phonoscreen.audit.job import run_job
def main(job):
    open(job.output[0], "w").write(str(sum(int(open(path).read()) for path in job.input) + job.params.plus))
run_job(snakemake, main)
"""


class Workflow:
    """A workflow of three jobs in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder

    def write(self):
        files = {"Snakefile": SNAKEFILE, "double.py": DOUBLE, "add.py": ADD, "config.yaml": "{factor: 1, plus: 0}",
                 "study.yaml": "factor: 2", "numbers/0.txt": "20", "numbers/1.txt": "1"}  # fmt: skip
        for name, text in files.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text)

    def run(self, command):
        """Return the exit status and the output of a shell command in the folder."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
        done = subprocess.run(command, shell=True, cwd=self.folder, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def contents(self):
        files = [*self.folder.glob("results/*.txt"), *self.folder.glob("results/doubled/*")]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


CALL = "snakemake --configfile study.yaml --cores 1 --rerun-triggers mtime params input"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workflow = Workflow(tmp_path_factory.mktemp("finished"))
    workflow.write()
    code, text = workflow.run(CALL)
    assert code == 0, text
    return workflow


@pytest.fixture
def workflow(finished, tmp_path, monkeypatch):
    """A copy of the finished workflow, which is also the current folder."""
    shutil.copytree(finished.folder, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return Workflow(tmp_path / "study")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes().rstrip()[:-1])


def empty(path):
    path.write_bytes(b"")


def swap(path):
    other = path.with_name("1.txt")
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


def test_swapped_products_stop_the_study_and_are_made_again_by_the_printed_command(workflow):
    before = workflow.contents()
    swap(Path("results/doubled/0.txt"))
    code, text = workflow.run(CALL)
    assert code == 1
    for n in (0, 1):
        assert re.search(rf"results/doubled/{n}.txt: .* \(rule double, n={n}\)", text)
    assert Path("results/total.txt").read_bytes() == before["results/total.txt"], "the consumer's output was lost"
    command = next(line for line in text.splitlines() if "--force" in line).strip()
    assert "--configfile study.yaml" in command
    code, text = workflow.run(command)
    assert code == 0, text
    assert workflow.contents() == before
    assert "Nothing to be done" in workflow.run(CALL)[1]


def test_a_product_damaged_while_the_study_runs_is_refused_by_the_job_that_reads_it(workflow):
    """Without the check before the first job: what a job finds that starts hours later."""
    Path("results/total.txt").unlink()
    flip(Path("results/doubled/1.txt"))
    code, text = workflow.run(f"{CALL} --no-hooks")
    assert code == 1 and "results/doubled/1.txt: its content has changed" in text and "where: rule total" in text
    assert not Path("results/total.txt").exists()


@pytest.mark.parametrize(
    "damage, words",
    [
        (flip, "content has changed"),
        (cut, "has 1 bytes, 2 were written"),
        (empty, "is empty"),
        (Path.unlink, "missing"),
    ],
)
def test_every_damage_of_a_product_is_named_with_its_producer(workflow, damage, words):
    damage(Path("results/doubled/0.txt"))
    with pytest.raises(StudyError) as error:
        check_inputs(["numbers/0.txt", "results/doubled/0.txt"], where="rule total")
    for part in (
        words,
        "rule double, n=0",
        "rule total",
        "--configfile study.yaml",
        "--force -- results/doubled/0.txt",
    ):
        assert part in str(error.value)
    assert main(["verify"]) == 1


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_a_damaged_record_is_no_licence(workflow, damage, capsys):
    damage(Path("results/provenance/files/doubled/0.txt.json"))
    with pytest.raises(StudyError, match="results/doubled/0.txt"):
        check_inputs(["results/doubled/0.txt"], where="rule total")
    assert main(["verify"]) == 1
    assert re.search(r"--configfile study.yaml .*--force -- results/doubled/0.txt", capsys.readouterr().out)


def test_a_users_own_file_needs_no_record(workflow):
    Path("numbers/0.txt").write_text("21")
    assert check_inputs(["numbers/0.txt"], where="rule double") == {"numbers/0.txt": file_sha256("numbers/0.txt")}
    with pytest.raises(StudyError, match="numbers/2.txt cannot be read: No such file"):
        check_inputs(["numbers/2.txt"], where="rule double")


def test_verify_counts_sound_missing_and_unknown_products(workflow, capsys):
    assert main(["verify"]) == 0
    assert "5 product(s) match their records, 0 do not, 0 have none" in capsys.readouterr().out
    Path("results/total.txt").unlink()
    Path("results/mine.txt").write_text("not of any job")
    Path("results/provenance/files/doubled/1.txt.json").unlink()
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "results/total.txt: is missing (rule total)" in out and "  results/mine.txt" in out
    assert "results/doubled/1.txt: its record is missing" in out
    assert "3 product(s) match their records, 2 do not, 1 have none" in out


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_a_damaged_provenance_file_is_reported_and_stops_nothing(workflow, damage, capsys):
    damage(Path("results/provenance/double/n=0.json"))
    assert main(["lineage", "results/total.txt"]) == 1
    assert "damaged provenance file: results/provenance/double/n=0.json" in capsys.readouterr().out
    assert main(["verify"]) == 1
    assert "results/doubled/0.txt: its provenance file results/provenance/double/n=0.json" in capsys.readouterr().out


def test_a_damaged_provenance_file_of_no_known_product_is_named_by_both_commands(workflow, capsys):
    Path("results/provenance/lost.json").write_text('{"rule":')
    Path("results/lost.txt").write_text("1")
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "results/provenance/lost.json" in out and "make them again" not in out
    assert "5 product(s) match their records, 0 do not, 1 have none" in out
    assert main(["lineage", "results/lost.txt"]) == 1
    out = capsys.readouterr().out
    assert "results/provenance/lost.json" in out and "no job of the study wrote this file" in out


def test_nothing_is_said_about_files_of_other_places(workflow, capsys):
    Path("unrelated.txt").write_text("1")
    for path in ("/etc/hostname", "../elsewhere.txt", "unrelated.txt", "results"):
        assert main(["lineage", path]) == 2
        assert "nothing is known" in capsys.readouterr().err
    assert main(["lineage", "numbers/0.txt"]) == 0
    Path("numbers/0.txt").write_text("21")
    assert main(["lineage", "numbers/0.txt"]) == 1


def test_a_reader_that_stops_early_is_no_error(workflow):
    code, text = workflow.run("set -o pipefail; python -m phonoscreen lineage results/total.txt | true")
    assert "Traceback" not in text and "Exception" not in text


def test_the_printed_command_keeps_what_decides_the_result_and_drops_the_rest():
    called = ["-n", "--profile", "laptop", "figure4", "--config", "seed=5", "source={kind: pool}", "--cores", "2", "-R"]
    called += ["fit_force_constants", "--configfile", "a.yaml", "my study.yaml", "--keep-going", "--", "results/x.h5"]
    options = call_options(called)
    assert (
        options
        == "--profile laptop --configfile a.yaml 'my study.yaml' --config seed=5 'source={kind: pool}' --cores 2"
    )


def test_the_printed_command_of_a_study_in_another_folder_serves_in_any_folder(tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    called = ["--directory", "study", "--configfile", "mine.yaml", "--profile", "named", "--cores", "2"]
    (tmp_path / "study").mkdir()
    expected = f"--profile named --snakefile {tmp_path}/Snakefile --directory {tmp_path}/study "
    expected += f"--configfile {tmp_path}/mine.yaml --cores 2"
    assert call_options(called, str(tmp_path), f"{tmp_path}/Snakefile") == expected
    here = [word for word in called if word not in ("--directory", "study")]
    assert (
        call_options(here, str(tmp_path), f"{tmp_path}/Snakefile") == "--profile named --configfile mine.yaml --cores 2"
    )
