"""Phonon properties of all structures and modes of a few, from reference and from predicted forces."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import h5py
import numpy
import pandas
from ase.data import chemical_symbols

from phonoscreen.analysis.tables import paths_of, take, with_identity
from phonoscreen.audit.shard_files import ShardFiles

if TYPE_CHECKING:
    from phonoscreen.analysis.tables import Paths

PROPERTIES = [
    "temperature_k",
    "kappa_p_rta_w_per_m_k",
    "kappa_p_w_per_m_k",
    "kappa_c_w_per_m_k",
    "heat_capacity_j_per_m3_k",
    "heat_capacity_j_per_mol_k",
    "sound_velocity_m_per_s",
    "p3_total",
    "msd_max_angstrom2",
    "msd_max_element",
    "volume_angstrom3",
    "kappa_p_mesh_error_percent",
    "kappa_c_mesh_error_percent",
]
SPREADS = [
    "kappa_p_rta_std_decades", "kappa_c_std_decades", "msd_max_std_angstrom2", "p3_total_std_decades",
    "heat_capacity_std_j_per_mol_k", "sound_velocity_std_m_per_s",
    "members_solved", "members_unstable", "members_failed",
]  # fmt: skip
"""Standard deviations over the committee, and how many members they are of."""
_TYPES = {name: "string" if name == "msd_max_element" else float for name in PROPERTIES}


def transport_table(
    manifest: pandas.DataFrame, records: Mapping[str, pandas.DataFrame], trained: Collection[str]
) -> pandas.DataFrame:
    """Return the phonon properties, one row per structure of the manifest and source of forces.

    Parameters
    ----------
    manifest : DataFrame
    records : dict of records of ``solve_bte`` by source
    trained : ids of structures the force model was trained on

    Returns
    -------
    DataFrame: identity, ``trained, source, status, reason`` and the columns of ``solve_bte``; NaN where not ok, and in
    ``SPREADS`` where forces are not predicted
    """
    pieces = []
    for source, stage in records.items():
        table = take(stage, PROPERTIES, stage=f"solve_bte {source}")
        values = table[PROPERTIES].astype(_TYPES).join(stage.reindex(columns=SPREADS).astype(float))
        table = table[["structure_id", "status"]].join(values.where(table["status"] == "ok"))
        table = table.assign(reason=stage["reason"].astype(str).str.split("\n").str[0].to_numpy())
        pieces.append(table.assign(source=source, trained=table["structure_id"].isin(trained)))
    order = ["structure_id", "trained", "source", "status", "reason", *PROPERTIES, *SPREADS]
    return with_identity(manifest, pandas.concat(pieces)[order])


def mode_table(compounds: Mapping[str, str], arrays: "Mapping[str, Paths]") -> pandas.DataFrame:
    """Return every phonon mode of some structures in long form (Fig. 7).

    Parameters
    ----------
    compounds : dict of structure ids by name
    arrays : dict of lists of HDF5 paths of ``solve_bte`` by source

    Returns
    -------
    DataFrame with ``compound, structure_id, source, point, band, weight, frequency_thz, relaxation_time_ps,
    kappa_p_w_per_m_k, kappa_c_w_per_m_k``; relaxation time 1 / (2 pi linewidth), infinite ones are left out
    """
    pieces = []
    for source, paths in arrays.items():
        with ShardFiles(paths_of(paths)) as shards:
            for name, structure_id in compounds.items():
                if structure_id in shards:
                    pieces.append(_modes(name, structure_id, source, shards.group(structure_id)))
    names = ["compound", "structure_id", "source", "point", "band", "weight", "frequency_thz", "relaxation_time_ps"]
    names += ["kappa_p_w_per_m_k", "kappa_c_w_per_m_k"]
    if not pieces:
        return pandas.DataFrame({name: [] for name in names})
    return pandas.concat(pieces)[names].sort_values(["compound", "source", "point", "band"], ignore_index=True)


def _modes(name, structure_id, source, group):
    frequencies, linewidths = group["frequencies_thz"][()], group["linewidth_fwhm_thz"][()]
    n_q, n_band = frequencies.shape
    table = pandas.DataFrame(
        {
            "compound": name,
            "structure_id": structure_id,
            "source": source,
            "point": numpy.repeat(numpy.arange(n_q), n_band),
            "band": numpy.tile(numpy.arange(n_band), n_q),
            "weight": numpy.repeat(group["weights"][()].astype(float), n_band),
            "frequency_thz": frequencies.ravel(),
            "linewidth_fwhm_thz": linewidths.ravel(),
            "kappa_p_w_per_m_k": group["kappa_p_modes"][()].ravel(),
            "kappa_c_w_per_m_k": group["kappa_c_modes"][()].ravel(),
        }
    )
    table = table[(table["linewidth_fwhm_thz"] > 0) & table["kappa_p_w_per_m_k"].notna()]  # none where it diverged
    return table.assign(relaxation_time_ps=1 / (2 * numpy.pi * table["linewidth_fwhm_thz"]))


def element_table(
    structures: "Paths", modes: "Mapping[str, Paths]", records: Mapping[str, pandas.DataFrame]
) -> pandas.DataFrame:
    """Return the mean square displacement of each element, averaged over its atoms in all solved structures (S4).

    Parameters
    ----------
    structures : paths of HDF5 files of ``relax_structures`` (atomic numbers)
    modes : dict of lists of HDF5 paths of ``solve_bte`` by source, with ``msd_angstrom2`` (n_atoms,)
    records : dict of records of ``solve_bte`` by source

    Returns
    -------
    DataFrame with ``source, element, atomic_number, n_atoms, n_structures, msd_mean_angstrom2``
    """
    pieces = []
    for source, paths in modes.items():
        ok = set(records[source].loc[records[source]["status"] == "ok", "structure_id"])
        for path, relaxed in zip(paths_of(paths), paths_of(structures), strict=True):
            with h5py.File(path) as store, h5py.File(relaxed) as cells:
                for structure_id in ok.intersection(store):
                    group = store[structure_id]
                    numbers = cells[structure_id]["numbers"][()]
                    columns = {"source": source, "structure_id": structure_id, "atomic_number": numbers}
                    pieces.append(pandas.DataFrame({**columns, "msd": group["msd_angstrom2"][()]}))
    names = ["source", "element", "atomic_number", "n_atoms", "n_structures", "msd_mean_angstrom2"]
    if not pieces:
        return pandas.DataFrame({name: [] for name in names})
    grouped = pandas.concat(pieces).sort_values("structure_id").groupby(["source", "atomic_number"])
    table = grouped.agg(
        n_atoms=("msd", "size"), n_structures=("structure_id", "nunique"), msd_mean_angstrom2=("msd", "mean")
    ).reset_index()
    return table.assign(element=[chemical_symbols[number] for number in table["atomic_number"]])[names]
