"""What a setting may be, in words, and where it stands: for messages, the JSON schema and the reference page."""

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

SUFFIXES = {
    "_ev_per_angstrom": "eV/Å",
    "_mev_per_angstrom": "meV/Å",
    "_ev_per_atom": "eV/atom",
    "_per_angstrom": "1/Å",
    "_angstrom": "Å",
    "_thz": "THz",
    "_gpa": "GPa",
    "_gib": "GiB",
    "_ev": "eV",
    "_k": "K",
}
"""Unit that the end of a setting's name stands for."""


def unit_of(name: str) -> str:
    """Return the unit of a setting, empty where it has none."""
    name = name.replace("_angstroms", "_angstrom")
    return next((unit for suffix, unit in SUFFIXES.items() if name.endswith(suffix)), "")


def section_at(model: type[BaseModel], path: list) -> type[BaseModel] | None:
    """Return the section that ``path`` leads to from ``model``, or None where no section is."""
    section = model
    for part in path:
        field = section.model_fields.get(part) if isinstance(part, str) else None
        inside = _section(field.annotation) if field else None
        if inside is None:
            return None
        section = inside
    return section


def settings_of(model: type[BaseModel], place: str = "") -> Iterator[tuple]:
    """Yield (place, section, name, field) of every setting, then of the sections inside; ``place`` has slashes."""
    inside = []
    for name, field in model.model_fields.items():
        here = f"{place}/{name}" if place else name
        if _section(field.annotation):
            inside.append((_section(field.annotation), here))
        else:
            yield here, model, name, field
    for section, here in inside:
        yield from settings_of(section, here)


def places_of(model: type[BaseModel], name: str) -> list[str]:
    """Return all places of settings or sections with a name."""
    return [place for place, *_ in settings_of(model) if place.rpartition("/")[2] == name]


def allowed(model: type[BaseModel], path: list) -> str:
    """Return what may stand at a place, in words: kind, limits, unit."""
    while path and (not isinstance(path[-1], str) or section_at(model, path[:-1]) is None):
        path = path[:-1]  # an item of a list, or a branch of a union: the setting above says what may stand there
    section = section_at(model, path[:-1]) if path else None
    field = section.model_fields.get(path[-1]) if section else None
    if field is None:
        return "see config.yaml"
    if _section(field.annotation):
        return f"give settings: {', '.join(_section(field.annotation).model_fields)}"
    return f"give {in_words(field, path[-1])}"


def in_words(field: FieldInfo, name: str) -> str:
    """Return what one field may be, for example ``a number of Å from 4 to 40, or null``."""
    schema = TypeAdapter(field.rebuild_annotation()).json_schema()
    unit = unit_of(name)
    return _words(schema, f" of {unit}" if unit else "")


def _words(schema, unit):
    if "anyOf" in schema:
        return ", or ".join("null" if part.get("type") == "null" else _words(part, unit) for part in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if schema.get("type") == "array":
        return f"a list, each {_words(schema['items'], unit)}"
    if schema.get("type") == "object" or "$ref" in schema:
        return "settings by name"
    names = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"}
    return names[schema["type"]] + (unit if schema["type"] in ("integer", "number") else "") + _limits(schema)


def _limits(schema):
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    words = []
    for limit, word in ((low, "at least"), (above, "above"), (high, "at most"), (below, "below")):
        if limit is not None:
            words.append(f"{word} {limit:g}")
    return " " + ", ".join(words) if words else ""


def _section(annotation):
    """Return the section class of an annotation, also inside a union with null."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
