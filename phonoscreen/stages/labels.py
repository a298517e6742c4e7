"""Labels: reference forces of displaced supercells."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import ArrayLike

from phonoscreen.audit.errors import StudyError, engine_blamed
from phonoscreen.audit.kept import digest_of_arrays
from phonoscreen.audit.shard import Outcome
from phonoscreen.structures.store import read_atoms, structure_arrays
from phonoscreen.structures.supercells import build_supercell, displaced_supercell

if TYPE_CHECKING:
    import h5py

    from phonoscreen.reference.base import Engine


def read_outputs(paths: str | Path | Sequence[str]) -> dict:
    """Return the digests of the existing outputs of each structure of a shard; none if the study reads none.

    Parameters
    ----------
    paths : the file of ``index_outputs``, or an empty list
    """
    return json.loads(Path(str(paths)).read_text()) if paths else {}


def inputs_of_labels(group: "h5py.Group", indices: ArrayLike, outputs: Any) -> str:
    """Return a digest of what the labels of a structure depend on besides settings and code.

    Parameters
    ----------
    group, indices : as in ``label_supercells``
    outputs : digests of the existing outputs of this structure, see ``read_outputs``
    """
    indices = numpy.asarray(indices, dtype=int)
    crystal = structure_arrays(read_atoms(group)).values()
    moves = group["displacements"][()][indices]
    return digest_of_arrays(*crystal, group["repetitions"][()], indices, moves, json.dumps(outputs, sort_keys=True))


def label_supercells(
    engine: "Engine", structure_id: str, group: "h5py.Group | Mapping[str, Any]", indices: ArrayLike
) -> Outcome:
    """Compute the reference forces of some supercells of a structure and of its undisplaced supercell.

    An engine with supercells of its own gives the forces of all of these.

    Parameters
    ----------
    engine : see ``phonoscreen.reference.registry``
    structure_id : str
    group : the structure's group in ``results/supercells/{shard}.h5``
    indices : (n,) indices of the supercells to label

    Returns
    -------
    Outcome with the arrays ``forces`` (n, n_atoms, 3) in eV/angstrom, ``supercell_index`` (n,), ``residual_forces``
    (n_atoms, 3) of the undisplaced supercell in eV/angstrom, ``energies_ev`` (n,), where the engine knows them
    ``born_charges`` and ``dielectric``, and the attributes ``engine, model``

    Raises
    ------
    StudyError
        If an index has no supercell or the engine fails.
    """
    if hasattr(engine, "own_supercells"):
        return _labels_of_others(engine, structure_id, group)
    indices, available = numpy.asarray(indices, dtype=int), len(group["displacements"])
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= available:
        raise StudyError(
            f"supercells {indices.tolist()} wanted, {available} exist", where=structure_id,
            fix="raise supercell.network_oversampling", blame="settings",
        )  # fmt: skip
    primitive = read_atoms(group)
    supercell = build_supercell(primitive, group["repetitions"][()])
    energies, found, seconds = [], [], []
    with engine_blamed():
        charges = engine.charges(primitive, structure_id) if hasattr(engine, "charges") else None
        _, residual_forces = engine.forces(supercell, f"{structure_id}/perfect")
        for index in indices:
            begin = time.perf_counter()
            moved = displaced_supercell(supercell, group["displacements"][index])
            energy_ev, force = engine.forces(moved, f"{structure_id}/{index}")
            energies.append(energy_ev)
            found.append(force)
            # A calculation that is taken from the finished ones took its time when it was run.
            recorded = getattr(engine, "seconds", None)
            seconds.append(time.perf_counter() - begin if recorded is None else recorded)
    forces = numpy.array(found)
    return Outcome(
        values={
            "n_supercells": len(indices),
            "n_supercell_atoms": len(supercell),
            "force_rms_ev_per_angstrom": float(numpy.sqrt((forces**2).mean())),
            "residual_force_max_ev_per_angstrom": float(numpy.linalg.norm(residual_forces, axis=1).max()),
            "seconds_per_supercell": float(numpy.mean(seconds)),
            "reference": engine.name,
        },
        arrays={
            "forces": forces,
            "supercell_index": indices,
            "residual_forces": residual_forces,
            "energies_ev": numpy.array(energies),
            **(dict(zip(("born_charges", "dielectric"), charges)) if charges else {}),
        },
        attrs={"engine": engine.kind, "model": engine.name},
    )


def _labels_of_others(engine, structure_id, group):
    """Return the labels of supercells that others calculated; they are the first of the displaced ones."""
    own = engine.own_supercells(structure_id)
    forces, moves = own["forces"], own["displacements"]
    if not numpy.array_equal(group["displacements"][: len(moves)], moves):
        raise StudyError("the force set has changed since its supercells were taken over", where=structure_id,
                         fix="run again with --forcerun relax_structures")  # fmt: skip
    residual = own.get("residual_forces")
    known = {name: own[name] for name in ("residual_forces", "born_charges", "dielectric") if name in own}
    return Outcome(
        values={
            "n_supercells": len(forces),
            "n_supercell_atoms": forces.shape[1],
            "force_rms_ev_per_angstrom": float(numpy.sqrt((forces**2).mean())),
            "residual_force_max_ev_per_angstrom": (
                numpy.nan if residual is None else float(numpy.linalg.norm(residual, axis=1).max())
            ),
            "seconds_per_supercell": numpy.nan,
            "reference": engine.name,
        },
        arrays={
            "forces": forces,
            "supercell_index": numpy.arange(len(forces)),
            "energies_ev": numpy.full(len(forces), numpy.nan),
            **known,
        },
        attrs={"engine": engine.kind, "model": engine.name},
    )
