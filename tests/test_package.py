"""The package as a stranger installs it: one range of Python versions, files found from anywhere, refusals of make."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from phonoscreen import __version__
from phonoscreen.__main__ import main
from phonoscreen.audit.shipped import shipped
from phonoscreen.workflow.code import ROOT as CODE_ROOT
from tests.conftest import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def make(folder, *arguments):
    return subprocess.run(["make", "-n", *arguments], cwd=folder, capture_output=True, text=True)


def test_python_versions_are_the_same_everywhere():
    oldest, newest = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PYPROJECT["project"]["requires-python"]).groups())
    named = [text for text in PYPROJECT["project"]["classifiers"] if text.startswith("Programming Language")]
    assert named == [f"Programming Language :: Python :: 3.{minor}" for minor in range(oldest, newest)]
    assert f"not (3, {oldest}) <= v <= (3, {newest - 1})" in (ROOT / "Makefile").read_text()
    assert PYPROJECT["tool"]["mypy"]["python_version"] == f"3.{oldest}"
    for path in (ROOT / "envs").glob("*.yaml"):
        minor = next(
            re.fullmatch(r"python=3\.(\d+)", name) for name in yaml.safe_load(path.read_text())["dependencies"]
        )
        assert oldest <= int(minor[1]) < newest, path


@pytest.mark.parametrize("version, good", [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)])
def test_make_refuses_a_python_that_the_dependencies_do_not_support(version, good):
    lines = make(ROOT, "--always-make", ".venv/.complete").stdout.splitlines()
    (check,) = (line for line in lines if "sys.version_info" in line)
    text = re.fullmatch(r'python3 -c "(.*)"', check)[1].replace(
        "import sys;", f"import sys; sys.version_info = {version};"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert (done.returncode == 0) == good
    assert good or f"needs Python 3.11 to 3.13; python3 is 3.{version[1]}" in done.stderr


def test_make_refuses_a_path_with_a_space_before_it_installs(tmp_path):
    folder = tmp_path / "my study"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    done = make(folder, "run")
    assert done.returncode != 0 and "has a space" in done.stderr and "venv" not in done.stdout


def test_direct_dependencies_are_in_the_lock():
    lock = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    locked = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    extras = {name: texts for name, texts in PYPROJECT["project"]["optional-dependencies"].items()}
    for texts in (
        PYPROJECT["project"]["dependencies"],
        *(extras[name] for name in extras if name not in ("gpaw", "nequix")),
    ):
        for text in texts:
            name, least = re.sub(r"\[.*\]", "", text).split(">=")
            version = [int(part) for part in re.findall(r"\d+", locked[name.lower()])]
            assert version >= [int(part) for part in re.findall(r"\d+", least)], text


def test_shipped_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped("resources/prototypes.yaml").is_file() and shipped("schemas/tables").is_dir()
    with pytest.raises(FileNotFoundError, match="does not ship"):
        shipped("resources/unknown.yaml")


def test_the_command_says_its_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"phonoscreen {__version__}\n"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def test_the_package_holds_what_is_shipped():
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {name: f"phonoscreen/_data/{name}" for name in ("resources", "schemas")}
    assert CODE_ROOT == ROOT


def test_a_study_imports_its_own_library_where_another_is_installed(tmp_path):
    """An installed phonoscreen comes before the paths that Snakemake appends; the study's own must come before both."""
    installed = tmp_path / "installed/phonoscreen"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("raise RuntimeError('the installed library')")
    study = tmp_path / "study"
    study.mkdir()
    shutil.copy(ROOT / "resources/pool.csv", study / "pool.csv")
    (study / "mine.yaml").write_text("source: {kind: pool, path: pool.csv}\nreference: {engine: sevennet}\n")
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(study)]
    command += ["--configfile", str(study / "mine.yaml"), "--cores", "1", "--", "results/structures/candidates.parquet"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed.parent)}, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (study / "results/structures/candidates.parquet").is_file()
