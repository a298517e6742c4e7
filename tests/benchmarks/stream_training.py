"""Train on a data set of any size and watch the memory: ``python -m tests.benchmarks.stream_training``.

The compounds and their forces are synthetic (springs between neighbours of random compounds): only the amount counts.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import h5py
import numpy
import torch

from phonoscreen.forcefield import training as training_module
from phonoscreen.forcefield.elements import SYMBOLS
from phonoscreen.forcefield.training import train_member
from phonoscreen.workflow.inputs import model_settings
from phonoscreen.workflow.settings.study import Study

ATOMS = 54


def write_dataset(path, n_environments, seed=0):
    """Write rocksalt-like compounds of random elements with random displacements and harmonic forces.

    One structure for every 100 supercells, one of 50 structures held out; written supercell by supercell.
    """
    rng = numpy.random.default_rng(seed)
    elements = sorted(SYMBOLS)
    with h5py.File(path, "w") as store:
        left, number = -(-n_environments // ATOMS), 0
        while left > 0:
            count = min(100, left)
            group = store.create_group(f"compound-{number:05d}")
            constant = rng.uniform(5.0, 6.5)
            group["cell"] = constant / 2 * (1 - numpy.eye(3))
            group["scaled_positions"], group["repetitions"] = [[0, 0, 0], [0.5, 0.5, 0.5]], [3, 3, 3]
            group["numbers"] = rng.choice(elements, 2, replace=False)
            moves = rng.normal(size=(count, ATOMS, 3))
            moves *= 0.03 / numpy.linalg.norm(moves, axis=-1, keepdims=True)
            forces = -rng.uniform(2.0, 8.0) * (moves - moves.mean(axis=1, keepdims=True))
            group["displacements"], group["forces"] = moves, forces
            group.attrs["split"] = "held_out" if number % 50 == 1 else "training"
            group.attrs["weight"], group.attrs["displacement_max_angstrom"] = 1.0, 0.03
            group.attrs["force_rms_ev_per_angstrom"] = numpy.sqrt((forces**2).mean())
            left, number = left - count, number + 1
        store.attrs["engine"], store.attrs["model"] = "synthetic", "springs"


def peak_memory_mib():
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stream(n_environments, cache_mib, kind):
    """Train one epoch on a synthetic data set; return what it took."""
    torch.set_num_threads(1)
    training_module.CACHE_BYTES = int(cache_mib * 2**20)
    study = Study().model_dump()
    settings = {**model_settings({**study["force_model"], "kind": kind}), "cutoff_angstrom": 5.0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.h5"
        write_dataset(path, n_environments)
        size, before, begin = path.stat().st_size / 2**20, peak_memory_mib(), time.perf_counter()
        _, history = train_member(
            path, settings, {**study["training"], "epochs": 1}, seed=0, member=0, round_number=0, device="cpu"
        )
    return {
        "environments": n_environments,
        "file_mib": round(size),
        "cache_mib": cache_mib,
        "peak_memory_before_training_mib": round(before),
        "peak_memory_mib": round(peak_memory_mib()),
        "environments_per_second": round(history.environments_per_second.iloc[0]),
        "seconds": round(time.perf_counter() - begin),
    }


def main():
    """Print what one epoch took, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--environments", type=int, default=10_000_000)
    parser.add_argument("--cache-mib", type=float, default=256)
    parser.add_argument("--kind", default="equivariant", choices=["equivariant", "elemental_sdnnff"])
    arguments = parser.parse_args()
    print(json.dumps(stream(arguments.environments, arguments.cache_mib, arguments.kind)))


if __name__ == "__main__":
    main()
