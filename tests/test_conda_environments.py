"""Snakemake makes the environments and runs every rule of a small study in its own (``make test-environments``).

The launcher holds Snakemake alone, an environment what its file lists; ``tests.conda`` stands for conda and a channel.
"""

import json
import os
import subprocess

import pytest
import yaml
from packaging.utils import canonicalize_name

from phonoscreen.workflow.code import modules_of
from tests.conftest import ROOT
from tests.environments import LOCKS, closure, imported, scripts_of, top_levels
from tests.small_run import write_smaller_study
from tests.small_study import copy_repository

pytestmark = pytest.mark.skipif("PHONOSCREEN_ENVIRONMENTS" not in os.environ, reason="make test-environments")
LAUNCHER = ROOT / ".venv-launcher/bin/python"
TOOLS = ROOT / ".venv-conda/bin/python"
FOLDER = ROOT / "runs/environments"
PREFIXES = FOLDER / "prefixes"
FAMILIES = sorted(path.stem for path in LOCKS.glob("*.txt"))


@pytest.fixture(scope="module")
def conda():
    """Environment variables with which Snakemake finds a conda, whose channel holds the locked wheels."""
    if not (FOLDER / "channel/linux-64/repodata.json").exists():
        tool("tests.conda.channel", FOLDER / "wheels", FOLDER / "channel")
    tool("tests.conda.command", "install")
    return {**os.environ, "PATH": f"{FOLDER / 'bin'}:{os.environ['PATH']}"}


def tool(module, *arguments):
    """Run one of the tools that stand for conda."""
    environment = {**os.environ, "CONDA_FOLDER": str(FOLDER)}
    subprocess.run([TOOLS, "-m", module, *arguments], cwd=ROOT, env=environment, check=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory, conda):
    """Folder of the study after every job has run in the environment of its rule."""
    folder = copy_repository(tmp_path_factory.mktemp("study"))
    options = [*write_smaller_study(folder), "--sdm", "conda", "--conda-prefix", PREFIXES]
    command = [LAUNCHER, "-m", "snakemake", *options]
    done = subprocess.run(command, cwd=folder, env=conda, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return folder


def python_of(family):
    """Return the interpreter of an environment that Snakemake has made."""
    made = [path for path in PREFIXES.glob("*.yaml") if path.read_text() == (ROOT / f"envs/{family}.yaml").read_text()]
    assert made, f"no environment was made from envs/{family}.yaml"
    return made[-1].with_suffix("") / "bin/python"


def ask(python, code, **variables):
    """Return what an interpreter prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([python, "-c", code], cwd="/", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_whole_study_ran_and_took_from_the_launcher_what_snakemake_imports_alone(study):
    """A package that a file lacks would come from the launcher, or from nowhere."""
    documents = [json.loads(path.read_text()) for path in (study / "results/provenance").glob("*/*.json")
                 if path.parent.name != "files"]  # fmt: skip
    assert len(documents) >= 54 and (study / "results/summary.html").exists()
    of_snakemake = {top for top, names in top_levels().items() if names & set(closure(["snakemake"]))}
    families = {script: family for family in FAMILIES for script in scripts_of(family)}
    for document in documents:
        outside = set(document["packages_outside_environment"])
        assert outside, "Snakemake itself comes from the launcher: the job ran in another environment"
        script = f"scripts/{document['rule']}.py"
        assert outside <= of_snakemake and not outside & imported(families[script]), document["rule"]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_environment_holds_what_its_file_lists_and_what_that_requires(study, family):
    code = "from importlib import metadata\nfor one in metadata.distributions(): print(one.name, one.version)"
    lines = [line.split() for line in ask(python_of(family), code).splitlines()]
    held = {canonicalize_name(name): version.partition("+")[0] for name, version in lines}
    text = (LOCKS / f"{family}.txt").read_text()
    locked = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in text.splitlines()[1:]}
    of_pip = {"pip"} if "pip" in yaml.safe_load((ROOT / f"envs/{family}.yaml").read_text())["dependencies"] else set()
    assert held.items() >= locked.items() and set(held) - set(locked) == of_pip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_code_of_every_rule_is_imported_in_its_environment(study, family):
    """Of the rules too that this study has no use for, with what they import inside functions."""
    files = {
        module
        for script, engines in scripts_of(family).items()
        for engine in engines or [[]]
        for module in modules_of(script, *engine)
    }
    names = sorted(path[:-3].replace("/", ".") for path in files if path.startswith("phonoscreen/"))
    held = {top for top, packages in top_levels().items() if packages & set(lock_names(family))}
    wanted = names + sorted(imported(family) & held)
    code = f"import importlib\nfor name in {wanted!r}:\n    importlib.import_module(name)\nprint('done')"
    assert len(names) > 10 and ask(python_of(family), code, PYTHONPATH=str(ROOT)).endswith("done\n")


def lock_names(family):
    """Return the names of the packages of a lock."""
    return [canonicalize_name(line.split("==")[0]) for line in (LOCKS / f"{family}.txt").read_text().splitlines()[1:]]


def test_the_container_recipe_is_clean():
    done = subprocess.run([TOOLS.with_name("hadolint"), "Containerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_container_makes_every_environment_with_the_command_of_its_recipe(conda, tmp_path):
    """Snakemake makes the environments of the default study, and no job runs."""
    lines = (ROOT / "Containerfile").read_text().splitlines()
    words = next(line for line in lines if "--conda-create-envs-only" in line and line.startswith("RUN snakemake "))
    options = words.removeprefix("RUN snakemake ").rstrip("\\ ").split()
    command = [LAUNCHER, "-m", "snakemake", *options, "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    variables = {**conda, "SNAKEMAKE_CONDA_PREFIX": str(PREFIXES)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0 and not (tmp_path / "results").exists(), (done.stdout + done.stderr)[-3000:]
    assert all(python_of(family).exists() for family in FAMILIES)
