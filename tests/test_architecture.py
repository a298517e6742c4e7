"""The floors of the library: imports point down only, between packages and between files."""

import ast
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

FLOORS = (
    "audit", "crystal", "phonons", "force_constants", "transport", "formats", "structures", "reference", "forcefield",
    "bonding", "stages", "analysis", "figures", "experiment", "commands",
)  # fmt: skip
"""Every package imports only from packages before it; ``workflow`` stands beside them."""


def modules():
    """Return the files of the library by module name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted((ROOT / "phonoscreen").rglob("*.py"))
    }


def imports():
    """Return the project modules that each module imports, imports inside functions included."""
    known = modules()
    found = {name: set() for name in known}
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.level == 0, f"{name} has a relative import"
                targets = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            found[name] |= {target for target in targets if target in known}
    return found


def floor_of(module):
    return module.split(".")[1] if module.count(".") else ""


@pytest.fixture(scope="module")
def graph():
    return imports()


def test_every_package_has_its_floor(graph):
    packages = {floor_of(name) for name in graph if name.count(".") >= 2}
    assert packages == {*FLOORS, "workflow"}


def test_no_import_points_up(graph):
    up = [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in targets
        if floor_of(name) in FLOORS
        and floor_of(target) in FLOORS
        and FLOORS.index(floor_of(target)) > FLOORS.index(floor_of(name))
    ]
    assert not up, "\n".join(up)


def test_the_science_does_not_know_the_workflow(graph):
    """Only a command of the experiment reads settings; the workflow needs no science."""
    users = {name for name, targets in graph.items() if any(floor_of(target) == "workflow" for target in targets)}
    assert {floor_of(name) for name in users} <= {"workflow", "experiment", "commands"}
    reached = {floor_of(target) for name in graph if floor_of(name) == "workflow" for target in graph[name]}
    assert reached <= {"workflow", "audit", "formats", ""}


def test_no_files_import_each_other_in_a_circle(graph):
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for target in graph[name]:
                visit(target)
            path.pop()
            done.add(name)

    for name in graph:
        visit(name)


LONGEST_FUNCTION, LONGEST_SCRIPT = 60, 40
"""Lines of code: what a reader holds in mind. Docstrings do not count in functions."""


def functions(path):
    """Yield every function and method of a file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of_code(function):
    """Lines from ``def`` to the end, without the docstring."""
    first, own = function.body[0], function.end_lineno - function.lineno + 1
    told = ast.get_docstring(function) is not None
    return own - (first.end_lineno - first.lineno + 1) if told else own


def test_no_function_is_longer_than_a_reader_holds_in_mind():
    """A longer one says in its docstring why: "One function, because"."""
    files = [*modules().values(), *sorted((ROOT / "scripts").glob("*.py"))]
    long = [
        f"{path.relative_to(ROOT)}: {function.name} has {lines_of_code(function)} lines"
        for path in files
        for function in functions(path)
        if lines_of_code(function) > LONGEST_FUNCTION
        and "One function, because" not in (ast.get_docstring(function) or "")
    ]
    assert not long, "\n".join(long)


def test_scripts_are_thin():
    long = [
        f"{path.name} has {n} lines"
        for path in sorted((ROOT / "scripts").glob("*.py"))
        if (n := len(path.read_text().splitlines())) > LONGEST_SCRIPT
    ]
    assert not long, "\n".join(long)


def test_the_snakefiles_import_nothing_heavy():
    """They are read again in every job of a cluster, and by launchers that hold Snakemake alone."""
    texts = [path.read_text() for path in (ROOT / "Snakefile", *sorted((ROOT / "profiles").glob("*/Snakefile")))]
    names = {name for text in texts for name in re.findall(r"^ *from (phonoscreen[\w.]+) import", text, re.M)}
    names -= {"phonoscreen.workflow.slurm.executor"}  # of the launcher alone; Slurm's plugin itself needs pandas
    code = f"import sys, importlib\nfor name in {sorted(names)}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(names) > 15
    assert not {"numpy", "pandas", "h5py", "scipy", "torch", "ase", "requests"} & set(done.stdout.split())


def test_products_of_the_repository_name_no_folder_of_a_machine():
    """A recorded command had named the folder where it ran."""
    absolute = re.compile(r"(?<![\w.:/])/(home|root|work|tmp|Users|mnt|opt|scratch)/")
    read = [
        path for path in (ROOT / "resources").rglob("*") if path.suffix in {".yaml", ".json", ".jsonl", ".csv", ".md"}
    ]
    assert len(read) > 10
    assert not [str(path) for path in read if absolute.search(path.read_text())]
