"""The conda environments hold what their rules import and nothing else, and their locks are in step.

That every rule runs with nothing else is shown by the small study (``tests/small_run.py``), whose jobs are guarded.
"""

import subprocess
import sys
from importlib import metadata

import pytest
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tests.environments import (
    LOCKS,
    allowed,
    declared,
    families,
    imported,
    lock,
    scripts_of,
    top_levels,
    write_guard,
)

NOT_IMPORTED = {"pyarrow"}
"""Packages that pandas finds by itself: Parquet."""


def installed(family):
    """Return whether the packages of an environment are here; skip if not."""
    try:
        return allowed(family)
    except metadata.PackageNotFoundError as error:
        pytest.skip(f"{error} is not installed here")


@pytest.mark.parametrize("family", families())
def test_an_environment_lists_nothing_that_its_rules_do_not_import(family):
    installed(family)
    used = {name for top in imported(family) for name in top_levels().get(top, ())}
    assert scripts_of(family) and not set(declared(family)) - used - NOT_IMPORTED


@pytest.mark.parametrize("family", families())
def test_the_lock_of_an_environment_is_in_step_with_its_file(family):
    installed(family)
    text = (LOCKS / f"{family}.txt").read_text()
    assert text == lock(family), "run python -m tests.environments lock"
    locked = dict(line.split("==") for line in text.splitlines()[1:])
    assert declared(family).items() <= {canonicalize_name(name): version for name, version in locked.items()}.items()


JOB = """
import sys
try:
    import {module}
except ModuleNotFoundError as error:
    print("refused:", error)
else:
    print("found")
"""


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    """The environment variables that guard the jobs."""
    return write_guard(tmp_path_factory.mktemp("guard") / "guard.json", "sevennet")


@pytest.mark.parametrize(
    "script, module, refused",
    [("solve_bte", "h5py", False), ("solve_bte", "seaborn", True), ("solve_bte", "torch", True),
     ("train_member", "torch", False), ("draw_figure", "torch", True), ("other", "torch", False)],
)  # fmt: skip
def test_a_module_that_only_the_launcher_has_is_refused_in_a_job(tmp_path, guard, script, module, refused):
    name = script if script != "other" else "solve_bte"
    place = tmp_path / (".snakemake/scripts" if script != "other" else "") / f"tmpabc.{name}.py"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(JOB.format(module=module))
    done = subprocess.run([sys.executable, place], env=guard, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("refused" if refused else "found"), done.stderr[-2000:]


def test_the_lock_of_nequix_holds_what_its_environment_lists():
    text = (ROOT / "envs" / "nequix-requirements.txt").read_text()
    locked = dict(line.split("==") for line in text.splitlines() if "==" in line)
    versions = {canonicalize_name(name): version for name, version in locked.items()}
    assert declared("nequix").items() <= versions.items(), "add what is missing, with all that it requires"


@pytest.mark.parametrize("module", ["phonoscreen.stages.label_library", "phonoscreen.stages.screening_confirmation"])
def test_what_is_run_in_the_environment_of_nequix_begins_without_what_it_lacks(module):
    """``phonoscreen confirm`` asked for torch, which labels need no more than their potential does."""
    text = (ROOT / "envs" / "nequix-requirements.txt").read_text()
    locked = {canonicalize_name(line.split("==")[0]) for line in text.splitlines() if "==" in line} | {"phonoscreen"}
    tops = metadata.packages_distributions().items()
    lacking = [top for top, names in tops if not locked & set(map(canonicalize_name, names))]
    code = f"import sys; sys.modules.update(dict.fromkeys({lacking!r})); import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "torch" in lacking and done.returncode == 0, done.stderr[-2000:]
