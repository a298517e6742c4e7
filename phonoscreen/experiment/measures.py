"""Tables of the experiment on force models: errors of forces, phonons and conductivities over the learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy
import pandas
from ase.data import chemical_symbols

from phonoscreen.analysis.metrics import log_parity, parity
from phonoscreen.analysis.phonons import phonon_table
from phonoscreen.analysis.power_law import learning_curve
from phonoscreen.forcefield.calibration import calibration_bins, checked_factor
from phonoscreen.forcefield.pooled import pooled, pooled_rms

if TYPE_CHECKING:
    from pathlib import Path

POINT = ["model", "size", "repeat"]
KAPPA, COHERENCE, MSD = "kappa_p_w_per_m_k", "kappa_c_w_per_m_k", "msd_max_angstrom2"
PAPER_SIZE = 3182
PAIRS_MIN = 5
_CONDUCTIVITY = [
    "log_kappa_mae", "log_kappa_r2", "log_kappa_bias", "log_coherence_ratio_mae", "n_kappa_below_one",
    "coherence_ratio_below_one_reference", "coherence_ratio_below_one_predicted", "msd_max_mae_angstrom2",
]  # fmt: skip


def read_points(points: Iterable[Mapping[str, Any]], paths: Iterable[str | Path]) -> pandas.DataFrame:
    """Return the atoms of all points, and those of the committees alone.

    Parameters
    ----------
    points : list of dicts with ``model, size, repeat, members``
    paths : atom tables of ``phonoscreen.experiment.forces.point_errors``, in the order of the points

    Returns
    -------
    DataFrame with ``model, size, repeat`` in front; ``epsilon_mev_per_angstrom`` is NaN for points of one member
    """
    pieces = [
        pandas.read_parquet(path).assign(**{name: point[name] for name in POINT})
        for point, path in zip(points, paths, strict=True)
    ]
    return pandas.concat(pieces, ignore_index=True)


def force_table(atoms: pandas.DataFrame, baselines: pandas.DataFrame) -> pandas.DataFrame:
    """Return the errors of every point and of the universal potentials, over all components of each set.

    Parameters
    ----------
    atoms : table of ``read_points``
    baselines : table of ``phonoscreen.analysis.forces.force_error_table`` of the universal potentials

    Returns
    -------
    DataFrame with ``model, size, repeat, set`` and the columns of ``pooled``; a potential has no size (NA) and is
    measured on the compounds never seen by the models
    """
    table = pooled(atoms, [*POINT, "set"]).astype({"size": "Int64", "repeat": "Int64"})
    relative = structure_table(atoms).groupby([*POINT, "set"])["force_rmse_relative"].median()
    table = table.merge(relative.rename("force_rmse_relative_median").reset_index(), on=[*POINT, "set"])
    rows = []
    for model, group in baselines.groupby("model"):
        weight = group["n_components"]
        rmse, rms = (
            float(numpy.sqrt((group[f"force_{name}_mev_per_angstrom"] ** 2 * weight).sum() / weight.sum()))
            for name in ("rmse", "rms")
        )
        row = {"model": model, "set": "unseen", "n_structures": len(group), "n_atoms": int(weight.sum()) // 3}
        row |= {"force_rmse_mev_per_angstrom": rmse, "force_rms_mev_per_angstrom": rms}
        row |= {"force_rmse_relative": rmse / rms, "force_rmse_relative_median": group["force_rmse_relative"].median()}
        rows.append({**row, "force_rmse_single_member_mev_per_angstrom": rmse})
    return pandas.concat([table, pandas.DataFrame(rows)], ignore_index=True)[table.columns.tolist()]


def structure_table(atoms: pandas.DataFrame) -> pandas.DataFrame:
    """Return the errors of every compound at every point (columns of ``pooled``)."""
    keys = [*POINT, "set", "structure_id"]
    table = pooled(atoms.assign(one=atoms["structure_id"]), [*POINT, "set", "one"])
    return table.rename(columns={"one": "structure_id"}).drop(columns="n_structures")[[*keys, *table.columns[6:]]]


def group_table(atoms: pandas.DataFrame, manifest: pandas.DataFrame, by: str) -> pandas.DataFrame:
    """Return the errors at the last point of each model, by element or prototype.

    Parameters
    ----------
    by : ``"element"`` or ``"prototype"``
    """
    atoms = last_points(atoms)
    if by == "element":
        atoms = atoms.assign(element=[chemical_symbols[number] for number in atoms["number"]])
    else:
        atoms = atoms.merge(manifest[["structure_id", "prototype"]], on="structure_id")
    return pooled(atoms, ["model", "size", "set", by])


def last_points(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows of the first repeat of the largest size."""
    return table[(table["size"] == table["size"].max()) & (table["repeat"] == 0)]


