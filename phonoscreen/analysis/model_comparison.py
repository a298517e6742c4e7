"""A published model against the source of its labels, on compounds that no training saw.

``python -m phonoscreen.analysis.model_comparison LABELS TABLE`` takes test compounds of kept labels: force constants,
frequencies, verdicts and conductivities from the recorded forces, and from the model with every member, in the same
crystal, supercells and settings; and the lattice constant that the model relaxes to. The table gets a row per compound
and is continued. The summary says how far apart they are, and what the spread of the members says of it; ``--write``
puts the factors between spread and error into the ``model.json`` of the model, and on its card.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy
import pandas
import yaml
from ase import Atoms
from threadpoolctl import threadpool_limits

from phonoscreen.analysis.metrics import frequency_error, log_parity
from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shipped import shipped
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.fit import FitterPool
from phonoscreen.force_constants.settings import FitSettings, OrderSettings, SupercellSettings
from phonoscreen.forcefield.publish import default_model_path, load_published
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.stages.label_product import read_product
from phonoscreen.stages.refit import task_of
from phonoscreen.stages.screening import Progress, phonons, transport_of
from phonoscreen.stages.screening_forces import ModelForces
from phonoscreen.stages.spread_calibration import calibrations, lattice_constants, write_calibration
from phonoscreen.stages.transport import SPREADS
from phonoscreen.structures.free_parameters import lattice_constant_angstrom
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.third_order_reach import ThirdOrderReach

if TYPE_CHECKING:
    from phonoscreen.forcefield.committee import Committee

MESH_DENSITY_ANGSTROM = 30.0  # coarse, and the same for both sides


class Judge:
    """Compares a committee with recorded forces, compound by compound.

    Parameters
    ----------
    committee, content : of the published model (``load_published``)
    settings : complete settings of a study (``config.yaml``); the mesh is coarser
    bases : open ``h5py.File`` that collects the symmetry bases
    """

    def __init__(self, committee: "Committee", content: dict, settings: dict, bases: h5py.File) -> None:
        transport = {**settings["transport"], "mesh_density_angstrom": MESH_DENSITY_ANGSTROM}
        self.settings = {**settings, "transport": transport}
        self.forces = ModelForces(committee, content)
        types = read_prototypes(shipped("resources/prototypes.yaml"))["structure_types"]
        supercell = SupercellSettings.from_section(self.settings["supercell"])
        orders = OrderSettings.from_section(self.settings["force_constants"])
        self._assigner = BasisAssigner(bases, supercell, orders, ThirdOrderReach(types))
        self._fitters = FitterPool(bases, FitSettings.from_section(self.settings["force_constants"]))

    def row(self, record: dict, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a compound from the labels (``…_reference``) and from the model (the other columns).

        Parameters
        ----------
        record, arrays : of ``read_product``
        """
        row = {name: record[name] for name in ("structure_id", "formula", "prototype")} | {"reason": ""}
        atoms = Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
        try:
            row["lattice_constant_ratio"] = self._relaxed(atoms, record["structure_id"])
            known, found, errors = self._both(record["structure_id"], atoms, arrays)
        except StudyError as error:
            return {**row, "reason": str(error).splitlines()[0]}
        row |= errors
        names = [*(name if name != "p3_total" else "p3_total_ps" for name in SPREADS), "kappa_p_w_per_m_k"]
        row |= {f"{name}_reference": known.get(name) for name in (*names, "status")}
        return row | {name: found.get(name) for name in (*names, "status", *SPREADS.values(), "members_solved")}

    def _relaxed(self, atoms, name):
        """Lattice constant that the model relaxes the crystal to, over the one of the labels."""
        tolerance = self.settings["filter"]["symmetry_tolerance_angstrom"]
        relaxed = relax_structure(atoms, self.forces.engine, name, self.settings["relax"], tolerance)
        if relaxed.status != "ok":
            return numpy.nan
        return lattice_constant_angstrom(read_atoms(relaxed.arrays)) / lattice_constant_angstrom(atoms)

    def _both(self, name, atoms, arrays):
        """Values of the last stage that a compound reaches, from labels and model, and errors of the model."""
        crystal = Crystal.from_ase(atoms)
        assigned = self._assigner.assign(crystal, tuple(int(n) for n in arrays["repetitions"]))
        fitter, transport = self._fitters.fitter(assigned["basis_key"]), transport_of(self.settings)
        labels = {"displacements": arrays["displacements"], "forces": arrays["forces"], "residual_forces": None,
                  "charges": None}  # fmt: skip
        predicted, _ = self.forces.samples(name, atoms, assigned, arrays["displacements"])
        results, bands = [], []
        for samples in (labels, predicted):
            progress = Progress()
            progress.task = task_of(crystal, fitter.basis, fitter.fit(crystal, **samples), None, transport)
            outcome = phonons(progress, transport)
            results.append({**progress.values, "status": outcome.status})
            bands.append(progress.arrays["band/frequencies_thz"])
        return *results, {**_force_errors(arrays["forces"], predicted["forces"]), **_band_errors(*bands)}


