"""Gather what the study on true DFT found, from the tables of a finished study of ``profiles/dft`` and its labels."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy
import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.analysis.dft_comparison import COMMAND, KNOWN, DftComparison, write_comparison
from phonoscreen.analysis.tables import trained_structures
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.forcefield.models.model_json import networks_digest, read_model_json
from phonoscreen.forcefield.publish import load_published
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.stages.label_product import read_product
from phonoscreen.structures.store import read_crystal


def gather(study: str | Path, labels: str | Path, published: str | Path) -> DftComparison:
    """Return the comparison of a finished study.

    Parameters
    ----------
    study : folder of the study
    labels : its kept labels (``phonoscreen.stages.dft_product``)
    published : folder of the model that it was fine-tuned from

    Raises
    ------
    StudyError
        If the study is not finished, or its reference is no DFT.
    """
    tables = {}
    for name in ("phonons", "transport", "timings"):
        path = Path(study) / f"results/tables/{name}.parquet"
        if not path.is_file():
            raise StudyError(f"no table {path}", where="dft_comparison", fix=f"finish the study: {COMMAND}")
        tables[name] = pandas.read_parquet(path)
    forces, settings = _force_errors(labels, {"force_rmse": Path(study) / "results/model", "published": published})
    identity = tables["phonons"].set_index("structure_id")
    table = identity[["formula", "prototype", "frequency_rmse_relative"]].join(forces, how="inner")
    table.insert(2, "known", _known(Path(study), Path(published), tables["phonons"]).reindex(table.index))
    for source in ("reference", "predicted"):
        solved = tables["transport"].set_index("structure_id").query("source == @source")
        timed = tables["timings"].set_index("structure_id").query("source == @source")
        table[f"kappa_p_{source}_w_per_m_k"] = solved["kappa_p_w_per_m_k"].astype(float)
        table[f"seconds_{source}"] = timed["seconds_per_supercell"].astype(float)
    about = {
        "command": COMMAND, "settings": settings, "labels_sha256": file_sha256(labels),
        "published_networks": networks_digest(read_model_json(Path(published) / "model.json")),
        "fine_tuned_networks": networks_digest(read_model_json(Path(study) / "results/model/model.json")),
    }  # fmt: skip
    reference = reference_name(settings["engine"], settings["functional"])
    return DftComparison(reference, about, table.reset_index())


def _known(study, published, manifest):
    """Which of ``KNOWN`` holds for each structure, by id."""
    compounds = published / "compounds.csv"
    before = trained_structures([], manifest, [str(compounds)])
    tuned = trained_structures(sorted(map(str, (study / "results/rounds").glob("*/dataset.parquet"))), manifest)
    words = [KNOWN[2] if name in tuned else KNOWN[name in before] for name in manifest["structure_id"]]
    return pandas.Series(words, index=manifest["structure_id"])


def _force_errors(labels, models):
    """Errors of the mean forces of committees on all labelled supercells, and what the labels are of."""
    origin, compounds = read_product(labels)
    committees, rows = {name: load_published(folder, "cpu")[0] for name, folder in models.items()}, {}
    for record, arrays in compounds:
        if not arrays:
            continue
        data = Supercells(read_crystal(arrays), arrays["repetitions"], arrays["displacements"])
        wanted = arrays["forces"]
        row = {"n_supercell_atoms": wanted.shape[1], "n_components": wanted.size}
        row["force_rms_mev_per_angstrom"] = 1e3 * float(numpy.sqrt((wanted**2).mean()))
        for name, committee in committees.items():
            error = committee.supercell_forces(data).mean(axis=0) - wanted
            column = "force_rmse" if name == "force_rmse" else f"force_rmse_{name}"
            row[f"{column}_mev_per_angstrom"] = 1e3 * float(numpy.sqrt((error**2).mean()))
        rows[record["structure_id"]] = row
    return pandas.DataFrame.from_dict(rows, orient="index"), json.loads(origin["settings"])


def main() -> None:
    """Keep the comparison of a finished study on DFT."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, help="folder that the study ran in")
    parser.add_argument("file", type=Path, help="YAML file to write")
    parser.add_argument("--labels", type=Path, default=Path("resources/labels/dft_labels.h5"))
    parser.add_argument("--published", type=Path, default=Path("resources/model"))
    arguments = parser.parse_args()
    write_comparison(gather(arguments.study, arguments.labels, arguments.published), arguments.file)


if __name__ == "__main__":
    main()