def calibration_tables(atoms: pandas.DataFrame, seed: int) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Return the calibration of each committee on each set, and its bins.

    Returns
    -------
    calibration : one row per model and set, columns of ``checked_factor``
    bins : ``model, set`` and the columns of ``calibration_bins``, meV/angstrom
    """
    atoms = atoms[atoms["epsilon_mev_per_angstrom"].notna()]
    rows, bins = [], []
    for (model, name), group in atoms.groupby(["model", "set"]):
        named: dict[str, Any] = {"model": model, "set": name}
        rows.append({**named, **checked_factor(group, seed)})
        curve = calibration_bins(group["epsilon_mev_per_angstrom"], group["error_mev_per_angstrom"])
        bins.append(curve.assign(**named))
    return pandas.DataFrame(rows), pandas.concat(bins, ignore_index=True)


def phonon_pairs(
    manifest: pandas.DataFrame,
    sources: Mapping[str, Mapping[str, Any]],
    records: Mapping[str, pandas.DataFrame],
    arrays: Mapping[str, Any],
    transport: Mapping[str, pandas.DataFrame],
    sets: Mapping[str, Mapping[str, str]],
) -> pandas.DataFrame:
    """Return phonons of reference and model side by side, one row per compound and source of forces.

    Parameters
    ----------
    manifest : DataFrame
    sources : dict by name of dicts with ``model, size, members`` (``phonoscreen.workflow.experiment.curve_sources``)
    records, arrays, transport : dicts by source (and ``"reference"``): records of ``check_stability``, its HDF5 paths,
        records of ``solve_bte``
    sets : dict by source of dicts from structure id to ``known`` or ``unseen``

    Returns
    -------
    DataFrame with ``model, size, members, set, structure_id, formula, prototype``, ``status_reference,
    status_predicted`` of the stability, lowest frequencies, ``frequency_rmse_thz, frequency_range_thz,
    frequency_rmse_relative`` and, with suffix ``_reference`` and ``_predicted``, conductivities and largest mean
    square displacement (NaN where not solved)
    """
    pieces = []
    for source, point in sources.items():
        table = phonon_table(
            manifest, {"reference": records["reference"], "predicted": records[source]},
            {"reference": arrays["reference"], "predicted": arrays[source]}, (),
        ).drop(columns="trained")  # fmt: skip
        table = table[table["structure_id"].isin(sets[source])]
        for name, key in (("reference", "reference"), ("predicted", source)):
            solved = transport[key].query("status == 'ok'").reindex(columns=["structure_id", KAPPA, COHERENCE, MSD])
            solved = solved.rename(columns={column: f"{column}_{name}" for column in (KAPPA, COHERENCE, MSD)})
            table = table.merge(solved, on="structure_id", how="left")
        named = {"model": point["model"], "size": point["size"], "members": len(point["members"])}
        pieces.append(table.assign(**named, set=table["structure_id"].map(sets[source])))
    return pandas.concat(pieces, ignore_index=True)


def property_table(phonons: pandas.DataFrame) -> pandas.DataFrame:
    """Return how well each source of forces gives frequencies, stability and conductivities.

    Frequencies, conductivities and displacements: compounds that are stable with the reference (the last two: and with
    the model). Verdicts: precision and recall of "stable".

    Parameters
    ----------
    phonons : table of ``phonon_pairs``
    """
    rows = []
    for keys, group in phonons.groupby(["model", "size", "members", "set"]):
        judged = group[group["status_reference"].isin(["ok", "unstable"])]
        judged = judged[judged["status_predicted"].isin(["ok", "unstable"])]
        truth, claim = judged["status_reference"] == "ok", judged["status_predicted"] == "ok"
        errors = judged.loc[truth, "frequency_rmse_relative"]
        row = dict(zip(("model", "size", "members", "set"), keys))
        row |= {"n_judged": len(judged), "n_stable": int(truth.sum())}
        row |= {"stable_precision": _ratio(truth & claim, claim), "stable_recall": _ratio(truth & claim, truth)}
        row |= {
            "unstable_precision": _ratio(~truth & ~claim, ~claim),
            "unstable_recall": _ratio(~truth & ~claim, ~truth),
        }
        row |= {"frequency_error_mean": errors.mean(), "frequency_error_median": errors.median()}
        rows.append({**row, **_conductivity(group)})
    return pandas.DataFrame(rows).reindex(columns=[*rows[0], *(c for c in _CONDUCTIVITY if c not in rows[0])])


def _ratio(hits, claimed):
    return float(hits.sum() / claimed.sum()) if claimed.sum() else numpy.nan


def _conductivity(group):
    names = [f"{column}_{side}" for column in (KAPPA, COHERENCE, MSD) for side in ("reference", "predicted")]
    both = group.dropna(subset=names)
    both = both[(both[names] > 0).all(axis=1)]
    values = {"n_kappa": len(both)}
    if len(both) < PAIRS_MIN:
        return values
    kappa = log_parity(both[f"{KAPPA}_reference"], both[f"{KAPPA}_predicted"])
    ratios = [both[f"{COHERENCE}_{side}"] / both[f"{KAPPA}_{side}"] for side in ("reference", "predicted")]
    low = both[f"{KAPPA}_reference"] < 1
    return {
        **values,
        "log_kappa_mae": kappa.mae,
        "log_kappa_r2": kappa.r2,
        "log_kappa_bias": float(numpy.log10(both[f"{KAPPA}_predicted"] / both[f"{KAPPA}_reference"]).mean()),
        "log_coherence_ratio_mae": log_parity(*ratios).mae,
        "n_kappa_below_one": int(low.sum()),
        "coherence_ratio_below_one_reference": float(ratios[0][low].mean()),
        "coherence_ratio_below_one_predicted": float(ratios[1][low].mean()),
        "msd_max_mae_angstrom2": parity(both[f"{MSD}_reference"], both[f"{MSD}_predicted"]).mae,
    }


def promise_table(atoms: pandas.DataFrame, phonons: pandas.DataFrame, seed: int) -> pandas.DataFrame:
    """Return the power laws through the learning curves on compounds never seen, and what they promise.

    The promise is for the number of structures the paper was trained on.

    Returns
    -------
    DataFrame with ``model, quantity, n_compounds, scale, exponent, exponent_low, exponent_high, promise, promise_low,
    promise_high`` (90 % of the resampled laws; ``phonoscreen.analysis.power_law.learning_curve``)
    """
    forces = structure_table(atoms[atoms["set"] == "unseen"])
    phonons = phonons[(phonons["set"] == "unseen") & (phonons["members"] == 1)].assign(repeat=0)
    kappa = phonons.dropna(subset=[f"{KAPPA}_reference", f"{KAPPA}_predicted"])
    kappa = kappa.assign(error=numpy.abs(numpy.log10(kappa[f"{KAPPA}_predicted"] / kappa[f"{KAPPA}_reference"])))
    stable = phonons[phonons["status_reference"] == "ok"].dropna(subset=["frequency_rmse_relative"])
    quantities = {
        "force_rmse_mev_per_angstrom": (forces, _pooled_rmse),
        "force_rmse_relative": (forces, _pooled_relative),
        "frequency_error_mean": (stable, _mean_frequency_error),
        "log_kappa_mae": (kappa, _mean_error),
    }
    rows = []
    for quantity, (table, pool) in quantities.items():
        for model, group in table.groupby("model"):
            ids = set.intersection(*(set(point["structure_id"]) for _, point in group.groupby(["size", "repeat"])))
            if group["size"].nunique() < 2 or len(ids) < PAIRS_MIN:
                continue
            law = learning_curve(group, pool, seed)
            low, high = numpy.quantile(law.samples[:, 1], [0.05, 0.95])
            row = {"model": model, "quantity": quantity, "n_compounds": len(ids), "scale": law.scale}
            row |= {"exponent": law.exponent, "exponent_low": low, "exponent_high": high, "promise": law.at(PAPER_SIZE)}
            row["promise_low"], row["promise_high"] = law.interval(PAPER_SIZE)
            rows.append(row)
    return pandas.DataFrame(rows)


def _pooled_rmse(group):
    return pooled_rms(group["force_rmse_single_member_mev_per_angstrom"], group["n_atoms"])


def _pooled_relative(group):
    return _pooled_rmse(group) / pooled_rms(group["force_rms_mev_per_angstrom"], group["n_atoms"])


def _mean_frequency_error(group):
    return group["frequency_rmse_relative"].mean()


def _mean_error(group):
    return group["error"].mean()


def all_tables(
    manifest: pandas.DataFrame,
    atoms: pandas.DataFrame,
    baselines: pandas.DataFrame,
    phonons: pandas.DataFrame,
    replays: Iterable[pandas.DataFrame],
    seed: int,
) -> dict[str, pandas.DataFrame]:
    """Return every table of the experiment by its name.

    Parameters
    ----------
    manifest : DataFrame with ``structure_id, prototype``
    atoms : of ``read_points``
    baselines : force errors of other potentials on the unseen compounds
    phonons : of ``phonon_pairs``
    replays : list of tables of ``phonoscreen.experiment.selection_trial.replay``
    seed : of the calibration and of what is promised
    """
    calibration, bins = calibration_tables(atoms, seed)
    return {
        "forces": force_table(atoms, baselines),
        "structures": structure_table(atoms),
        "elements": group_table(atoms, manifest, "element"),
        "prototypes": group_table(atoms, manifest, "prototype"),
        "calibration": calibration,
        "bins": bins,
        "phonons": phonons,
        "properties": property_table(phonons),
        "promises": promise_table(atoms, phonons, seed),
        "selection": pandas.concat(replays, ignore_index=True),
    }
