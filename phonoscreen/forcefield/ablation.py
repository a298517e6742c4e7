"""What each choice of the force model is worth: train with changed settings, compare on held-out structures.

``python -m phonoscreen.forcefield.ablation DATASET MEMBER_JSON CHANGE...``, for example
``results/rounds/0/dataset.h5 results/rounds/0/members/0/model.json frames=1 "components_per_parity=16 frames=6"``.
"""

import argparse
import json
import time

import numpy
import pandas

from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.dataset import Dataset, Supercells
from phonoscreen.forcefield.model import read_model_json
from phonoscreen.forcefield.training import train_member


def ablate(dataset_path, settings, training, changes, *, seed=0):
    """Train one member for each change of the settings and measure it on the held-out structures.

    The held-out structures also stop the training early, so the errors are a little too good, for all alike.

    Parameters
    ----------
    dataset_path : HDF5 file of ``assemble_dataset``
    settings, training : the config sections ``force_model`` and ``training``
    changes : list of dicts; keys are settings of either section

    Returns
    -------
    pandas.DataFrame, one row per change: force RMSE over all held-out force components, in meV/angstrom, the RMS over
    structures of RMSE / RMS force, parameters, and processor seconds of the training
    """
    rows = []
    for change in changes:
        model_settings = {**settings, **{key: value for key, value in change.items() if key not in training}}
        training_settings = {**training, **{key: value for key, value in change.items() if key in training}}
        begin = time.process_time()
        model, history = train_member(
            dataset_path, model_settings, training_settings, seed=seed, member=0, round_number=0,
            device=settings["device"],
        )  # fmt: skip
        seconds = time.process_time() - begin
        absolute, relative = held_out_errors(Committee([model]), dataset_path)
        rows.append(
            {
                "change": " ".join(f"{key}={value}" for key, value in change.items()) or "none",
                "force_rmse_mev_per_angstrom": absolute,
                "force_rmse_relative": relative,
                "epochs": len(history),
                "parameters": sum(weights.numel() for weights in model.parameters()),
                "training_cpu_seconds": seconds,
            }
        )
    return pandas.DataFrame(rows)


def held_out_errors(committee, dataset_path):
    """Return force RMSE in meV/angstrom and the RMS over structures of RMSE / RMS force, on held-out structures."""
    dataset = Dataset(dataset_path, committee.cutoff_angstrom)
    squares, relative, count = 0.0, [], 0
    for structure_id in sorted({structure_id for structure_id, _ in dataset.supercells("held_out")}):
        group = dataset.store[structure_id]
        forces = group["forces"][:]
        error = ((committee.supercell_forces(Supercells.read(group)).mean(axis=0) - forces) ** 2).sum()
        squares, count = squares + error, count + forces.size
        relative.append(error / (forces**2).sum())
    return 1e3 * numpy.sqrt(squares / count), numpy.sqrt(numpy.mean(relative))


def main():
    """Print the table of the changes given on the command line; the unchanged settings come first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", help="dataset.h5 of a round")
    parser.add_argument("member", help="model.json of a member trained on it")
    parser.add_argument("changes", nargs="*", help="settings as key=value, several in one argument change together")
    arguments = parser.parse_args()
    content = read_model_json(arguments.member)
    changes = [{}] + [
        {key: json.loads(value) for key, value in (part.split("=", 1) for part in change.split())}
        for change in arguments.changes
    ]
    table = ablate(arguments.dataset, content["settings"], content["training"], changes)
    print(table.to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
