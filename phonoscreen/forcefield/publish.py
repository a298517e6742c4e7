"""A published model: members, model.json and card.md in one folder that anyone can load."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.foreign_text import markdown_text
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.shipped import shipped
from phonoscreen.crystal.geometry import check_geometry
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.elements import SYMBOLS
from phonoscreen.forcefield.models.files import load_model
from phonoscreen.forcefield.models.model_json import read_model_json, write_model_json
from phonoscreen.forcefield.neighbourhoods import atoms_neighbourhoods
from phonoscreen.forcefield.pooled import pooled_rms
from phonoscreen.forcefield.validation import errors_by

if TYPE_CHECKING:
    import pandas

CHECK_SPACING_ANGSTROM = 2.8
CHECK_TOLERANCE = 1e-3  # of the largest force: single precision on any device stays ten times below


def default_model_path() -> Path:
    """Return the folder of the published model that comes with the repository: what is used where none is named.

    Raises
    ------
    StudyError
        If this copy of the repository holds none.
    """
    try:
        return shipped("resources/model/model.json").parent
    except FileNotFoundError as error:
        raise StudyError(
            "no published model comes with this copy of the program", where="default_model_path",
            fix="name one with --model, or train one with phonoscreen train",
        ) from error  # fmt: skip


def publish_model(
    members: Sequence[tuple[str | Path, str | Path]],
    weights_paths: Sequence[str | Path],
    settings_path: str | Path,
    card_path: str | Path,
    *,
    dataset: "pandas.DataFrame",
    dataset_path: str | Path,
    validation: "pandas.DataFrame",
    code: str,
    licence: str,
    notes: str = "",
) -> dict:
    """Write the members of a committee as one published model.

    Parameters
    ----------
    members : list of (weights path, JSON path) of the trained members
    weights_paths, settings_path, card_path : files to write, all in one folder
    dataset : DataFrame of ``assemble_dataset``
    dataset_path : its HDF5 file, of which the sha256 is recorded
    validation : DataFrame of ``validate_round``
    code : digest of the code that trained the members
    licence : licence of the weights
    notes : Markdown for the card, after the errors

    Returns
    -------
    dict, the contents of ``model.json``
    """
    described = [read_model_json(path) for _, path in members]
    committee = Committee.load(
        [weights for weights, _ in members], [path for _, path in members], device="cpu"
    )  # refuses members that do not belong together
    for (source, _), target in zip(members, weights_paths, strict=True):
        shutil.copyfile(source, target)
    judged = validation[validation.status == "ok"]
    training = dataset[dataset.split == "training"]
    content = {
        "kind": described[0]["kind"],
        "settings": described[0]["settings"],
        "members": [Path(path).name for path in weights_paths],
        "members_sha256": {Path(path).name: file_sha256(path) for path in weights_paths},
        "elements": described[0]["elements"],
        "cutoff_angstrom": described[0]["settings"]["cutoff_angstrom"],
        "label_engine": described[0]["label_engine"],
        "label_model": described[0]["label_model"],
        "round": described[0]["round"],
        "code": code,
        "training_data_sha256": file_sha256(dataset_path),
        "n_structures": int(len(training)),
        "n_supercells": int(training.n_supercells.sum()),
        "n_environments": int(training.n_environments.sum()),
        "validation_structures": int(len(judged)),
        "validation_force_rmse_mev_per_angstrom": _rmse(judged),
        "validation_force_rmse_relative": _median(judged, "force_rmse_relative"),
        "licence": licence,
        "check": _check(committee, described[0]["elements"]),
    }
    write_model_json(content, settings_path)
    Path(card_path).write_text(_card(content, judged, notes))
    return content


def load_published(folder: str | Path, device: str = "auto", dtype: str | None = None) -> tuple[Committee, dict]:
    """Return the committee of a published model and its ``model.json`` (device and dtype: see ``load_model``).

    Raises
    ------
    StudyError
        If the folder is not a published model, settings or weights are not what was published, or the stored forces
        of the stored structure are not reproduced.
    """
    folder = Path(folder)
    if not (folder / "model.json").exists():
        raise StudyError(
            f"{folder} holds no model.json", where="load_published", fix="give the folder of a published model"
        )
    content = read_model_json(folder / "model.json")
    names = content.get("members")
    if not isinstance(names, list) or not names or any(Path(str(name)).name != name for name in names):
        raise StudyError(
            f"{folder} names no members", where="load_published", fix="give the folder of a published model"
        )
    members = [load_model(folder / name, folder / "model.json", device, dtype) for name in names]
    committee = Committee(members)
    try:
        _reproduce(committee, content["check"], folder)
    except StudyError:
        raise
    except (KeyError, TypeError, IndexError, ValueError, ArithmeticError) as error:
        raise StudyError(
            f"{folder} lacks its stored structure and forces ({error})", where="load_published", fix="publish it again"
        ) from error
    return committee, content


def _check(committee, elements):
    """Return a structure of up to eight of the elements and the forces of every member on its atoms."""
    numbers = [elements[place * len(elements) // 8] for place in range(8)]
    grid = numpy.stack(numpy.meshgrid(*3 * [numpy.arange(2.0)], indexing="ij"), axis=-1).reshape(-1, 3)
    positions = CHECK_SPACING_ANGSTROM * grid + numpy.random.default_rng(8).uniform(-0.15, 0.15, (8, 3))
    atoms = Atoms(numbers, positions.round(6), cell=3 * [2 * CHECK_SPACING_ANGSTROM], pbc=True)
    return {
        "numbers": [int(number) for number in numbers],
        "cell_angstrom": atoms.cell.tolist(),
        "positions_angstrom": atoms.positions.tolist(),
        "forces_ev_per_angstrom": committee.forces(atoms_neighbourhoods(atoms, committee.cutoff_angstrom)).tolist(),
    }


def _reproduce(committee, check, folder):
    """Raise StudyError unless the committee gives the stored forces."""
    atoms = Atoms(check["numbers"], check["positions_angstrom"], cell=check["cell_angstrom"], pbc=True)
    check_geometry(atoms, str(folder))
    forces = committee.forces(atoms_neighbourhoods(atoms, committee.cutoff_angstrom))
    stored = numpy.array(check["forces_ev_per_angstrom"])
    if stored.shape != forces.shape or not numpy.isfinite(stored.astype(float)).all():
        raise StudyError("the stored forces are not those of its members", where=str(folder), fix="publish it again")
    error, scale = numpy.abs(forces - stored).max(), numpy.abs(stored).max()
    if not error <= CHECK_TOLERANCE * scale + 1e-6:
        raise StudyError(
            f"the model's forces on its stored structure differ by {error:.3g} eV/A from the stored ones (largest "
            f"{scale:.3g} eV/A)",
            where=str(folder),
            fix="use the version of phonoscreen that published it, or publish it again with this one",
        )


def _rmse(judged):
    if judged.empty:
        return None
    return pooled_rms(judged.force_rmse_mev_per_angstrom, judged.n_supercells * judged.n_atoms)


def _median(judged, column):
    return None if judged.empty else float(judged[column].median())


def _squares_by_element(judged):
    return [item for text in judged.squares_by_element for item in json.loads(text).items()]


def _squares_by_prototype(judged):
    rows = zip(judged.prototype, map(json.loads, judged.squares_by_element))
    return [(prototype, numpy.sum(list(elements.values()), axis=0)) for prototype, elements in rows]


def error_table(name: str, groups: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    """Return the lines of a Markdown table of errors by group.

    Parameters
    ----------
    name : of what groups
    groups : as for ``phonoscreen.forcefield.validation.errors_by``
    """
    rows = errors_by(groups).itertuples(index=False)
    lines = [f"| {name} | structures | RMSE, meV/A | RMSE / RMS force |", "| --- | --- | --- | --- |"]
    return lines + [f"| {group} | {count} | {rmse:.1f} | {relative:.2f} |" for group, count, rmse, relative in rows]


def _card(content, judged, notes):
    symbols = " ".join(SYMBOLS[number] for number in content["elements"])
    if judged.empty:
        errors = "No structure was kept for validation: the errors of this model are not known."
    else:
        errors = "\n".join(
            [
                f"On {len(judged)} structures never trained on:",
                "",
                f"* force RMSE of the committee's mean {content['validation_force_rmse_mev_per_angstrom']:.1f} meV/A",
                f"* median over structures of RMSE / RMS force {content['validation_force_rmse_relative']:.2f}",
                "* mean net force per atom "
                f"{_median(judged, 'net_force_per_atom_mev_per_angstrom'):.2f} meV/A (median over structures)",
                "* force on the perfect crystal "
                f"{_median(judged, 'perfect_crystal_force_rms_mev_per_angstrom'):.2f} meV/A (median over structures)",
                "",
                *error_table("prototype", _squares_by_prototype(judged)),
                "",
                *error_table("element", _squares_by_element(judged)),
            ]
        )
    return f"""# Force model ({content["kind"]}, committee of {len(content["members"])})

Forces on the atoms of crystals whose atoms are displaced a few hundredths of an angstrom, for phonons.

## Data

{content["n_environments"]} environments in {content["n_supercells"]} displaced supercells of
{content["n_structures"]} structures.
Labels: {markdown_text(content["label_engine"])} ({markdown_text(content["label_model"])}).
Active-learning round {content["round"]}.

Elements in the training set: {symbols}

## Errors

{errors}

{notes}## Limits

* Trained on supercells near equilibrium with displacements of 0.03 A: not for molecular dynamics, defects or surfaces.
* Elements outside the list above are extrapolation; the committee's spread says how far.
* The labels' own errors are inherited: where they come from a universal potential, this is not DFT.

## Use

`phonoscreen predict STRUCTURES --model FOLDER`, or in ASE the calculator
`phonoscreen.forcefield.calculator.ForceModelCalculator("FOLDER")`.
The weights are safetensors, the settings JSON; loading runs no code from the files.

## Licence

{markdown_text(content["licence"])}

```json
{json.dumps(content["settings"], indent=2, sort_keys=True)}
```
"""
