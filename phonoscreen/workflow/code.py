"""Digest of what the code of a rule does: its script and every project module it imports.

Snakemake notices edits of a script but not of the modules it imports. Each rule carries this digest as a parameter, so
that an edit of a module reruns exactly the rules that use it, and a fresh checkout of the same code reruns none.

What one file does and imports is kept from run to run by the content of the file: reading it from the syntax trees of
all modules costs seconds, and every job of the study would do it again.

The digest is taken over the syntax tree. Comments, layout, docstrings, type annotations, calls of the logger and the
version number are no part of it: none of them changes a result.
"""

import ast
import functools
import hashlib
import json
import sys
from pathlib import Path

from phonoscreen.audit.atomic import written_whole

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "phonoscreen"
LOGGERS = {"log", "logging"}
"""Names whose calls are logging and nothing else in this project."""
ONLY_FOR_ANNOTATIONS = ("__future__", "typing", "collections.abc", "numpy.typing", "logging")
"""Modules that are imported for annotations or for the log; such an import counts only where its name is still used."""
_NO_MEANING = ("annotation", "returns", "ctx", "kind", "type_comment")
"""Fields of the syntax tree without effect. The name of an annotated field stays: it makes the field of a dataclass."""


@functools.cache
def code_of(*files: str) -> str:
    """Return a digest of a script and of all project modules in its import closure.

    Parameters
    ----------
    files : paths relative to the repository, for example ``"scripts/solve_bte.py"``. A script that imports a module
        whose name is made at run time, such as ``import_module(f"phonoscreen.figures.{name}")``, counts with every
        module of that package; where the rule knows which one it is, it names that file as well, and of that package it
        alone counts

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
def modules_of(*files: str) -> tuple[str, ...]:
    """Return the files of an import closure, relative to the repository, sorted."""
    pending, seen = list(files), set()
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending.extend(file for name in _facts(path)["imports"] for file in _files(name))
            for name in _facts(path)["packages"]:
                members = _files_of(name)
                if not set(members) & set(files):
                    pending.extend(members)
    return tuple(sorted(seen))


@functools.cache
def meaning_of(path: str) -> bytes:
    """Return the digest (bytes) of what one file does; equal for two texts that differ in words alone."""
    return bytes.fromhex(_facts(path)["meaning"])


def keep_facts() -> None:
    """Write what is known of the files, for the next run and for the jobs of this one."""
    if _facts.cache_info().currsize and not _NEW.keys() <= _kept().keys():
        KEPT.parent.mkdir(exist_ok=True)
        with written_whole(KEPT, shared=True) as partial:
            partial.write_text(json.dumps({"by": _by(), "facts": _NEW}))


def forget() -> None:
    """Forget all digests; for tests that edit code while a process runs."""
    for function in (code_of, modules_of, meaning_of, _facts, _files_of_package):
        function.cache_clear()


KEPT = Path(".snakemake/phonoscreen_code.json")
_NEW: dict[str, dict] = {}


@functools.cache
def _kept():
    """Return the facts of files that an earlier run has kept, by the digest of their content."""
    try:
        document = json.loads(KEPT.read_text())
        return document["facts"] if document["by"] == _by() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@functools.cache
def _by():
    """Return what the facts depend on besides the content of a file: this module and Python."""
    return hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()


@functools.cache
def _facts(path):
    """Return what counts of a file: its ``meaning`` (digest of what it does), ``imports`` and ``packages``.

    ``imports`` are the project modules that it imports, ``packages`` those out of which it imports modules whose names
    are made at run time.
    """
    content = (ROOT / path).read_bytes()
    key = hashlib.sha256(f"{Path(path).parent}\0".encode() + content).hexdigest()
    facts = _kept().get(key) or _NEW.get(key)
    if facts is None:
        tree = ast.parse(content, filename=str(path))
        facts = {"meaning": _meaning(tree), "imports": _imported(tree, Path(path)), "packages": _packages(tree)}
    _NEW[key] = facts
    return facts


def _meaning(tree):
    words: list[str] = []
    used: set[str] = set()
    imports = [node for node in tree.body if _is_for_annotations(node)]
    for node in tree.body:
        if node not in imports:
            _spell(node, words, used)
    for node in imports:
        if any((alias.asname or alias.name.partition(".")[0]) in used for alias in node.names):
            _spell(node, words, used)
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _spell(node, words, used, in_class=False):
    """Append a syntax tree as words, without what does not change a result, and collect the names that it uses.

    Empty and absent fields are left out, so that the words are the same in every version of Python. An annotated
    assignment is one without annotation, but in the body of a class: there it may make a field.
    """
    kind = type(node)
    if kind is ast.AnnAssign and not in_class:
        if node.value is None:
            return
        node, kind = ast.Assign(targets=[node.target], value=node.value), ast.Assign
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
                _spell(item, words, used, kind is ast.ClassDef)
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
    return _is_for_type_checker(node)


def _is_for_type_checker(node):
    if not isinstance(node, ast.If) or node.orelse:
        return False
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _run_nodes(tree):
    """Yield all nodes of a syntax tree but what only a type checker sees."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if not _is_for_type_checker(node):
            yield node
            pending.extend(ast.iter_child_nodes(node))


def _root(node):
    """Return the first name of a dotted one, such as ``log`` of ``log.info``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _is_for_annotations(node):
    if isinstance(node, ast.ImportFrom):
        return node.module in ONLY_FOR_ANNOTATIONS
    return isinstance(node, ast.Import) and all(alias.name in ONLY_FOR_ANNOTATIONS for alias in node.names)


def _imported(tree, path):
    """Return the dotted names from this project that one file imports, at any depth of its code."""
    found: set[str] = set()
    for node in _run_nodes(tree):
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
        found.update(name for name in names if name.partition(".")[0] == PACKAGE)
    return sorted(found)


def _packages(tree):
    """Return the dotted names of the packages out of which one file imports a module whose name is made at run time."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "import_module":
            made = node.args[0]
            if isinstance(made, ast.JoinedStr) and isinstance(made.values[0], ast.Constant):
                found.add(str(made.values[0].value).rstrip("."))
    return sorted(found)


def _files_of(package):
    """Return the files of a package, without those of packages inside it."""
    folder = package.replace(".", "/")
    return [path for path in _files_of_package() if path.rpartition("/")[0] == folder]


def _files(name):
    """Return the file of a dotted module name and of the packages above it; nothing for a function of a module."""
    parts, known = name.split("."), _files_of_package()
    for depth in range(1, len(parts) + 1):
        stem = "/".join(parts[:depth])
        if f"{stem}/__init__.py" in known:
            yield f"{stem}/__init__.py"
        elif f"{stem}.py" in known:
            yield f"{stem}.py"


@functools.cache
def _files_of_package():
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / PACKAGE).rglob("*.py")}
