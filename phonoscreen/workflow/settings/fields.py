"""Types of single settings: what a value may be, and how a text from the command line becomes one.

``snakemake --config 'transport={temperature_k: 600}'`` hands on every value inside the braces as text, so a number or a
switch may be a text that spells one. Nothing else is converted: 5.5 is no count, true is no number, nan is nothing.
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from phonoscreen.audit.names import problem_of_id

LONGEST_TEXT = 4096
"""Characters of the longest text a setting may be; a path on common systems has as many at most."""


LARGEST = 2**1000
"""Greater whole numbers are no floating-point numbers."""


class Section(BaseModel):
    """A group of settings; a name that it does not have is refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_default=True)


def _count(value):
    if isinstance(value, str):
        try:
            value = int(value.replace("_", "x"))
        except ValueError:
            raise ValueError(f"{value[:40]!r} is not a whole number") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{str(value)[:40]} is not a whole number")
    if abs(value) > LARGEST:
        raise ValueError(f"a number of {value.bit_length()} bits is too large")
    return value


def _number(value):
    if isinstance(value, str):
        try:
            value = float(value.replace("_", "x"))
        except ValueError:
            raise ValueError(f"{value[:40]!r} is not a number") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{str(value)[:40]} is not a number")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"a number of {value.bit_length()} bits is too large")
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


def _switch(value):
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise ValueError(f"{str(value)[:40]} is neither true nor false")
    return value


def _text(value):
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]} is not a text; quote it if it is meant as one")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"a text of {len(value)} characters is too long")
    if any(ord(character) < 32 for character in value):
        raise ValueError("a text must not hold control characters")
    return value


def _nothing(value):
    """``null`` inside the braces of the command line arrives as a text; it means nothing there too."""
    return None if isinstance(value, str) and value.lower() in ("null", "none", "") else value


def _distinct(values):
    if len(values) != len({str(value) for value in values}):
        raise ValueError("a value stands twice")
    return values


def words_or_list(words: Sequence[str], pattern: str, what: str) -> Any:
    """Return the type of a setting that is one of some words or a list of texts of a pattern, named ``what``."""

    def check(value):
        if isinstance(value, str) and value in words:
            return value
        if not isinstance(value, list) or not value:
            raise ValueError(f"{str(value)[:40]} is neither {' nor '.join(words)} nor a list of {what}")
        for one in value:
            if not isinstance(one, str) or not re.fullmatch(pattern, one):
                raise ValueError(f"{str(one)[:40]!r} in the list is none of the {what}")
        return _distinct(value)

    kind: Any = Literal[tuple(words)] | list[Annotated[str, Field(pattern=f"^{pattern}$")]]
    return Annotated[kind, BeforeValidator(check)]


def _structure_id(value):
    if problem := problem_of_id(value):
        raise ValueError(problem)
    return value


def count(low: int | None = None, high: int | None = None) -> Any:
    """Return the type of a whole number with limits."""
    return Annotated[int, Field(ge=low, le=high), BeforeValidator(_count)]


def number(
    low: float | None = None, high: float | None = None, *, above: float | None = None, below: float | None = None
) -> Any:
    """Return the type of a number with limits: ``low`` and ``high`` may be reached, ``above`` and ``below`` not."""
    return Annotated[float, Field(ge=low, le=high, gt=above, lt=below), BeforeValidator(_number)]


def optional(kind: Any) -> Any:
    """Return the type of a setting that may be ``null``."""
    return Annotated[kind | None, BeforeValidator(_nothing)]


def distinct(kind: Any, at_least: int = 0) -> Any:
    """Return the type of a list whose values differ."""
    return Annotated[list[kind], Field(min_length=at_least), AfterValidator(_distinct)]


Switch = Annotated[bool, BeforeValidator(_switch)]
Text = Annotated[str, BeforeValidator(_text)]
MOST = 10**9
"""No count and no amount of a study reaches it; a slip of the keyboard may."""
Count = count(0, MOST)
Natural = count(1, MOST)
Positive = number(above=0, high=MOST)
StructureId = Annotated[Text, AfterValidator(_structure_id)]