def _force_errors(known, found):
    """Errors of the mean forces of the members on the displaced supercells, relative to the undisplaced one."""
    rmse, rms = (1e3 * float(numpy.sqrt((values**2).mean())) for values in (found - known, known))
    return {"force_rmse_mev_per_angstrom": rmse, "force_rms_mev_per_angstrom": rms}


def _band_errors(known_thz, found_thz):
    """Errors of the frequencies along the band path."""
    _, span, relative = frequency_error(known_thz, found_thz)
    return {"frequency_range_thz": span, "frequency_rmse_relative": relative}


def judge(labelled: list, judge: Judge, path: Path) -> pandas.DataFrame:
    """Return the table of compounds, stored as it grows; those that it holds already are not computed again.

    Parameters
    ----------
    labelled : list of (record, arrays) of ``read_product``
    judge : ``Judge``
    path : CSV
    """
    rows: list[Any] = pandas.read_csv(path, keep_default_na=False).to_dict("records") if path.exists() else []
    done = {row["structure_id"] for row in rows}
    for record, arrays in labelled:
        if record["structure_id"] not in done:
            rows.append(judge.row(record, arrays))
            with written_whole(path) as partial:
                pandas.DataFrame(rows).to_csv(partial, index=False, float_format="%.6g")
            print(f"{len(rows)} of {len(labelled)}: {record['structure_id']}", flush=True)
    return pandas.read_csv(path, na_values=[""], keep_default_na=False)


def summary(table: pandas.DataFrame) -> dict[str, float]:
    """Return the measures that a model is judged by, from the table of ``judge``.

    Forces: root mean square over all compounds alike. Conductivities: the full solution, of compounds with both.
    """
    judged = table[table["reason"].isna()]
    rmse, rms = (judged[f"force_{name}_mev_per_angstrom"] for name in ("rmse", "rms"))
    known, claimed = (judged[name].isin(["ok"]) for name in ("status_reference", "status"))
    kappa, frequencies = "kappa_p_w_per_m_k", 100 * judged["frequency_rmse_relative"]
    both = judged.dropna(subset=[kappa, f"{kappa}_reference"])
    parity = log_parity(both[f"{kappa}_reference"].to_numpy(float), both[kappa].to_numpy(float))
    return {
        "compounds": len(table), "judged": len(judged), "stable with the labels": int(known.sum()),
        "force RMSE, meV/angstrom": float((rmse**2).mean() ** 0.5),
        "force RMSE / RMS, mean over compounds, %": float(100 * (rmse / rms).mean()),
        "force RMSE / RMS, median, %": float(100 * (rmse / rms).median()),
        "frequency RMSE / range, mean %": float(frequencies.mean()),
        "frequency RMSE / range, median %": float(frequencies.median()),
        "the same of the stable ones, mean %": float(frequencies[known].mean()),
        "stable: precision %": float(100 * (known & claimed).sum() / max(claimed.sum(), 1)),
        "stable: recall %": float(100 * (known & claimed).sum() / max(known.sum(), 1)),
        "with both conductivities": parity.n, "log10 kappa MAE": parity.mae, "log10 kappa R2": parity.r2,
    }  # fmt: skip


def main() -> None:
    """Judge, sum up, calibrate."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labels", type=Path, help="kept labels, for example resources/labels/teacher_labels.h5")
    parser.add_argument("table", type=Path, help="CSV of the compounds judged so far; continued")
    parser.add_argument("--model", type=Path, help="folder of a published model (the one of the repository)")
    parser.add_argument("--settings", type=Path, default=Path("config.yaml"), help="YAML of complete settings")
    parser.add_argument("--every", type=int, default=1, help="every Nth test compound only")
    parser.add_argument("--write", action="store_true", help="put the factors into the model's model.json")
    arguments = parser.parse_args()
    folder = arguments.model or default_model_path()
    committee, content = load_published(folder, "cpu")
    settings = yaml.safe_load(arguments.settings.read_text())
    _, labelled = read_product(arguments.labels)
    chosen = [item for item in labelled if item[0]["role"] == "test" and item[1]][:: arguments.every]
    with h5py.File("bases", "w", driver="core", backing_store=False) as bases, threadpool_limits(1):
        table = judge(chosen, Judge(committee, content, settings, bases), arguments.table)
    found, lattice = calibrations(table), lattice_constants(table)
    print(json.dumps({"errors": summary(table), "calibration": found, "lattice constants": lattice}, indent=1))
    if arguments.write:
        write_calibration(folder, found, lattice)


if __name__ == "__main__":
    main()
