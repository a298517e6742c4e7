"""Bonding and antibonding of each structure beside its predicted thermal conductivity (Fig. 5)."""

from typing import TYPE_CHECKING

from phonoscreen.analysis.tables import take, with_identity

if TYPE_CHECKING:
    import pandas

_NUMBERS = ("bonding_ev", "antibonding_ev", "bonding_kj_per_mol", "antibonding_kj_per_mol", "spilling")
CORNER_BONDING_MAX, CORNER_ANTIBONDING_MIN = 200, 1
"""The paper's corner of low thermal conductivity; its unit is not stated, here kJ/mol per relevant bond."""


def corner(bonding: "pandas.DataFrame") -> "pandas.DataFrame":
    """Return the structures of the bonding table inside the paper's corner, in the reconstructed definition."""
    inside = (bonding["bonding_kj_per_mol"] < CORNER_BONDING_MAX) & (
        bonding["antibonding_kj_per_mol"] > CORNER_ANTIBONDING_MIN
    )
    return bonding[inside & (bonding["status"] == "ok")]


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
    DataFrame: identity, ``status``, both pairs of descriptors, ``spilling, uncertain, n_pairs`` and
    ``kappa_p_w_per_m_k`` (predicted; NaN if not solved)
    """
    table = take(bonding, [*_NUMBERS, "uncertain", "n_pairs"], stage="analyse_bonding")
    table = table.astype({**dict.fromkeys(_NUMBERS, float), "n_pairs": "Int64"})
    table["uncertain"] = table["uncertain"].fillna("")
    solved = transport[transport["status"] == "ok"]
    kappa = take(solved, ["kappa_p_w_per_m_k"], stage="solve_bte predicted").drop(columns="status")
    kappa = kappa.astype({"kappa_p_w_per_m_k": float})
    return with_identity(manifest, table.merge(kappa, on="structure_id", how="left"))
