"""Time of forces per atom against universal potentials, and of training, in one run (``make benchmark-forces``).

Identical displaced supercells for all. Wall seconds, best of several repeats, with the threads given (``--threads 2``);
neighbour lists included. Our models predict ten displacements of a supercell at a time, as the stage
``predict_forces`` does; the universal potentials one after another, as the stage ``label_forces`` does (on a CPU their
batches are no faster). Weights are random: speed does not depend on them.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy
import pandas
import torch
from ase import Atoms

from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.models.registry import create_model
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.forcefield.training import train_member
from phonoscreen.reference.potentials import make_baseline
from phonoscreen.workflow.experiment import experiment_model
from phonoscreen.workflow.settings.experiment import ExperimentStudy
from tests import prototype_crystals as prototypes
from tests.benchmarks.stream_training import write_dataset
from tests.forcefield_crystals import random_moves

CASES = {
    "rocksalt": (prototypes.rocksalt, (3, 3, 3)),
    "half-Heusler": (prototypes.half_heusler, (3, 3, 3)),
    "full Heusler": (prototypes.full_heusler, (3, 3, 3)),
    "perovskite": (prototypes.perovskite, (3, 3, 3)),
    "elpasolite": (prototypes.elpasolite, (2, 2, 2)),
}
DISPLACEMENTS = 10
POTENTIALS = ("chgnet", "7net-0", "7net-l3i5")
TRAINING_ENVIRONMENTS = 20_000


def models(config):
    """Return the two kinds of model, settings of the experiment, as lists of five members with random weights."""
    result = {}
    for name in config["experiment"]["models"]:
        settings = experiment_model(config, name)["force_model"]
        result[name] = [create_model(settings, seed) for seed in range(5)]
    return result


def samples(cutoff_angstrom):
    """Neighbourhoods of one displaced supercell of each case with some forces, for the scales of the models."""
    result = []
    for make, repetitions in CASES.values():
        cells = supercells(make(), repetitions)
        neighbourhoods = cells.neighbours(cutoff_angstrom).displaced(cells.displacements[0])
        result.append((neighbourhoods, -3.0 * cells.displacements[0]))
    return result


def supercells(crystal, repetitions):
    """Return the displaced supercells of a case."""
    n_atoms = len(crystal.numbers) * int(numpy.prod(repetitions))
    return Supercells(crystal, numpy.array(repetitions), random_moves(DISPLACEMENTS, n_atoms, 1))


def fastest(function, arguments):
    """Least wall seconds of calls with one argument each; the first is not counted."""
    times = []
    for argument in arguments:
        begin = time.perf_counter()
        function(argument)
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def time_forces(config, threads):
    """Return microseconds per atom for every case and model."""
    torch.set_num_threads(threads)
    committees = {}
    for name, members in models(config).items():
        data = samples(members[0].cutoff_angstrom)
        for member in members:
            member.calibrate(data, 0)
            member.eval()
        committees |= {name: Committee(members[:1]), f"{name}, committee of five": Committee(members)}
    engines = {name: make_baseline(name, threads) for name in POTENTIALS}
    rows = []
    for case, (make, repetitions) in CASES.items():
        cells = supercells(make(), repetitions)
        row = {"crystal": case, "atoms": cells.n_atoms}
        crystal = Atoms(
            numbers=cells.crystal.numbers, cell=cells.crystal.cell, scaled_positions=cells.crystal.scaled_positions,
            pbc=True,
        )  # fmt: skip
        for name, committee in committees.items():
            seconds = fastest(committee.supercell_forces, [cells] * 5)
            row[name] = 1e6 * seconds / (DISPLACEMENTS * cells.n_atoms)
        for name, engine in engines.items():
            moved = [crystal.repeat(repetitions) for _ in range(4)]
            for atoms, displacement in zip(moved, cells.displacements):
                atoms.positions += displacement  # each new: the calculators remember the last structure
            row[name] = 1e6 * fastest(engine.forces, moved) / cells.n_atoms
        rows.append(row)
    return pandas.DataFrame(rows)


def time_training(config, threads):
    """Return environments per second of the second epoch, for both kinds of model."""
    torch.set_num_threads(threads)
    speeds = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.h5"
        write_dataset(path, TRAINING_ENVIRONMENTS)
        for name in config["experiment"]["models"]:
            model = experiment_model(config, name)
            settings, training = model["force_model"], {**model["training"], "epochs": 2}
            _, history = train_member(path, settings, training, seed=0, member=0, round_number=0, device="cpu")
            speeds[name] = history.environments_per_second.iloc[-1]
    return speeds


def main():
    """Print the table, the ratios, and the speed of training."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    config = ExperimentStudy().model_dump()
    table = time_forces(config, threads)
    print(f"Microseconds per atom, {threads} threads")
    print(table.to_string(index=False, float_format="{:.1f}".format))
    ours = [name for name in table.columns[2:] if name not in POTENTIALS]
    for rival in POTENTIALS:
        ratios = table[ours].rdiv(table[rival], axis=0)
        print(f"\nTimes faster than {rival}")
        print(pandas.concat([table.crystal, ratios], axis=1).to_string(index=False, float_format="{:.0f}".format))
    for name, speed in time_training(config, threads).items():
        print(f"\nTraining, {name}: {speed:.0f} environments per second")


if __name__ == "__main__":
    main()
