"""The published model against its labels on test compounds, from forces to frequencies, verdicts and conductivities.

``python -m tests.benchmarks.published_model LABELS`` fits force constants to the labels' forces on the displaced
supercells of every test compound and, with the same displacements, cell and settings, to the model's forces. The table
has one row per compound; the summary compares frequencies over their range along the band path, the verdict stable, and
the logarithm of the lattice conductivity (relaxation-time approximation plus coherences, where both are stable).
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy
import pandas
from ase import Atoms
from threadpoolctl import threadpool_limits

from phonoscreen.analysis.metrics import frequency_error, log_parity
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.mesh import automatic_mesh
from phonoscreen.forcefield.publish import default_model_path, load_published
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.formats.displacements import DisplacedSupercells
from phonoscreen.phonons.stability import check_stability
from phonoscreen.stages.label_product import read_product
from phonoscreen.stages.one_crystal import Choices, determine
from phonoscreen.transport.solve import Settings, solve

THRESHOLD_THZ = 0.1
MESH_DENSITY_ANGSTROM = 30.0
"""A coarse mesh: the same for both, so its error cancels to a large part."""


def properties(crystal, arrays, forces, with_kappa):
    """Stability and lattice conductivity (W/m/K, NaN where unstable) that forces on the displaced supercells give."""
    data = DisplacedSupercells(crystal, tuple(arrays["repetitions"]), arrays["displacements"], forces)
    found = determine(data, Choices())
    stability = check_stability(crystal, found.second, THRESHOLD_THZ)
    kappa = numpy.nan
    if with_kappa and stability.stable and found.third is not None:
        mesh = automatic_mesh(crystal, MESH_DENSITY_ANGSTROM)
        solution = solve(crystal, found.second, found.third, mesh, Settings(full_solution=False, single_precision=True))
        kappa = float(numpy.trace(solution.rta[0].kappa + solution.coherence[0]) / 3)
    return stability, kappa


def compare(committee, record, arrays, with_kappa):
    """One row of the table."""
    crystal = Crystal.from_ase(
        Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
    )
    row = {name: record[name] for name in ("structure_id", "formula", "prototype")}
    supercells = Supercells(crystal, numpy.array(arrays["repetitions"]), arrays["displacements"])
    forces = committee.supercell_forces(supercells).mean(axis=0)
    row["force_rmse_ev_per_angstrom"] = numpy.sqrt(((forces - arrays["forces"]) ** 2).mean())
    row["force_rms_ev_per_angstrom"] = numpy.sqrt((arrays["forces"] ** 2).mean())
    try:
        reference, kappa = properties(crystal, arrays, arrays["forces"], with_kappa)
        predicted, kappa_predicted = properties(crystal, arrays, forces, with_kappa)
    except StudyError as error:
        return {**row, "reason": str(error)}
    bands = (found.arrays["band/frequencies_thz"] for found in (reference, predicted))
    rmse, span, relative = frequency_error(*bands)
    return {
        **row, "frequency_rmse_thz": rmse, "frequency_range_thz": span, "frequency_rmse_relative": relative,
        "stable": reference.stable, "stable_predicted": predicted.stable, "kappa_w_per_m_k": kappa,
        "kappa_predicted_w_per_m_k": kappa_predicted, "reason": "",
    }  # fmt: skip


def summary(table):
    """The measures that the model is judged by."""
    squares = [(table[f"force_{name}_ev_per_angstrom"] ** 2).mean() for name in ("rmse", "rms")]
    judged = table[table.reason == ""]
    stable, claimed = judged.stable.astype(bool), judged.stable_predicted.astype(bool)
    both = judged.dropna(subset=["kappa_w_per_m_k", "kappa_predicted_w_per_m_k"])
    kappa = log_parity(both.kappa_w_per_m_k.to_numpy(float), both.kappa_predicted_w_per_m_k.to_numpy(float))
    return {
        "compounds": len(table), "judged": len(judged), "stable with the labels": int(stable.sum()),
        "force RMSE, meV/A (mean over compounds)": 1e3 * squares[0] ** 0.5,
        "force RMSE / RMS, %": 100 * (squares[0] / squares[1]) ** 0.5,
        "frequency RMSE / range, mean %": 100 * judged.frequency_rmse_relative.mean(),
        "frequency RMSE / range, median %": 100 * judged.frequency_rmse_relative.median(),
        "the same of the stable ones, mean %": 100 * judged.frequency_rmse_relative[stable].mean(),
        "stable: precision %": 100 * (stable & claimed).sum() / max(claimed.sum(), 1),
        "stable: recall %": 100 * (stable & claimed).sum() / max(stable.sum(), 1),
        "with both conductivities": kappa.n, "log10 kappa MAE": kappa.mae, "log10 kappa R2": kappa.r2,
    }  # fmt: skip


def main():
    """Print the summary; a table that is there already is continued."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labels", help="kept labels, for example resources/labels/teacher_labels.h5")
    parser.add_argument(
        "--model", type=Path, help="folder of a published model (the one that comes with the repository)"
    )
    parser.add_argument("--every", type=int, default=1, help="every Nth test compound only")
    parser.add_argument("--kappa", action="store_true", help="conductivities too")
    parser.add_argument("--table", type=Path, default=Path("published_model.csv"), help="rows so far; continued")
    arguments = parser.parse_args()
    committee, _ = load_published(arguments.model or default_model_path(), "cpu")
    _, labelled = read_product(arguments.labels)
    chosen = [item for item in labelled if item[0]["role"] == "test" and item[1]][:: arguments.every]
    rows = pandas.read_csv(arguments.table, keep_default_na=True).to_dict("records") if arguments.table.exists() else []
    done = {row["structure_id"] for row in rows}
    for number, (record, arrays) in enumerate(chosen):
        if record["structure_id"] not in done:
            rows.append(compare(committee, record, arrays, arguments.kappa))
            pandas.DataFrame(rows).to_csv(f"{arguments.table}.partial", index=False)
            os.replace(f"{arguments.table}.partial", arguments.table)
            print(f"{number + 1} of {len(chosen)}: {record['structure_id']}", file=sys.stderr)
    table = pandas.read_csv(arguments.table, dtype={"reason": str}).fillna({"reason": ""})
    print(json.dumps(summary(table), indent=1))


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
