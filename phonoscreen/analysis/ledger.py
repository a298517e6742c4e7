"""The published numbers a study is compared with, and where the publication disagrees with itself."""

from typing import TYPE_CHECKING, Any

import yaml

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    import os

_KEYS = {"key", "section", "quantity", "value", "unit", "place"}


def read_numbers(path: "str | os.PathLike") -> list[dict[str, Any]]:
    """Return the published numbers: list of dicts with ``key, section, quantity, value, unit, place``.

    Raises
    ------
    StudyError
        If an entry lacks a field, has another one, or a key occurs twice.
    """
    with open(path) as stream:
        numbers = yaml.safe_load(stream)
    for entry in numbers:
        if set(entry) != _KEYS:
            raise StudyError(f"entry {entry.get('key')!r} has the fields {sorted(entry)}", where=str(path))
    keys = [entry["key"] for entry in numbers]
    if len(set(keys)) != len(keys):
        raise StudyError(f"keys twice: {sorted({key for key in keys if keys.count(key) > 1})}", where=str(path))
    return numbers


def read_contradictions(path: "str | os.PathLike") -> list[dict[str, str]]:
    """Return the places where the publication disagrees with itself: list of dicts with ``first, second, note``."""
    with open(path) as stream:
        return yaml.safe_load(stream)
