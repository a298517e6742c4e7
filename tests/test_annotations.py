"""Public functions of the packages that the type checker reads carry annotations and docstrings."""

import ast
import tomllib

import pytest

from tests.conftest import ROOT

CHECKED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["packages"]


def public_functions(tree, prefix=""):
    """Yield (name, node) of the functions and methods that another module may call."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            yield f"{prefix}{node.name}", node


def without_annotation(node):
    """Return what lacks an annotation: names of arguments, "return"."""
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    missing = [one.arg for one in named if one and not one.annotation and one.arg not in ("self", "cls")]
    return missing + (["return"] if node.returns is None and node.name != "__init__" else [])


def in_scope():
    for package in CHECKED:
        place = ROOT / package.replace(".", "/")
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            yield from ((path, *found) for found in public_functions(ast.parse(path.read_text())))


def test_public_functions_of_the_checked_packages_are_annotated():
    missing = {f"{path.relative_to(ROOT)}: {name}": without_annotation(node) for path, name, node in in_scope()}
    assert len(missing) > 50
    assert not {name: what for name, what in missing.items() if what}


def test_public_functions_of_the_checked_packages_say_what_they_do():
    silent = [
        f"{path.name}: {name}"
        for path, name, node in in_scope()
        if node.name != "__init__" and not ast.get_docstring(node)
    ]
    assert not silent


@pytest.mark.parametrize(
    "text, missing",
    [
        ("def f(a, *, b=1): pass", ["a", "b", "return"]),
        ("def f(a: int, *rest) -> int: pass", ["rest"]),
        ("def f(a: int, **options: int) -> int: pass", []),
    ],
)
def test_a_missing_annotation_is_seen(text, missing):
    ((_, node),) = public_functions(ast.parse(text))
    assert without_annotation(node) == missing
