"""Forces on structures the model was never trained on, and what they cost (S3)."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import h5py
import numpy
import pandas
from numpy.typing import NDArray

from phonoscreen.analysis.comparison import OURS
from phonoscreen.analysis.tables import evenly, paths_of

if TYPE_CHECKING:
    import os

    from phonoscreen.analysis.tables import Paths


def untrained_forces(
    labels: "Paths", predicted: "Paths", baselines: "str | os.PathLike", untrained: Collection[str]
) -> Iterator[tuple[str, str, NDArray, NDArray]]:
    """Yield reference and model forces of labelled structures.

    Parameters
    ----------
    labels : HDF5 paths of ``label_forces`` (``forces``, ``supercell_index``)
    predicted : HDF5 paths of ``predict_forces`` (``forces``), the same shards in the same order
    baselines : HDF5 path of ``evaluate_baselines``: per structure ``reference`` and one data set per model
    untrained : ids of the structures to compare

    Yields
    ------
    structure_id, model, reference (n,) and predicted (n,) force components, eV/angstrom
    """
    for label_path, predicted_path in zip(paths_of(labels), paths_of(predicted), strict=True):
        with h5py.File(label_path) as truth, h5py.File(predicted_path) as model:
            for structure_id in sorted(set(truth).intersection(model, untrained)):
                group = truth[structure_id]
                forces = model[structure_id]["forces"][()][group["supercell_index"][()]]
                yield structure_id, OURS, group["forces"][()].ravel(), forces.ravel()
    with h5py.File(baselines) as store:
        for structure_id in sorted(set(store).intersection(untrained)):
            group = store[structure_id]
            for name in sorted(set(group) - {"reference"}):
                yield structure_id, name, group["reference"][()].ravel(), group[name][()].ravel()


def force_error_table(
    labels: "Paths", predicted: "Paths", baselines: "str | os.PathLike", untrained: Collection[str]
) -> pandas.DataFrame:
    """Return the force errors of each model on each untrained structure (arguments of ``untrained_forces``).

    Returns
    -------
    DataFrame with ``structure_id, model, n_components, force_rmse_mev_per_angstrom, force_rms_mev_per_angstrom,
    force_rmse_relative``; the RMS is that of the reference, the relative error their ratio
    """
    rows = []
    for structure_id, model, reference, forces in untrained_forces(labels, predicted, baselines, untrained):
        rmse = 1000 * numpy.sqrt(((forces - reference) ** 2).mean())
        rms = 1000 * numpy.sqrt((reference**2).mean())
        rows.append((structure_id, model, reference.size, rmse, rms, rmse / rms if rms > 0 else numpy.nan))
    names = ["structure_id", "model", "n_components", "force_rmse_mev_per_angstrom", "force_rms_mev_per_angstrom"]
    table = pandas.DataFrame(rows, columns=[*names, "force_rmse_relative"])
    return table.sort_values(["model", "structure_id"], ignore_index=True)


def component_table(
    labels: "Paths", predicted: "Paths", baselines: "str | os.PathLike", untrained: Collection[str], components_max: int
) -> pandas.DataFrame:
    """Return force components in long form (arguments of ``untrained_forces``).

    Parameters
    ----------
    components_max : at most this many components per structure and model, spread evenly

    Returns
    -------
    DataFrame with ``structure_id, model, reference_ev_per_angstrom, predicted_ev_per_angstrom``
    """
    names = ["structure_id", "model", "reference_ev_per_angstrom", "predicted_ev_per_angstrom"]
    pieces = []
    for structure_id, model, reference, forces in untrained_forces(labels, predicted, baselines, untrained):
        shown = evenly(reference.size, components_max)
        columns = (structure_id, model, reference[shown], forces[shown])
        pieces.append(pandas.DataFrame(dict(zip(names, columns))))
    table = pandas.concat(pieces) if pieces else pandas.DataFrame({name: [] for name in names})
    return table.sort_values(["model", "structure_id"], kind="stable", ignore_index=True)
