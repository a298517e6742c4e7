"""Labels: reference forces of displaced supercells."""

import time

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shard import Outcome
from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.supercells import build_supercell, displaced_supercell


def label_supercells(engine, structure_id, group, indices):
    """Compute the reference forces of some supercells of a structure and of its undisplaced supercell.

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
    indices, available = numpy.asarray(indices, dtype=int), len(group["displacements"])
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= available:
        raise StudyError(
            f"supercells {indices.tolist()} wanted, {available} exist", where=structure_id,
            fix="raise supercell.network_oversampling",
        )  # fmt: skip
    primitive = read_atoms(group)
    supercell = build_supercell(primitive, group["repetitions"][()])
    charges = engine.charges(primitive, structure_id) if hasattr(engine, "charges") else None
    begin = time.perf_counter()
    _, residual_forces = engine.forces(supercell, f"{structure_id}/perfect")
    energies, forces = [], []
    for index in indices:
        moved = displaced_supercell(supercell, group["displacements"][index])
        energy_ev, force = engine.forces(moved, f"{structure_id}/{index}")
        energies.append(energy_ev)
        forces.append(force)
    forces = numpy.array(forces)
    return Outcome(
        values={
            "n_supercells": len(indices),
            "n_supercell_atoms": len(supercell),
            "force_rms_ev_per_angstrom": float(numpy.sqrt((forces**2).mean())),
            "residual_force_max_ev_per_angstrom": float(numpy.linalg.norm(residual_forces, axis=1).max()),
            "seconds_per_supercell": (time.perf_counter() - begin) / (len(indices) + 1),
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
