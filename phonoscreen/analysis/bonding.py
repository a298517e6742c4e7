"""Bonding and antibonding of each structure beside its predicted thermal conductivity (Fig. 5)."""

from typing import TYPE_CHECKING

from phonoscreen.analysis.tables import take, with_identity
from phonoscreen.bonding.relevance import RELEVANT_SHARE

if TYPE_CHECKING:
    import pandas

    from phonoscreen.audit.shard_files import ShardFiles

_BOND = {
    "bond": str, "length_angstrom": float, "n_pairs": int, "icohp_ev": float, "relevant": bool, "engine": str,
    "spilling": float, "origin": str,
}  # fmt: skip
_NUMBERS = ("bonding_ev", "antibonding_ev", "bonding_kj_per_mol", "antibonding_kj_per_mol", "spilling")
CORNER_BONDING_MAX, CORNER_ANTIBONDING_MIN = 200, 1
"""The paper's corner of low thermal conductivity; its unit is not stated, here kJ/mol per relevant bond."""
CORNER_KAPPA_MAX = 3
"""W/m/K; the paper finds no structure above it in the corner."""


def corner(bonding: "pandas.DataFrame") -> "pandas.DataFrame":
    """Return the structures of the bonding table inside the paper's corner, in the reconstructed definition."""
    inside = (bonding["bonding_kj_per_mol"] < CORNER_BONDING_MAX) & (
        bonding["antibonding_kj_per_mol"] > CORNER_ANTIBONDING_MIN
    )
    return bonding[inside & (bonding["status"] == "ok")]


def corner_in_words(bonding: "pandas.DataFrame") -> str:
    """Say what the paper's corner holds here, and name the counter-examples: structures in it that conduct well."""
    inside = corner(bonding)
    inside = inside[inside["kappa_p_w_per_m_k"] > 0].sort_values("kappa_p_w_per_m_k", ascending=False)
    if not len(inside):
        return "No structure with a predicted conductivity lies in the corner."
    above = inside[inside["kappa_p_w_per_m_k"] > CORNER_KAPPA_MAX]
    named = ", ".join(f"{row.formula} ({row.kappa_p_w_per_m_k:.1f})" for row in above.itertuples())
    exceptions = f"{len(above)} of them conduct better, in W/m/K: {named}" if len(above) else "none conducts better"
    return (
        f"The paper finds no structure above {CORNER_KAPPA_MAX} W/m/K in the corner; here it holds {len(inside)} "
        f"with a predicted conductivity, and {exceptions}."
    )


def bonding_in_words(bonding: "pandas.DataFrame", bonds: "pandas.DataFrame", engine: str) -> str:
    """Return the paragraph of the summary on bonding.

    Parameters
    ----------
    bonding, bonds : tables of those names
    engine : program behind the COHP
    """
    known = bonding[bonding["status"] == "ok"]
    kept = int(known["origin"].str.startswith("kept").sum())
    found = f"COHP from {engine}: {len(known)} of {len(bonding)} structures, {kept} of them kept records"
    if not len(known):
        return f"{found}."
    relevant, uncertain = int(bonds["relevant"].sum()), int((known["uncertain"] != "").sum())
    return (
        f"{found}; {len(bonds):,} kinds of bonds (table bonds), {relevant:,} of them at least a tenth as strong as the "
        f"strongest of their structure; {uncertain} structures are marked uncertain. Corner of the paper (bonding "
        f"below {CORNER_BONDING_MAX}, antibonding above {CORNER_ANTIBONDING_MIN}, here in kJ/mol per relevant bond, a "
        f"reconstruction): {corner_in_words(known)}"
    )


def bonding_table(
    manifest: "pandas.DataFrame", bonding: "pandas.DataFrame", transport: "pandas.DataFrame"
) -> "pandas.DataFrame":
    """Return the bonding descriptors, one row per structure of the manifest.

    Parameters
    ----------
    manifest : DataFrame
    bonding : records of ``analyse_bonding``
    transport : records of ``solve_bte`` from predicted forces

    Returns
    -------
    DataFrame: identity, ``status``, both pairs of descriptors, ``spilling, uncertain, origin, n_pairs`` and
    ``kappa_p_w_per_m_k`` (predicted; NaN if not solved)
    """
    table = take(bonding, [*_NUMBERS, "uncertain", "origin", "n_pairs"], stage="analyse_bonding")
    table = table.astype({**dict.fromkeys(_NUMBERS, float), "n_pairs": "Int64"})
    for name in ("uncertain", "origin"):
        table[name] = table[name].fillna("").astype(str)
    solved = transport[transport["status"] == "ok"]
    kappa = take(solved, ["kappa_p_w_per_m_k"], stage="solve_bte predicted").drop(columns="status")
    kappa = kappa.astype({"kappa_p_w_per_m_k": float})
    return with_identity(manifest, table.merge(kappa, on="structure_id", how="left"))


def bonds_table(manifest: "pandas.DataFrame", bonding: "pandas.DataFrame", arrays: "ShardFiles") -> "pandas.DataFrame":
    """Return the bonds of all structures, one row for the pairs of atoms that are equal in elements and length.

    Parameters
    ----------
    manifest : DataFrame
    bonding : records of ``analyse_bonding``
    arrays : the files of that stage

    Returns
    -------
    DataFrame: identity, ``bond`` (elements, as in ``"Cl-Na"``), ``length_angstrom, n_pairs, icohp_ev`` (of one pair),
    ``relevant`` (at least a tenth of the strongest), ``engine, spilling, origin``
    """
    import pandas

    found = []
    solved = bonding[bonding["status"] == "ok"]
    for record in solved.to_dict("records"):
        group = arrays.group(record["structure_id"])
        strengths = group["icohp_ev"][:]
        rows = pandas.DataFrame({
            "structure_id": record["structure_id"],
            "bond": group["bond_types"].asstr()[:],
            "length_angstrom": group["lengths_angstrom"][:],
            "n_pairs": group["n_pairs"][:],
            "icohp_ev": strengths,
            "relevant": strengths <= RELEVANT_SHARE * min(strengths.min(), 0),
            "engine": record["engine"],
            "spilling": record["spilling"],
            "origin": record["origin"],
        })  # fmt: skip
        found.append(rows.sort_values(["length_angstrom", "bond"]))
    table = pandas.concat(found) if found else pandas.DataFrame(columns=["structure_id", *_BOND])
    table = with_identity(manifest, table.astype(_BOND))
    return table.sort_values(["structure_id", "length_angstrom", "bond"], ignore_index=True)
