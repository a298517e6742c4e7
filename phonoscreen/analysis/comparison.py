"""Reference beside prediction, from the tables."""

import pandas

from phonoscreen.forcefield.pooled import pooled_rms

OURS = "this study"
_POTENTIALS = {"nequix": "Nequix", "sevennet": "SevenNet", "chgnet": "CHGNet"}
_CODES = {"vasp": "VASP", "gpaw": "GPAW", "espresso": "Quantum ESPRESSO"}
_COHP = {"lobster": "LOBSTER", "gpaw": "GPAW, PBE, LCAO", "tblite": "GFN1-xTB, tblite"}


def reference_name(engine: str, model: str) -> str:
    """Return what the reference is called in figures and summary; a universal potential is never called DFT.

    Parameters
    ----------
    engine, model : setting ``reference.engine``, and ``model`` of its section
    """
    if engine in _CODES:
        return f"DFT ({model}, {_CODES[engine]})"
    if engine in _POTENTIALS:
        return f"universal potential {_POTENTIALS[engine]} {model}"
    if engine == "recorded":
        return f"recorded labels of the universal potential {model}"
    of_others = {"collected": "collected outputs", "force_sets": "force sets of others"}
    return f"{of_others[engine]} ({model})" if engine in of_others else f"{engine} {model}"


def cohp_name(engine: str) -> str:
    """Return what the COHP curves come from; ``engine`` is the setting ``bonding.engine``."""
    return _COHP.get(engine, engine)


def pairs(transport: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """Return reference and predicted values of one property for the structures that have both.

    Returns
    -------
    DataFrame with ``structure_id, formula, space_group_number, part, trained, reference, predicted``
    """
    ok = transport[(transport["status"] == "ok") & transport[column].notna()]
    keys = ["structure_id", "formula", "space_group_number", "part", "trained"]
    sides = [ok[ok["source"] == source][[*keys, column]] for source in ("reference", "predicted")]
    both = sides[0].merge(sides[1][["structure_id", column]], on="structure_id", suffixes=("", "_predicted"))
    return both.rename(columns={column: "reference", f"{column}_predicted": "predicted"})


def pooled_errors(force_errors: pandas.DataFrame) -> pandas.DataFrame:
    """Return the error of each model over all components of all its structures.

    Returns
    -------
    DataFrame indexed by model: ``n_structures, force_rmse_mev_per_angstrom, force_rms_mev_per_angstrom,
    force_rmse_relative``
    """

    def pool(group):
        rmse, rms = (
            pooled_rms(group[name], group["n_components"])
            for name in ("force_rmse_mev_per_angstrom", "force_rms_mev_per_angstrom")
        )
        values = {"n_structures": len(group), "force_rmse_mev_per_angstrom": rmse, "force_rms_mev_per_angstrom": rms}
        return pandas.Series({**values, "force_rmse_relative": rmse / rms})

    if not len(force_errors):
        return pandas.DataFrame()
    pooled = {model: pool(group) for model, group in force_errors.groupby("model")}
    return pandas.DataFrame(pooled).T.astype({"n_structures": int})
