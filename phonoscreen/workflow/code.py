"""Digest of what the code of a rule does: its script and every project module it imports.

Snakemake notices edits of a script but not of the modules it imports. Each rule carries this digest as a parameter, so
that an edit of a module reruns exactly the rules that use it, and a fresh checkout of the same code reruns none.

The digest is taken over the syntax tree. Comments, layout, docstrings, type annotations, calls of the logger and the
version number are no part of it: none of them changes a result.
"""

import ast
import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "phonoscreen"
LOGGERS = {"log", "logging"}
"""Names whose calls are logging and nothing else in this project."""
ONLY_FOR_ANNOTATIONS = ("__future__", "typing", "collections.abc", "numpy.typing", "logging")
"""Modules that are imported for annotations or for the log; such an import counts only where its name is still used."""
_NO_MEANING = ("annotation", "returns", "ctx", "kind", "type_comment")
"""Fields of the syntax tree without effect. The name of an annotated field stays: it makes the field of a dataclass."""


@functools.cache
def code_of(*files):
    """Return a digest of a script and of all project modules in its import closure.

    Parameters
    ----------
    files : paths relative to the repository, for example ``"scripts/solve_bte.py"``; more than one where a script
        chooses a module at run time

    Returns
    -------
    str of 16 hexadecimal digits

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    """
    digest = hashlib.sha256()
    for path in modules_of(*files):
        digest.update(path.encode())
        digest.update(meaning_of(path))
    return digest.hexdigest()[:16]


@functools.cache
def modules_of(*files):
    """Return the files of an import closure, relative to the repository, sorted."""
    pending, seen = [Path(path) for path in files], set()
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending.extend(_imports(path))
    return tuple(sorted(str(path) for path in seen))


@functools.cache
def meaning_of(path):
    """Return the digest (bytes) of what one file does; equal for two texts that differ in words alone."""
    words, used = [], set()
    imports = [node for node in _tree(path).body if _is_for_annotations(node)]
    for node in _tree(path).body:
        if node not in imports:
            _spell(node, words, used)
    for node in imports:
        if any((alias.asname or alias.name.partition(".")[0]) in used for alias in node.names):
            _spell(node, words, used)
    return hashlib.sha256(" ".join(words).encode()).digest()


def forget():
    """Forget all digests; for tests that edit code while a process runs."""
    for function in (code_of, modules_of, meaning_of, _tree, _imports):
        function.cache_clear()


def _spell(node, words, used):
    """Append a syntax tree as words, without what does not change a result, and collect the names that it uses.

    Empty and absent fields are left out, so that the words are the same in every version of Python.
    """
    kind = type(node)
    if kind in (ast.Expr, ast.Assign, ast.If) and _is_silent(node):
        return
    words.append(kind.__name__)
    if kind is ast.Name:
        used.add(node.id)
    for name in kind._fields:
        value = getattr(node, name, None)
        if name in _NO_MEANING or value is None and kind is not ast.Constant or value == []:
            continue
        words.append(name)
        for item in value if type(value) is list else (value,):
            if isinstance(item, ast.AST):
                _spell(item, words, used)
            else:
                words.append(repr(item))
    words.append(")")


def _is_silent(node):
    """Docstrings, logging, the version number and imports for a type checker do nothing to a result."""
    if isinstance(node, ast.Expr):
        value = node.value
        return isinstance(value, ast.Constant) or (isinstance(value, ast.Call) and _root(value.func) in LOGGERS)
    if isinstance(node, ast.Assign):
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        return "__version__" in names or (isinstance(node.value, ast.Call) and _root(node.value.func) == "logging")
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _root(node):
    """Return the first name of a dotted one, such as ``log`` of ``log.info``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _is_for_annotations(node):
    if isinstance(node, ast.ImportFrom):
        return node.module in ONLY_FOR_ANNOTATIONS
    return isinstance(node, ast.Import) and all(alias.name in ONLY_FOR_ANNOTATIONS for alias in node.names)


@functools.cache
def _tree(path):
    return ast.parse((ROOT / path).read_text(), filename=str(path))


@functools.cache
def _imports(path):
    """Return the project files one file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(_tree(str(path))):
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
