"""Frequencies from reference and from predicted forces, structure by structure, along the band path (Fig. 2a)."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import h5py
import numpy
import pandas

from phonoscreen.analysis.metrics import frequency_error
from phonoscreen.analysis.tables import paths_of, take, with_identity
from phonoscreen.audit.shard_files import ShardFiles

if TYPE_CHECKING:
    from phonoscreen.analysis.tables import Paths

_VALUES = ["frequency_min_thz", "frequency_max_thz"]
INSET_QUANTILES = (0.1, 0.5, 0.9)


def phonon_table(
    manifest: pandas.DataFrame,
    records: Mapping[str, pandas.DataFrame],
    arrays: "Mapping[str, Paths]",
    trained: Collection[str],
) -> pandas.DataFrame:
    """Return stability and frequency errors, one row per structure of the manifest.

    Parameters
    ----------
    manifest : DataFrame
    records : dict of records of ``check_stability`` by source ("reference", "predicted")
    arrays : dict of lists of HDF5 paths of ``check_stability`` by source, the same shards in the same order
    trained : ids of structures the force model was trained on

    Returns
    -------
    DataFrame: identity, ``trained``, per source ``status_*, frequency_min_*_thz, frequency_max_*_thz``, and
    ``frequency_rmse_thz, frequency_range_thz, frequency_rmse_relative`` (NaN without both band structures)
    """
    table = manifest[["structure_id"]].assign(trained=manifest["structure_id"].isin(trained))
    for source, stage in records.items():
        stage = take(stage, _VALUES, stage=f"check_stability {source}").astype(dict.fromkeys(_VALUES, float))
        names = {name: name.replace("_thz", f"_{source}_thz") for name in _VALUES}
        table = table.merge(stage.rename(columns={"status": f"status_{source}", **names}), on="structure_id")
    rows = []
    for reference, predicted in zip(paths_of(arrays["reference"]), paths_of(arrays["predicted"]), strict=True):
        with h5py.File(reference) as first, h5py.File(predicted) as second:
            for structure_id in first:
                if structure_id in second and "band" in first[structure_id] and "band" in second[structure_id]:
                    bands = (store[structure_id]["band/frequencies_thz"][()] for store in (first, second))
                    rows.append((structure_id, *frequency_error(*bands)))
    columns = ["structure_id", "frequency_rmse_thz", "frequency_range_thz", "frequency_rmse_relative"]
    errors = pandas.DataFrame(rows, columns=columns).astype({name: float for name in columns[1:]})
    return with_identity(manifest, table.merge(errors, on="structure_id", how="left"))


def inset_structures(phonons: pandas.DataFrame) -> list[str]:
    """Return ids of structures at the 10, 50 and 90 % quantile of the frequency error, reference-stable ones only."""
    shown = phonons[(phonons["status_reference"] == "ok") & phonons["frequency_rmse_relative"].notna()]
    ids = shown.sort_values(["frequency_rmse_relative", "structure_id"])["structure_id"].tolist()
    ranks = [round(quantile * (len(ids) - 1)) for quantile in INSET_QUANTILES] if ids else []
    return [ids[rank] for rank in dict.fromkeys(ranks)]


def dispersion_table(structure_ids: Iterable[str], arrays: "Mapping[str, Paths]") -> pandas.DataFrame:
    """Return the band structures of some structures in long form.

    Parameters
    ----------
    structure_ids : ids
    arrays : dict of lists of HDF5 paths of ``check_stability`` by source

    Returns
    -------
    DataFrame with ``structure_id, source, point, label, distance_per_angstrom, band, frequency_thz``; ``label`` is the
    name of a high-symmetry point or empty
    """
    pieces = []
    for source, paths in arrays.items():
        with ShardFiles(paths_of(paths)) as shards:
            for structure_id in shards.in_order(structure_ids):
                if "band" in (group := shards.group(structure_id)):
                    pieces.append(_dispersion(structure_id, source, group["band"]))
    names = ["structure_id", "source", "point", "label", "distance_per_angstrom", "band", "frequency_thz"]
    if not pieces:
        return pandas.DataFrame({name: [] for name in names})
    return pandas.concat(pieces)[names].sort_values(["structure_id", "source", "band", "point"], ignore_index=True)


def _dispersion(structure_id, source, band):
    frequencies = numpy.sort(band["frequencies_thz"][()], axis=-1)
    n_q, n_band = frequencies.shape
    labels = [text.decode() if isinstance(text, bytes) else str(text) for text in band["labels"][()]]
    return pandas.DataFrame(
        {
            "structure_id": structure_id,
            "source": source,
            "point": numpy.repeat(numpy.arange(n_q), n_band),
            "label": numpy.repeat(labels, n_band),
            "distance_per_angstrom": numpy.repeat(band["distances"][()], n_band),
            "band": numpy.tile(numpy.arange(n_band), n_q),
            "frequency_thz": frequencies.ravel(),
        }
    )
