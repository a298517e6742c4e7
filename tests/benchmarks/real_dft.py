"""The experiment's models against DFT that nothing here was trained on: harmonic forces and frequencies of phonondb.

``make experiment-dft`` predicts the forces of every displaced supercell of each compound whose elements the training
set holds, fits second-order force constants to them as to the DFT forces (VASP, PBEsol), and compares both and their
frequencies. The models are those of ``results/experiment`` at their largest training set. With ``--potential NAME
--every N`` a universal potential is measured on every Nth of the same compounds, beside the models on those.
``--published FOLDER --role teacher_test`` measures the published model on compounds that it must not know; ``--card``
measures all of these and puts the errors on the model's card.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy
import pandas
from ase import Atoms
from threadpoolctl import threadpool_limits

from phonoscreen.analysis.metrics import frequency_error
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.elements import SYMBOLS
from phonoscreen.forcefield.publish import load_published
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.forcefield.validation import squares_by_element
from phonoscreen.phonons.stability import check_stability
from phonoscreen.reference.potentials import make_baseline
from phonoscreen.stages.dft_judgement import DFT_FILE, ROLES, write_dft_section
from phonoscreen.structures.formulas import formula_of
from phonoscreen.structures.prototypes import formula_type
from phonoscreen.structures.supercells import build_supercell, displaced_supercell
from tests.conftest import reference_folder
from tests.phonondb import archives, fit_compound, read_compound

THRESHOLD_THZ = 0.1
"""Of ``stability.imaginary_threshold_thz``."""


def committee_forces(committee, data):
    """Forces of the committee's mean relative to the undisplaced supercell, (n_supercells, n_atoms, 3)."""
    supercells = Supercells(data.crystal, numpy.array(data.repetitions), data.displacements)
    forces = committee.supercell_forces(supercells) - committee.residual_forces(supercells)[:, None]
    return forces.mean(axis=0)


def potential_forces(engine, data):
    """The same of a universal potential."""
    crystal = data.crystal
    atoms = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    supercell = build_supercell(atoms, data.repetitions)
    _, at_rest = engine.forces(supercell)
    moved = [engine.forces(displaced_supercell(supercell, move))[1] for move in data.displacements]
    return numpy.array(moved) - at_rest


def compare(name, data, reference, forces):
    """One row: errors of forces and frequencies against DFT, and both verdicts."""
    predicted = check_stability(data.crystal, fit_compound(replace(data, forces=forces)), THRESHOLD_THZ)
    numbers = numpy.tile(data.crystal.numbers, int(numpy.prod(data.repetitions)))
    rmse, span, relative = frequency_error(
        reference.arrays["band/frequencies_thz"], predicted.arrays["band/frequencies_thz"]
    )
    return {
        "model": name,
        "force_rmse_relative": numpy.sqrt(((forces - data.forces) ** 2).mean() / (data.forces**2).mean()),
        "frequency_rmse_thz": rmse,
        "frequency_range_thz": span,
        "frequency_rmse_relative": relative,
        "squares_by_element": json.dumps(squares_by_element(forces, data.forces, numbers)),
        "stable_dft": reference.stable,
        "stable_predicted": predicted.stable,
    }


