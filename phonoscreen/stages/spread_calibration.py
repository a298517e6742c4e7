"""How far the numbers of a published committee are from those of its labels' source, and what its spread says of that.

``python -m phonoscreen.stages.spread_calibration LABELS TABLE`` takes test compounds of kept labels, which no training
saw: force constants and conductivities from the recorded forces, and from the model with every member, in the same
crystal, supercells and settings; and the lattice constant that the model relaxes to. The table gets a row per compound
and is continued. ``--write`` puts the factors between spread and error into the ``model.json`` of the model.
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

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shipped import shipped
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.fit import FitterPool
from phonoscreen.force_constants.settings import FitSettings, OrderSettings, SupercellSettings
from phonoscreen.forcefield.calibration import coverage_factor
from phonoscreen.forcefield.models.files import read_model_json, write_model_json
from phonoscreen.forcefield.publish import default_model_path, load_published
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.stages.label_product import read_product
from phonoscreen.stages.refit import task_of
from phonoscreen.stages.screening import Progress, phonons, transport_of
from phonoscreen.stages.screening_forces import ModelForces
from phonoscreen.stages.transport import SPREADS
from phonoscreen.structures.free_parameters import lattice_constant_angstrom
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.third_order_reach import ThirdOrderReach

if TYPE_CHECKING:
    from phonoscreen.forcefield.committee import Committee

MESH_DENSITY_ANGSTROM = 30.0  # coarse, and the same for both sides
SEED = 61
HEADING, LIMITS = "## Calibration of the spread", "## Limits"
EXPLANATION = """Compounds that no training saw, stable with the labels' forces and with the model's: how far their
numbers are apart, over the standard deviation of the members. The factor is found on half of them; on the other half so
many errors lie within one standard deviation, as it is and times the factor (an error bar: 68 %). The compounds are in
`judged.csv`; `python -m phonoscreen.stages.spread_calibration LABELS judged.csv` continues it and computes this."""
TABLE = """| spread | factor | within, as it is | within, times the factor | compounds: found on, checked on |
| --- | --- | --- | --- | --- |"""
LATTICE = """Lattice constants that the model relaxes to, against those of the labels, {compounds} compounds:
{median_percent:.2f} % apart (median), {percentile_90_percent:.2f} % (90th percentile)."""


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
        self.forces = ModelForces(committee, content, "")
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
            known, found = self._both(record["structure_id"], atoms, arrays)
        except StudyError as error:
            return {**row, "reason": str(error).splitlines()[0]}
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
        """Values of the last stage that a compound reaches: from the labels, and from the model."""
        crystal = Crystal.from_ase(atoms)
        assigned = self._assigner.assign(crystal, tuple(int(n) for n in arrays["repetitions"]))
        fitter, transport = self._fitters.fitter(assigned["basis_key"]), transport_of(self.settings)
        labels = {"displacements": arrays["displacements"], "forces": arrays["forces"], "residual_forces": None,
                  "charges": None}  # fmt: skip
        predicted, _ = self.forces.samples(name, atoms, assigned, arrays["displacements"])
        results = []
        for samples in (labels, predicted):
            progress = Progress()
            progress.task = task_of(crystal, fitter.basis, fitter.fit(crystal, **samples), None, transport)
            outcome = phonons(progress, transport)
            results.append({**progress.values, "status": outcome.status})
        return results


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


def calibrations(table: pandas.DataFrame, seed: int = SEED) -> dict[str, dict[str, float]]:
    """Return ``coverage_factor`` of every spread that enough compounds have, by its column.

    Errors are those of the logarithm to the base 10 where the spread is in decades.
    """
    found = {}
    both = table[(table["status"] == "ok") & (table["status_reference"] == "ok")]
    for name, column in SPREADS.items():
        name = "p3_total_ps" if name == "p3_total" else name
        first, second = (both[own].to_numpy(float) for own in (f"{name}_reference", name))
        with numpy.errstate(invalid="ignore", divide="ignore"):
            difference = numpy.log10(second / first) if column.endswith("_decades") else second - first
        try:
            spreads = both[column].to_numpy(float)
            found[column] = coverage_factor(spreads, numpy.abs(difference), both["structure_id"].tolist(), seed)
        except StudyError:
            continue
    return found


def lattice_constants(table: pandas.DataFrame) -> dict[str, float]:
    """Return number, median and 90th percentile (per cent) of the deviation of the relaxed lattice constants."""
    away = 100 * (table["lattice_constant_ratio"].dropna().astype(float) - 1).abs()
    median, high = float(away.median()), float(away.quantile(0.9))
    return {"compounds": len(away), "median_percent": median, "percentile_90_percent": high}


def write_calibration(folder: Path, found: dict[str, dict[str, float]], lattice: dict[str, float]) -> None:
    """Put the factors into the ``model.json`` of a published model, with its digest, and the comparison on its card.

    Parameters
    ----------
    folder : of the published model
    found : of ``calibrations``
    lattice : of ``lattice_constants``
    """
    content = read_model_json(folder / "model.json")
    content["calibration"] = {column: facts["factor"] for column, facts in found.items()}
    write_model_json(content, folder / "model.json")
    card = folder / "README.md"
    before, _, after = card.read_text().partition(LIMITS)
    rows = [
        f"| `{column}` | {facts['factor']:.2f} | {100 * facts['within_raw']:.0f} % | {100 * facts['within']:.0f} % | "
        f"{facts['n_fitted']}, {facts['n_checked']} |"
        for column, facts in found.items()
    ]
    table = "\n".join([TABLE, *rows])
    part = f"{HEADING}\n\n{EXPLANATION}\n\n{table}\n\n{LATTICE.format(**lattice)}\n\n"
    card.write_text(before.split(HEADING)[0] + part + LIMITS + after)


def main() -> None:
    """Judge, calibrate and print."""
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
    print(json.dumps({"calibration": found, "lattice constants": lattice}, indent=1))
    if arguments.write:
        write_calibration(folder, found, lattice)


if __name__ == "__main__":
    main()
