"""What is lost when a settings file is read: keys that stand twice, and aliases that repeat one another."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from phonoscreen.audit.errors import StudyError

MOST_VALUES = 10_000


def check_files(paths: Iterable) -> None:
    """Refuse settings files in which a key stands twice: YAML and JSON keep the last of the two without a word.

    Parameters
    ----------
    paths : YAML or JSON files; those that do not exist are left to Snakemake

    Raises
    ------
    StudyError
        Naming file, line and key; or if the aliases of a file make more values than any study has.
    """
    for path in map(Path, paths):
        if not path.is_file():
            continue
        try:
            root = yaml.compose(path.read_text(), yaml.SafeLoader)  # the one in C dies of deep nesting
            size = _expanded(root, {}) if root else 0
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            words = str(error).splitlines()[0][:100]
            raise StudyError(f"the settings file {path} cannot be read: {words}", fix="mend it") from error
        if size > MOST_VALUES:
            raise StudyError(
                f"the settings file {path} holds more than {MOST_VALUES} values",
                fix="remove the aliases (&name, *name) of the YAML file",
            )
        twice = [f"line {line}: {key[:60]}" for key, line in _repeated(root, set())] if root else []
        if twice:
            raise StudyError(f"settings stand twice in {path}: {', '.join(twice[:20])}", fix="keep one of the two")


def _expanded(node: yaml.Node, known: dict) -> float:
    """Return how many values a node holds once its aliases are followed; infinite where one holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_expanded(child, known) for child in children)
    return known[id(node)]


def _repeated(node: yaml.Node, seen: set) -> Iterator[tuple[str, int]]:
    """Yield (key, line) of the keys that stand twice in one mapping."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, seen)
        return
    found = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in found:
                yield key.value, key.start_mark.line + 1
            found.add(key.value)
        yield from _repeated(value, seen)
