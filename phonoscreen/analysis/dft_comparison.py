"""What the study on true DFT found, kept for the summary of studies whose reference is another.

``python -m phonoscreen.analysis.dft_gathering STUDY FILE`` gathers it from the tables of a finished study of
``profiles/dft`` and from its labels; ``add_dft`` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import yaml

from phonoscreen.analysis.metrics import log_parity
from phonoscreen.analysis.wording import number
from phonoscreen.audit.atomic import written_whole
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
        f"model that was published then (networks {str(comparison.about['published_networks'])[:16]}…) was "
        f"fine-tuned on {int((compounds['known'] == KNOWN[2]).sum())} of them. Both conductivities "
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
