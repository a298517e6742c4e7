"""Bonding and antibonding of each structure beside its predicted thermal conductivity (Fig. 5)."""

from typing import TYPE_CHECKING

from phonoscreen.analysis.tables import take, with_identity

if TYPE_CHECKING:
    import pandas


def bonding_table(
    manifest: "pandas.DataFrame", bonding: "pandas.DataFrame", transport: "pandas.DataFrame"
) -> "pandas.DataFrame":
    """Return the bonding descriptors, one row per structure of the manifest.

    Parameters
    ----------
    manifest : DataFrame
    bonding : records of ``analyse_bonding`` with ``bonding_ev, antibonding_ev, n_pairs``
    transport : records of ``solve_bte`` from predicted forces

    Returns
    -------
    DataFrame: identity, ``status, bonding_ev, antibonding_ev, n_pairs`` and ``kappa_p_w_per_m_k`` (predicted; NaN if
    not solved)
    """
    table = take(bonding, ["bonding_ev", "antibonding_ev", "n_pairs"], stage="analyse_bonding")
    table = table.astype({"bonding_ev": float, "antibonding_ev": float, "n_pairs": "Int64"})
    solved = transport[transport["status"] == "ok"]
    kappa = take(solved, ["kappa_p_w_per_m_k"], stage="solve_bte predicted").drop(columns="status")
    kappa = kappa.astype({"kappa_p_w_per_m_k": float})
    return with_identity(manifest, table.merge(kappa, on="structure_id", how="left"))
