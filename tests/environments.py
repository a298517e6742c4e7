"""What the conda environments hold: as their files say, and as the wheels of the same packages require.

``python -m tests.environments lock`` writes the lock files in ``envs/locks``: the packages of each environment with all
that they require, in the versions installed here. ``tests/test_conda_environments.py`` makes environments of them and
runs the rules there.
"""

import ast
import functools
import json
import re
import sys
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from phonoscreen.workflow.code import modules_of
from phonoscreen.workflow.inputs import engine_code, engine_environment, relaxing_code, relaxing_environment
from tests.conftest import ROOT

LOCKS = ROOT / "envs/locks"
WHEELS = {"pytorch": "torch", "matplotlib-base": "matplotlib", "tblite-python": "tblite"}
"""Names on PyPI of packages that conda-forge names otherwise."""
ENGINE = re.compile("(engine|relaxing)_environment\\(")
PUBLISHED = {"relax": {"engine": "published", "published_model": "resources/model"}}
"""Settings of a study that a published model relaxes."""
NO_PACKAGES = ("python", "pip")


def families() -> list[str]:
    """Return the names of the environments."""
    return sorted(path.stem for path in (ROOT / "envs").glob("*.yaml"))


def declared(family: str) -> dict[str, str]:
    """Return the version of each package that an environment file lists, by its name on PyPI."""
    found = {}
    for entry in yaml.safe_load((ROOT / f"envs/{family}.yaml").read_text())["dependencies"]:
        for item in entry["pip"] if isinstance(entry, dict) else [entry]:
            name, _, version = item.replace("==", "=").partition("=")
            if name not in NO_PACKAGES:
                found[canonicalize_name(WHEELS.get(name, name))] = version
    script = ROOT / f"envs/{family}.post-deploy.sh"
    for name, version in re.findall(r"(\S+)==(\S+)", script.read_text()) if script.exists() else []:
        found[canonicalize_name(name)] = version
    return found


@functools.cache
def _requires(name: str) -> tuple[str, tuple[str, ...]]:
    """Return version and requirements of an installed package."""
    texts = [Requirement(text) for text in metadata.requires(name) or []]
    wanted = [one.name for one in texts if one.marker is None or one.marker.evaluate({"extra": ""})]
    return metadata.version(name).partition("+")[0], tuple(map(canonicalize_name, wanted))  # 2.13.0+cpu and the like


def closure(names) -> dict[str, str]:
    """Return the version of each package that some packages require, themselves included, as installed here.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If one is not installed.
    """
    pending, found = [canonicalize_name(name) for name in names], {}
    while pending:
        name = pending.pop()
        if name not in found:
            found[name], wanted = _requires(name)
            pending.extend(wanted)
    return dict(sorted(found.items()))


@functools.cache
def top_levels() -> dict[str, set[str]]:
    """Return the names of the distributions by the top-level module that they install."""
    return {
        top: {canonicalize_name(name) for name in names} for top, names in metadata.packages_distributions().items()
    }


def scripts_of(family: str) -> dict[str, list[list[str]]]:
    """Return the files of each engine that a script of an environment takes; none where its rule takes no engine."""
    found: dict[str, list[list[str]]] = {}
    for name, body in _rules().items():
        (script,) = re.findall(r"\.\./(scripts/\w+\.py)", body)
        if "relaxing_environment(" in body and Path(relaxing_environment(PUBLISHED)).stem == family:
            found[script] = [relaxing_code(PUBLISHED)]
        elif ENGINE.search(body):
            engines = [name for name in _engines() if Path(engine_environment({"engine": name})).stem == family]
            if engines:
                found[script] = [[engine_code({"reference": {"engine": engine}})] for engine in engines]
        elif family in re.findall(r"envs/(\w+)\.yaml", body):
            found[script] = []
    return found


def _rules():
    text = "\n\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    found = {m.group(1): m.group(0) for m in re.finditer(r"^rule (\w+):\n(?:[ \t].*\n|\n(?=[ \t]))*", text, re.M)}
    return {name: body for name, body in found.items() if "script:" in body}


def _engines():
    paths = sorted((ROOT / "phonoscreen/reference").glob("*.py"))
    return [path.stem for path in paths if "\ndef make(" in path.read_text()]


def imported(family: str) -> set[str]:
    """Return the top-level names that the code of an environment imports, inside functions too."""
    modules: set[str] = set()
    for script, engines in scripts_of(family).items():
        for files in engines or [[]]:
            modules.update(modules_of(script, *files))
    return {name for module in modules for name in foreign_imports(module)}


@functools.cache
def foreign_imports(module: str) -> dict[str, bool]:
    """Return the top-level modules that a file imports from elsewhere, and whether it imports them when it is read."""
    tree = ast.parse((ROOT / module).read_text())
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for top in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"phonoscreen"}:
            found[top] = found.get(top, False) or node in tree.body
    return found


@functools.cache
def allowed(family: str) -> set[str]:
    """Return the top-level modules that the packages of an environment and what they require install."""
    packages = set(closure(declared(family)))
    return {top for top, names in top_levels().items() if names & packages}


def write_guard(path: Path, engine: str) -> dict[str, str]:
    """Write what each script may import, for ``tests/guard``; return the environment variables that switch it on.

    Parameters
    ----------
    path : JSON file
    engine : of the reference forces
    """
    chosen = Path(engine_environment({"engine": engine})).stem
    scripts: dict[str, list[str]] = {}
    for name, body in _rules().items():
        family = chosen if ENGINE.search(body) else re.findall(r"envs/(\w+)\.yaml", body)[0]
        scripts[name] = sorted(allowed(family))
    path.write_text(json.dumps({"scripts": scripts, "installed": sorted(top_levels())}))
    return {"PHONOSCREEN_GUARD": str(path), "PYTHONPATH": str(ROOT / "tests/guard")}


def lock(family: str) -> str:
    """Return the lock file of an environment as text."""
    head = f"# Wheels of envs/{family}.yaml and of all that they require: python -m tests.environments lock\n"
    return head + "".join(f"{name}=={version}\n" for name, version in closure(declared(family)).items())


def main() -> None:
    """Write the lock files."""
    if sys.argv[1:] != ["lock"]:
        sys.exit(__doc__)
    LOCKS.mkdir(exist_ok=True)
    for family in families():
        try:
            (LOCKS / f"{family}.txt").write_text(lock(family))
        except metadata.PackageNotFoundError as error:
            print(f"{family}: {error} is not installed here, its lock stays as it is")


if __name__ == "__main__":
    main()
