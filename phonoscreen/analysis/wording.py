"""Numbers and names of columns as a page shows them."""

import pandas

_UNITS = {
    "_w_per_m_k": "W/m/K",
    "_mev_per_angstrom": "meV/Å",
    "_ev_per_angstrom": "eV/Å",
    "_angstrom2": "Å²",
    "_angstrom": "Å",
    "_thz": "THz",
    "_seconds": "s",
    "_k": "K",
}


def number(value: float | None) -> str:
    """Return a number as text: whole numbers in full, others with three significant digits; missing ones as a dash."""
    if value is None or pandas.isna(value):
        return "—"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def published(value: float) -> str:
    """Return a published number with all its digits."""
    return number(value) if float(value).is_integer() else f"{value:g}"


def column_heading(name: str) -> str:
    """Return the name of a column as words with its unit in brackets."""
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return f"{name[: -len(suffix)].replace('_', ' ')} ({unit})"
    return name.replace("_", " ")
