"""How much the thermal conductivity still changes with the next larger supercell."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shard import Outcome
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.basis import read_basis
from phonoscreen.force_constants.settings import OrderSettings
from phonoscreen.phonons.dipoles import check_charges
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.stages.refit import fit_task
from phonoscreen.stages.transport import solve_structure
from phonoscreen.structures.own_charges import OwnCharges
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.supercells import build_supercell, displaced_supercell, random_displacements
from phonoscreen.structures.third_order_reach import ThirdOrderReach

if TYPE_CHECKING:
    import pandas
    from ase import Atoms

    from phonoscreen.force_constants.settings import SupercellSettings
    from phonoscreen.reference.base import Engine
    from phonoscreen.structures.relaxation import RelaxingEngine

LOOKED_UP = (
    "the reference looks its forces up, or has them calculated elsewhere, so that no larger supercell has any; a "
    "reference.engine that calculates here (a DFT code with reference.mode run, sevennet, nequix) makes this check"
)
LONGER_ANGSTROM = 0.01
"""Supercell vectors of the larger supercell must exceed those of the study's own by at least this."""


def small_structures(manifest: "pandas.DataFrame", seed: int, count: int = 2) -> list[str]:
    """Return ids of structures for the check, of different classes as far as there are any, small cells first.

    Parameters
    ----------
    manifest : DataFrame with ``structure_id, prototype, n_atoms``
    seed : the study's seed; it draws among structures of the same size
    count : structures wanted
    """
    listed: Any = manifest.itertuples()
    drawn = sorted(
        (int(row.n_atoms), derive_seed(seed, row.structure_id, "supercell check"), row.structure_id, row.prototype)
        for row in listed
    )
    firsts = {prototype: structure_id for *_, structure_id, prototype in reversed(drawn)}
    order = [name for *_, name, prototype in drawn if firsts[prototype] == name]
    return (order + [name for *_, name, _ in drawn if name not in order])[:count]


def not_possible(engine: "Engine") -> Outcome | None:
    """Return why an engine cannot make this check, None where it can."""
    return None if getattr(engine, "calculates", True) else Outcome(status="skipped", reason=LOOKED_UP)


def relaxed_primitive(
    structures: "Mapping[str, Atoms]",
    structure_id: str,
    engine: "RelaxingEngine",
    limits: dict,
    tolerance_angstrom: float,
) -> "Atoms":
    """Return the relaxed primitive cell of a candidate, ase.Atoms.

    Parameters
    ----------
    structures : dict of ase.Atoms by structure id
    structure_id : str
    engine : see ``phonoscreen.reference.registry``
    limits : section ``relax`` of the settings
    tolerance_angstrom : for the symmetry search

    Raises
    ------
    StudyError
        If there is no such candidate, or it does not relax.
    """
    where = f"{structure_id}, stage check_supercells"
    if structure_id not in structures:
        raise StudyError("not among the candidates", where=where, fix="correct supercell_check.structures")
    relaxed = relax_structure(structures[structure_id], engine, structure_id, limits, tolerance_angstrom)
    if relaxed.status != "ok":
        raise StudyError(f"not relaxed: {relaxed.reason}", where=where, fix="raise relax.steps_max", blame="settings")
    return read_atoms(relaxed.arrays)


def compare_supercells(
    atoms: "Atoms",
    structure_id: str,
    engine: "Engine",
    supercell: "SupercellSettings",
    force_constants: dict,
    transport: dict,
    displacement_angstrom: float,
    seed: int,
    reach: ThirdOrderReach,
    charges: OwnCharges,
) -> Outcome:
    """Solve a structure with the study's supercell and with the next larger one, both on reference forces.

    Parameters
    ----------
    atoms : relaxed primitive cell, ase.Atoms
    structure_id : str
    engine : see ``phonoscreen.reference.registry``
    supercell : ``SupercellSettings`` of the study
    force_constants, transport : sections of the settings
    displacement_angstrom : displacement of every atom
    seed : the study's seed
    reach : of the third order by structure type
    charges : of the study, where it has a stage for them

    Returns
    -------
    Outcome whose values give, for both supercells, repetitions, atoms and conductivities in W/m/K, and the relative
    change of the larger supercell
    """
    crystal = Crystal.from_ase(atoms)
    values, settings = {}, supercell
    for name in ("study", "larger"):
        assigned, kappa = _solve(
            atoms, crystal, structure_id, engine, settings, force_constants, transport, displacement_angstrom, seed,
            reach, charges,
        )  # fmt: skip
        values[f"repetitions_{name}"] = assigned["repetitions"]
        values[f"n_supercell_atoms_{name}"] = assigned["n_supercell_atoms"]
        values[f"n_supercells_{name}"] = assigned["n_reference"]
        values[f"kappa_p_rta_{name}_w_per_m_k"] = kappa["kappa_p_rta_w_per_m_k"]
        values[f"kappa_p_{name}_w_per_m_k"] = kappa["kappa_p_w_per_m_k"]
        length = assigned["supercell_length_angstrom"] + LONGER_ANGSTROM
        settings = replace(supercell, min_length_angstrom=length, max_atoms=10 * supercell.max_atoms)
    values["relative_change"] = values["kappa_p_larger_w_per_m_k"] / values["kappa_p_study_w_per_m_k"] - 1
    return Outcome(values=values)


def _solve(
    atoms,
    crystal,
    structure_id,
    engine,
    settings,
    force_constants,
    transport,
    displacement_angstrom,
    seed,
    reach,
    own_charges,
):
    """Return assignment and transport values of one supercell."""
    with h5py.File("bases", "w", driver="core", backing_store=False) as store:
        assigned = BasisAssigner(store, settings, OrderSettings.from_section(force_constants), reach).assign(crystal)
        basis = read_basis(store, assigned["basis_key"])
    repetitions = [int(n) for n in assigned["repetitions"].split()]
    perfect = build_supercell(atoms, repetitions)
    rng = numpy.random.default_rng(derive_seed(seed, structure_id, "supercell check", assigned["repetitions"]))
    moves = random_displacements(assigned["n_reference"], len(perfect), displacement_angstrom, rng)
    forces = [engine.forces(displaced_supercell(perfect, move), structure_id)[1] for move in moves]
    residual = engine.forces(perfect, structure_id)[1]
    charges = engine.charges(atoms, structure_id) if hasattr(engine, "charges") else None
    charges = own_charges.of(structure_id, charges)
    if charges is not None:
        charges = check_charges(crystal, *charges)
    samples = {"displacements": moves, "forces": numpy.array(forces), "residual_forces": residual, "charges": charges}
    task = fit_task(crystal, basis, samples, force_constants, transport)
    outcome = solve_structure(task, transport)
    if outcome.status != "ok":  # a number that did not converge is no number to compare
        raise StudyError(f"supercell {assigned['repetitions']}: {outcome.reason}", where="stage check_supercells")
    return assigned, outcome.values
