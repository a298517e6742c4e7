"""Structures that a screening found, beside what a potential makes of them (``phonoscreen confirm``)."""

from pathlib import Path

import numpy
import pandas

from phonoscreen.audit.errors import StudyError

KAPPA = "kappa_p_w_per_m_k"
ULTRALOW_W_PER_M_K = 1.0


def compare(drawn: pandas.DataFrame, found: pandas.DataFrame) -> pandas.DataFrame:
    """Return both conductivities of every structure, and the potential's verdict.

    Returns
    -------
    pandas.DataFrame with ``structure_id, source, class, kappa_p_w_per_m_k`` (of the model)``,
    kappa_p_recomputed_w_per_m_k, status_recomputed``
    """
    other = found.set_index("structure_id").loc[drawn["structure_id"]]
    table = drawn[["structure_id", "source", "class", KAPPA]].reset_index(drop=True)
    kappa = other[KAPPA].to_numpy(float, na_value=numpy.nan)
    status = other["status"].to_numpy(object)
    table["kappa_p_recomputed_w_per_m_k"] = numpy.where(status == "ok", kappa, numpy.nan)
    return table.assign(status_recomputed=status)


def counts(compared: pandas.DataFrame) -> dict[str, float]:
    """Return how many structures below 1 W/m/K and how many others are confirmed, and the error of log10 kappa.

    Returns
    -------
    dict of ``low, low_confirmed, low_unstable, others, others_confirmed, others_unstable, mae_decades``
    """
    low = compared[KAPPA] < ULTRALOW_W_PER_M_K
    kappa, ok = compared["kappa_p_recomputed_w_per_m_k"], compared["status_recomputed"] == "ok"
    below, unstable = ok & (kappa < ULTRALOW_W_PER_M_K), compared["status_recomputed"] == "unstable"
    errors = numpy.abs(numpy.log10(compared[KAPPA] / kappa))[ok & (kappa > 0)]
    return {
        "low": int(low.sum()), "low_confirmed": int((low & below).sum()), "low_unstable": int((low & unstable).sum()),
        "others": int((~low).sum()), "others_confirmed": int((~low & ok & ~below).sum()),
        "others_unstable": int((~low & unstable).sum()),
        "mae_decades": float(errors.mean()) if len(errors) else numpy.nan,
    }  # fmt: skip


def sentences(found: dict[str, float]) -> list[str]:
    """Return the counts in words."""
    return [
        f"{found['low_confirmed']} of {found['low']} structures predicted below 1 W/m/K are confirmed "
        f"({found['low_unstable']} are unstable); the paper: 36 of 67",
        f"{found['others_confirmed']} of {found['others']} others are stable and above 1 W/m/K "
        f"({found['others_unstable']} are unstable)",
        f"mean error of log10 of the conductivity where both have one: {found['mae_decades']:.3f}",
    ]


def compared_of(path: str | Path) -> pandas.DataFrame:
    """Return the compared conductivities that ``phonoscreen confirm --write`` wrote.

    Raises
    ------
    StudyError
        If the file is none of these.
    """
    try:
        table = pandas.read_csv(path)
        return table.astype({KAPPA: float, "kappa_p_recomputed_w_per_m_k": float, "status_recomputed": str})
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"no confirmed structures: {error}", where=str(path),
                         fix="give a file that phonoscreen confirm --write wrote") from error  # fmt: skip