def load_models(folder):
    """Committees at the largest training set, the elements they know and the formulas they were trained on."""
    committees, elements, formulas = {}, None, set()
    for model in sorted(path for path in folder.iterdir() if (path / "0").exists() or any(path.glob("*/0/members"))):
        size = max((path for path in model.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
        settings = sorted((size / "0/members").glob("*/model.json"))
        committees[model.name] = Committee.load([path.with_suffix(".safetensors") for path in settings], settings)
        elements = set(json.loads(settings[0].read_text())["elements"])
        trained = pandas.read_parquet(folder / f"datasets/{size.name}_0.parquet")
        formulas = set(trained["structure_id"])
    return committees, elements, formulas


def summary(table):
    """Means and medians per model, reference-stable compounds for the frequencies."""
    rows = []
    for (part, model), group in table.groupby(["compounds", "model"]):
        stable = group[group["stable_dft"]]
        hits = int((stable["stable_predicted"]).sum())
        claimed = int(group["stable_predicted"].sum())
        rows.append(
            {
                "compounds": part, "model": model, "n": len(group), "n_stable": len(stable),
                "force error, median %": 100 * group["force_rmse_relative"].median(),
                "frequency error, mean %": 100 * stable["frequency_rmse_relative"].mean(),
                "median %": 100 * stable["frequency_rmse_relative"].median(),
                "stable: precision %": 100 * hits / claimed if claimed else numpy.nan,
                "recall %": 100 * hits / len(stable) if len(stable) else numpy.nan,
            }
        )  # fmt: skip
    return pandas.DataFrame(rows)


def main():
    """Print the summary; skip with a message where the data or the models are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("runs/experiment-1/results/experiment"))
    parser.add_argument("--potential", help="universal potential to measure too, for example 7net-l3i5")
    parser.add_argument("--every", type=int, default=1, help="every Nth compound only")
    parser.add_argument(
        "--published", type=Path, help="folder of a published model, measured instead of the experiment's"
    )
    parser.add_argument("--role", help="only compounds of this role in split.csv, for example teacher_test")
    parser.add_argument("--card", action="store_true", help="all roles that judge, on the card of --published")
    parser.add_argument("--table", help="write the rows of all compounds to this CSV file")
    arguments = parser.parse_args()
    folder = reference_folder()
    if not folder.is_dir():
        sys.exit(f"skipped: no reference data at {folder}; set PHONOSCREEN_REFERENCE to its folder")
    if arguments.published:
        committee, content = load_published(arguments.published, "cpu")
        committees, elements, known = {"published": committee}, set(content["elements"]), set()
    elif not arguments.models.is_dir():
        sys.exit(f"skipped: no models at {arguments.models}; run make experiment-models")
    else:
        committees, elements, trained = load_models(arguments.models)
        manifest = pandas.read_parquet(arguments.models.parent / "structures/manifest.parquet")
        known = manifest[manifest["structure_id"].isin(trained)]
        known = set(zip(known["formula"], known["space_group_number"].astype(str)))
    engine = make_baseline(arguments.potential, 1) if arguments.potential else None
    rows, found = [], archives(folder)
    roles = list(ROLES) if arguments.card else [arguments.role] if arguments.role else []
    split = pandas.read_csv(folder / "phonondb/split.csv")
    role_of = {Path(name).name: role for name, role in zip(split["file"], split["role"])}
    if roles:
        found = {name: path for name, path in found.items() if role_of.get(path.name) in roles}
    chosen = list(found.items())[:: arguments.every]
    for number, (name, archive) in enumerate(chosen):
        print(f"{number + 1} of {len(chosen)}: {name}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as unpacked:
            data = read_compound(archive, Path(unpacked)).data
        if not set(data.crystal.numbers.tolist()) <= elements & set(SYMBOLS):
            continue
        reference = check_stability(data.crystal, fit_compound(data), THRESHOLD_THZ)
        formula = formula_of(data.crystal.numbers)
        part = "trained on with other labels" if (formula, name.rsplit("-", 1)[1]) in known else "never seen"
        for model, committee in committees.items():
            row = compare(model, data, reference, committee_forces(committee, data))
            about = {"compound": name, "role": role_of.get(archive.name, ""), "formula": formula, "compounds": part}
            rows.append({**about, "class": f"{name.rsplit('-', 1)[1]}-{formula_type(data.crystal.numbers)}", **row})
        if engine:
            row = compare(arguments.potential, data, reference, potential_forces(engine, data))
            rows.append({"compound": name, "formula": formula, "compounds": part, **row})
    table = pandas.DataFrame(rows)
    if arguments.table:
        table.to_csv(arguments.table, index=False)
    if arguments.card:
        table.drop(columns=["compounds", "model"]).to_csv(
            arguments.published / DFT_FILE, index=False, float_format="%.5g"
        )
        write_dft_section(arguments.published)
    print("Reference: DFT (VASP, PBEsol; phonondb, A. Togo, CC BY 4.0), single atoms displaced by 0.01 A")
    print(summary(table).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
