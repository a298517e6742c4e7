"""What the study on true DFT found, kept for the summary of studies whose reference is another.

``python -m phonoscreen.analysis.dft_comparison STUDY FILE`` gathers it from the tables of a finished study of
``profiles/dft`` and from its labels; ``add_dft`` shows it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import yaml

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.analysis.metrics import log_parity
from phonoscreen.analysis.tables import trained_structures
from phonoscreen.analysis.wording import number
from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.forcefield.pooled import pooled_rms

if TYPE_CHECKING:
    from phonoscreen.analysis.document import Document

COMMAND = "snakemake --profile dft"
DIGITS = 5
KNOWN = ("never seen", "known to the published model", "fine-tuned on")
"""What the fine-tuned model had learned from before it was compared on a compound."""


@dataclass(frozen=True)
class DftComparison:
    """The kept comparison.

    Parameters
    ----------
    reference : name of the DFT
    about : where it comes from: command, sha256 of calculations, labels and published model
    compounds : DataFrame with ``structure_id, formula, prototype, known, n_supercell_atoms, n_components,
        force_rms_mev_per_angstrom, force_rmse_mev_per_angstrom, force_rmse_published_mev_per_angstrom,
        frequency_rmse_relative, kappa_p_reference_w_per_m_k, kappa_p_predicted_w_per_m_k, seconds_reference,
        seconds_predicted``; NaN where a structure has no such value; ``known`` is one of ``KNOWN``
    """

    reference: str
    about: Mapping[str, Any]
    compounds: pandas.DataFrame


def read_comparison(path: str | Path) -> DftComparison:
    """Return the comparison of a file of ``write_comparison``."""
    content = yaml.safe_load(Path(path).read_text())
    return DftComparison(content["reference"], content["about"], pandas.DataFrame(content["compounds"]))


def write_comparison(comparison: DftComparison, path: str | Path) -> None:
    """Write the comparison as YAML, numbers with five digits."""
    rows = [{key: _plain(value) for key, value in row.items()} for row in comparison.compounds.to_dict("records")]
    document = {"reference": comparison.reference, "about": dict(comparison.about), "compounds": rows}
    with written_whole(Path(path)) as partial:
        partial.write_text(yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True))


def _plain(value):
    if isinstance(value, (bool, numpy.bool_)):
        return bool(value)
    if isinstance(value, (int, numpy.integer)):
        return int(value)
    return float(f"{value:.{DIGITS}g}") if isinstance(value, (float, numpy.floating)) else value


def add_dft(page: Document, comparison: DftComparison) -> None:
    """Add what the study on true DFT found to the summary of another study."""
    compounds, page_rows = comparison.compounds, []
    page.heading("Against true DFT")
    page.paragraph(
        f"Not of this study: {COMMAND}, whose reference is {comparison.reference}, kept in "
        f"resources/dft_comparison.yaml. {len(compounds)} compounds of {compounds['prototype'].nunique()} classes in "
        f"supercells of {compounds['n_supercell_atoms'].min()} to {compounds['n_supercell_atoms'].max()} atoms; the "
        f"published model was fine-tuned on {int((compounds['known'] == KNOWN[2]).sum())} of them. Both conductivities "
        "come from these small supercells and few labels: they compare forces, and are no converged values."
    )
    for name in KNOWN:
        mine = compounds[compounds["known"] == name]
        if len(mine):
            page_rows.append([name, number(len(mine)), *_measures(mine)])
    headers = ["compounds", "number", "force RMSE, fine-tuned (meV/Å)", "the published model as it is (meV/Å)"]
    headers += ["force RMS (meV/Å)", "frequency RMSE / range (%)", "MAE of log10 κ_p", "DFT time over the committee's"]
    page.table(headers, page_rows)


def _measures(mine):
    forces = [
        pooled_rms(mine[f"{name}_mev_per_angstrom"], mine["n_components"])
        for name in ("force_rmse", "force_rmse_published", "force_rms")
    ]
    kappa = mine[["kappa_p_reference_w_per_m_k", "kappa_p_predicted_w_per_m_k"]].dropna()
    agreement = log_parity(*(kappa[name] for name in kappa)).mae if len(kappa) else numpy.nan
    speed = (mine["seconds_reference"] / mine["seconds_predicted"]).median()
    frequencies = 100 * mine["frequency_rmse_relative"].mean()
    return [*map(number, forces), number(frequencies), f"{number(agreement)} (n = {len(kappa)})", number(round(speed))]


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
        "published_model_sha256": file_sha256(Path(published) / "model.json"),
        "fine_tuned_model_sha256": file_sha256(Path(study) / "results/model/model.json"),
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
    from phonoscreen.forcefield.publish import load_published  # needs PyTorch, which the summary does without
    from phonoscreen.forcefield.supercells import Supercells
    from phonoscreen.stages.label_product import read_product
    from phonoscreen.structures.store import read_crystal

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
