"""Digest of the code a rule runs: its script and every project module it imports.

Snakemake notices edits of a script but not of the modules it imports. Each rule carries this digest as a parameter, so
that editing a module reruns exactly the rules that use it, and a fresh checkout of the same code reruns none.
"""

import ast
import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "phonoscreen"


@functools.cache
def code_of(script):
    """Return a digest of a script and of all project modules in its import closure.

    Parameters
    ----------
    script : path relative to the repository, for example ``"scripts/solve_bte.py"``

    Returns
    -------
    str of 16 hexadecimal digits

    Raises
    ------
    FileNotFoundError
        If the script does not exist.
    """
    digest = hashlib.sha256()
    for path in modules_of(script):
        digest.update(path.encode())
        digest.update((ROOT / path).read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def modules_of(script):
    """Return the files of a script's import closure, relative to the repository, sorted."""
    pending, seen = [Path(script)], set()
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending.extend(_imports(path))
    return tuple(sorted(str(path) for path in seen))


@functools.cache
def _imports(path):
    """Return the project files one file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(path.parent.parts[: len(path.parent.parts) - node.level + 1])
            module = f"{base}.{node.module}" if node.module else base
            names = [module] + [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == PACKAGE:
                found.update(_files(name))
    return tuple(sorted(found))


def _files(name):
    """Return the file of a dotted module name and of the packages above it; nothing for a function of a module."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        package = Path(*parts[:depth]) / "__init__.py"
        module = Path(*parts[:depth]).with_suffix(".py")
        if (ROOT / package).exists():
            yield package
        elif (ROOT / module).exists():
            yield module
