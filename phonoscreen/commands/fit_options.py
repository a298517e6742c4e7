"""Numbers and names on the command line: what is nonsense is refused where it is read, with the option's name."""

import argparse
import math

from phonoscreen.force_constants.orders import METHODS, ORDERS


def positive(text: str) -> float:
    """A finite number above zero."""
    value = _number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above zero")
    return value


def not_negative(text: str) -> float:
    """A finite number, zero or above."""
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below zero")
    return value


def count(text: str) -> int:
    """A whole number above zero."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not above zero")
    return value


def methods(text: str) -> str | dict[str, str]:
    """One method for all orders, or one for each: a name, or a dict by order."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(METHODS)}")
    if len(names) > len(ORDERS):
        raise argparse.ArgumentTypeError(f"{len(names)} methods for at most {len(ORDERS)} orders")
    return names[0] if len(names) == 1 else dict(zip(ORDERS, names))


def _number(text):
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value
