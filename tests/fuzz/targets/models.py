"""Published force models, and predictions with them."""

import json

import pandas
from ase.build import bulk
from ase.io import write

from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.fuzz.targets.registry import target
from tests.fuzz.targets.supercells import displaced


def published_model(folder):
    from phonoscreen.forcefield.models.files import save_model
    from phonoscreen.forcefield.models.registry import create_model
    from phonoscreen.forcefield.publish import publish_model
    from tests.forcefield_crystals import SETTINGS

    members = []
    for number in range(2):
        model = create_model({**SETTINGS, "kind": "equivariant", "hidden": [4], "channels": 2}, number)
        members.append((folder / f"{number}.safetensors", folder / f"{number}.json"))
        save_model(model, *members[-1], elements=[11, 17], label_engine="model", label_model="x", round=0)
    table = pandas.DataFrame({"split": [], "n_supercells": [], "n_environments": []})
    targets = [folder / f"member{number}.safetensors" for number in range(2)]
    publish_model(
        members, targets, folder / "model.json", folder / "card.md", dataset=table, dataset_path=members[0][1],
        validation=pandas.DataFrame({"status": []}), code="0", licence="CC-BY-4.0",
    )  # fmt: skip
    for path in [*sum(members, ()), folder / "card.md"]:
        path.unlink()


def loaded_model(folder):
    from phonoscreen.forcefield.neighbourhoods import atoms_neighbourhoods
    from phonoscreen.forcefield.publish import load_published

    committee, content = load_published(folder, "cpu")
    forces = committee.forces(atoms_neighbourhoods(bulk("NaCl", "rocksalt", a=5.6), committee.cutoff_angstrom))
    return forces, content


MODEL_MUTATIONS = {"model.json": mutate_json, "member0.safetensors": mutate_bytes, "member1.safetensors": None}


@target(published_model, mutations=MODEL_MUTATIONS)
def model(folder):
    return loaded_model(folder)


@target(published_model, mutations=MODEL_MUTATIONS)
def model_sealed_again(folder):
    """Altered by somebody who wrote the hashes anew."""
    from phonoscreen.audit.provenance import file_sha256
    from phonoscreen.forcefield.models.model_json import write_model_json

    try:
        content = json.loads((folder / "model.json").read_bytes())
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        if isinstance(content.get("members_sha256"), dict):
            content["members_sha256"]["member0.safetensors"] = file_sha256(folder / "member0.safetensors")
        write_model_json(content, folder / "model.json")
    return loaded_model(folder)


def prediction_files(folder):
    published_model(folder)
    write(folder / "in.extxyz", [bulk("NaCl", "rocksalt", a=5.6), displaced(3, 1)])


@target(
    prediction_files,
    mutations={"model.json": None, "member0.safetensors": None, "member1.safetensors": None},
)
def prediction(folder):
    from ase.io import read

    from phonoscreen.forcefield.predict import predict_files

    good, bad = predict_files([folder / "in.extxyz"], folder, folder / "out.extxyz", device="cpu")
    records = pandas.read_csv(folder / "out.extxyz.records.csv")
    assert len(records) == good + bad and (records.status == "ok").sum() == good
    return [atoms.get_forces() for atoms in read(folder / "out.extxyz", index=":")] if good else []
