"""The value that this study has for every published headline number, from the tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import pandas

from phonoscreen.analysis.bonding import corner
from phonoscreen.analysis.comparison import OURS, pairs, pooled_errors
from phonoscreen.analysis.compounds import FIGURE7, rows_of
from phonoscreen.analysis.metrics import log_parity, parity
from phonoscreen.analysis.screening import screen
from phonoscreen.structures.formulas import composition

PAIRS_MIN = 3  # fewer pairs than this say nothing about agreement
LARGE_SUPERCELL_ATOMS = 100
ULTRALOW_W_PER_M_K = 1.0
KAPPA = "kappa_p_w_per_m_k"


@dataclass(frozen=True)
class Finding:
    """One number of this study.

    Parameters
    ----------
    value : number in the unit of the ledger, or None where the study cannot speak
    basis : what the number rests on, for example "n = 31 structures", or why there is none
    """

    value: float | None
    basis: str


def _missing(reason):
    return Finding(None, reason)


def headline(tables: Mapping[str, pandas.DataFrame], settings: Mapping[str, Any]) -> dict[str, Finding]:
    """Return the findings of a study by the keys of the ledger.

    Parameters
    ----------
    tables : dict of the tables ``table1, phonons, transport, bonding, rounds, histories, force_errors, timings, modes``
    settings : dict with ``displacement_angstrom, threshold_mev_per_angstrom, reference``

    Returns
    -------
    dict of ``Finding`` by key
    """
    return {
        **_structures(tables),
        **_forces(tables, settings),
        **_agreement(tables),
        **_screening(tables["transport"]),
        **_bonding(tables["bonding"]),
        **_coherences(tables["transport"]),
        **_compounds(tables["transport"], tables["modes"]),
    }


def headline_table(numbers: Iterable[Mapping[str, Any]], findings: Mapping[str, Finding]) -> pandas.DataFrame:
    """Return published number and finding side by side, in the order of the ledger.

    Returns
    -------
    DataFrame with ``key, section, quantity, unit, paper, this_study, basis, place``; ``this_study`` is NaN where the
    study cannot speak
    """
    rows = []
    for entry in numbers:
        finding = findings[entry["key"]]
        value = numpy.nan if finding.value is None else float(finding.value)
        rows.append({**entry, "paper": float(entry["value"]), "this_study": value, "basis": finding.basis})
    return pandas.DataFrame(rows)[["key", "section", "quantity", "unit", "paper", "this_study", "basis", "place"]]


def _structures(tables):
    table1, manifest, transport = tables["table1"], tables["phonons"], tables["transport"]
    total = table1[["n_reference", "n_reference_stable", "n_unexplored", "n_unexplored_stable"]].sum()
    elements = set().union(*(composition(formula) for formula in manifest["formula"]))
    solved = _unexplored(transport)
    ultralow = int((solved[KAPPA] < ULTRALOW_W_PER_M_K).sum())
    part = "part training of the manifest"
    return {
        "n_classes": Finding(
            int(((table1["n_structures"] > 0) & (table1["space_group_number"] > 0)).sum()),
            f"{len(manifest)} structures in the manifest",
        ),
        "n_elements": Finding(len(elements), f"{len(manifest)} structures in the manifest"),
        "n_reference": Finding(int(total["n_reference"]), part),
        "n_reference_stable": Finding(int(total["n_reference_stable"]), part),
        "n_unexplored": Finding(int(total["n_unexplored"]), "all other parts of the manifest"),
        "n_unexplored_stable": Finding(int(total["n_unexplored_stable"]), "stable with predicted forces"),
        "n_kappa": Finding(len(solved), "solved with predicted forces"),
        "n_ultralow": Finding(ultralow, f"of {len(solved)} solved"),
    }


def _forces(tables, settings):
    rounds, histories = tables["rounds"], tables["histories"]
    last = rounds.iloc[-1]
    retrained = int((rounds["n_selected"].iloc[:-1].fillna(0) > 0).sum())
    findings = {
        "n_environments": Finding(int(last["n_environments_augmented"]), f"{last['n_structures']} structures"),
        "n_rounds": Finding(retrained, "rounds that labelled and retrained after the first training"),
        "displacement": Finding(settings["displacement_angstrom"], "setting"),
        "threshold": Finding(settings["threshold_mev_per_angstrom"], "setting"),
        "force_rmse_training": _training_rmse(histories),
        "speed": _speed(tables["timings"], settings["reference"]),
    }
    pooled = pooled_errors(tables["force_errors"])
    name = "force_rmse_mev_per_angstrom"
    if OURS not in pooled.index:
        reason = _missing("no labelled structure is untrained")
        return {**findings, "force_rmse_untrained": reason, "force_rmse_baseline": reason}

    def finding(row, model):
        relative = f"{100 * row['force_rmse_relative']:.0f} % of the force RMS"
        return Finding(row[name], f"{model}n = {int(row['n_structures'])} structures; {relative}")

    findings["force_rmse_untrained"] = finding(pooled.loc[OURS], "")
    baselines = pooled.drop(index=OURS)
    if not len(baselines):
        return {**findings, "force_rmse_baseline": _missing("no baseline configured")}
    best = str(baselines[name].idxmin())
    return {**findings, "force_rmse_baseline": finding(pooled.loc[best], f"{best}, the best of {len(baselines)}; ")}


def _training_rmse(histories):
    if not len(histories):
        return _missing("no training history")
    last = histories[histories["round"] == histories["round"].max()]
    name = "held_out_rmse_mev_per_angstrom"
    best = last.loc[last.groupby("member")[name].idxmin()] if last[name].notna().all() else last
    return Finding(best["training_rmse_mev_per_angstrom"].mean(), f"mean of {best['member'].nunique()} members")


def _speed(timings, reference):
    large = timings[timings["n_supercell_atoms"] > LARGE_SUPERCELL_ATOMS]
    wide = large.pivot(index="structure_id", columns="source", values="seconds_per_supercell")
    wide = wide.reindex(columns=["reference", "predicted"]).dropna()
    if not len(wide):
        return _missing(f"no supercell above {LARGE_SUPERCELL_ATOMS} atoms has both times")
    ratio = (wide["reference"] / wide["predicted"]).median()
    return Finding(ratio, f"median of {len(wide)} structures; whole committee against {reference}")


def _agreement(tables):
    phonons, transport = tables["phonons"], tables["transport"]
    stable = phonons[phonons["status_reference"] == "ok"]["frequency_rmse_relative"].dropna()
    kappa, msd = pairs(transport, KAPPA), pairs(transport, "msd_max_angstrom2")
    kappa = kappa[(kappa["reference"] > 0) & (kappa["predicted"] > 0)]
    findings = {"frequency_error": _missing("no structure with both band structures")}
    if len(stable):
        findings["frequency_error"] = Finding(100 * stable.mean(), f"n = {len(stable)} structures")
    too_few = _missing(f"n = {len(kappa)} structures with both conductivities")
    findings.update({key: too_few for key in ("kappa_r2", "kappa_mae", "kappa_factor", "msd_mae")})
    if len(kappa) >= PAIRS_MIN:
        agreement, basis = log_parity(kappa["reference"], kappa["predicted"]), f"n = {len(kappa)} structures"
        findings["kappa_r2"] = Finding(agreement.r2, basis)
        findings["kappa_mae"] = Finding(agreement.mae, basis)
        findings["kappa_factor"] = Finding(10**agreement.mae, basis)
        findings["msd_mae"] = Finding(parity(msd["reference"], msd["predicted"]).mae, f"n = {len(msd)} structures")
    untrained = kappa[~kappa["trained"].astype(bool)]
    ultralow = untrained[untrained["predicted"] < ULTRALOW_W_PER_M_K]
    confirmed = int((ultralow["reference"] < ULTRALOW_W_PER_M_K).sum())
    findings["untrained_kappa"] = Finding(len(untrained), "in no round's training data")
    findings["untrained_ultralow"] = Finding(len(ultralow), f"of {len(untrained)}")
    findings["untrained_confirmed"] = Finding(confirmed, f"of {len(ultralow)}")
    return findings


def _screening(transport):
    keys = ["filter_msd", "filter_normalised", "filter_above", "filter_above_ultralow", "filter_precision"]
    keys += ["filter_below", "filter_below_ultralow", "filter_recall"]
    result = screen(transport)
    if result is None or result.threshold is None or result.counts is None:
        return dict.fromkeys(keys, _missing("the reference structures define no falling line"))
    counts, n = result.counts, len(result.points["predicted"])
    line = f"line of {len(result.points['reference'])} reference structures at {result.kappa_w_per_m_k:.2f} W/m/K"
    basis = f"of {n} unexplored structures"
    values = [
        Finding(result.threshold_msd_angstrom2, line),
        Finding(result.threshold, line),
        Finding(counts.above, basis),
        Finding(counts.above_ultralow, f"of {counts.above}"),
        _share(counts.precision, f"{counts.above_ultralow} of {counts.above}"),
        Finding(counts.below, basis),
        Finding(counts.below_ultralow, f"of {counts.below}"),
        _share(counts.recall, f"{counts.above_ultralow} of {counts.above_ultralow + counts.below_ultralow}"),
    ]
    return dict(zip(keys, values))


def _share(value, basis):
    return Finding(100 * value, basis) if numpy.isfinite(value) else _missing(basis)


def _bonding(bonding):
    known = bonding[bonding["status"] == "ok"]
    kappa = corner(bonding)[KAPPA]
    kappa = kappa[kappa > 0]
    largest = _missing("no solved structure lies in the corner")
    if len(kappa):
        largest = Finding(kappa.max(), f"of {len(kappa)} in the corner; unit reconstructed (docs/bonding.md)")
    return {
        "n_cohp": Finding(len(known), f"of {len(bonding)} structures in the manifest"),
        "corner_kappa": largest,
    }


def _coherences(transport):
    solved = _unexplored(transport)
    solved = solved[(solved[KAPPA] > 0) & (solved["kappa_c_w_per_m_k"] > 0)]
    findings = {}
    for name, low, high in (("low", 0, 1), ("medium", 1, 10), ("high", 10, numpy.inf)):
        mine = solved[(solved[KAPPA] >= low) & (solved[KAPPA] < high)]
        ratio = mine["kappa_c_w_per_m_k"] / mine[KAPPA]
        findings[f"coherence_n_{name}"] = Finding(len(mine), "unexplored structures solved with predicted forces")
        mean = Finding(ratio.mean(), f"n = {len(mine)} structures")
        findings[f"coherence_ratio_{name}"] = mean if len(mine) else _missing("no structure in this range")
    for source in ("reference", "predicted"):
        n = ((transport["source"] == source) & (transport["kappa_c_w_per_m_k"] > 0)).sum()
        findings[f"coherence_n_{source}"] = Finding(int(n), "all solved structures")
    return {**findings, "wave_percent": Finding(50, "definition")}


def _compounds(transport, modes):
    findings = {}
    for name, (elements, space_group) in FIGURE7.items():
        ids = set(modes.loc[modes["compound"] == name, "structure_id"])
        mine = rows_of(transport, elements, space_group)
        mine = mine[mine["structure_id"].isin(ids)] if ids else mine
        for source in ("predicted", "reference"):
            rows = mine[mine["source"] == source].sort_values("structure_id")
            for symbol in ("kappa_p", "kappa_c"):
                key = f"{name.lower()}_{symbol}_{source}"
                if not len(rows):
                    findings[key] = _missing("not in the manifest")
                elif rows.iloc[0]["status"] != "ok":
                    findings[key] = _missing(f"{rows.iloc[0]['status']}: {rows.iloc[0]['reason']}")
                else:
                    findings[key] = Finding(rows.iloc[0][f"{symbol}_w_per_m_k"], rows.iloc[0]["structure_id"])
    return findings


def _unexplored(transport):
    mine = transport[(transport["source"] == "predicted") & (transport["part"] != "training")]
    return mine[mine["status"] == "ok"]
