"""The table of a screening: one row per structure, the same columns whatever happened."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy
import pandas

if TYPE_CHECKING:
    from phonoscreen.audit.shard import Outcome

COLUMNS = {
    "structure_id": "id: name of the file, with its place in it where it holds several; formula and space group else",
    "source": "file, or formula and structure type",
    "formula": "reduced formula, electropositive elements first",
    "space_group": "symbol, of the structure as given",
    "space_group_number": "1 to 230",
    "class": "space group and formula type, such as 225-AB",
    "n_atoms": "atoms of the primitive cell",
    "status": "ok, unstable, not_converged or failed",
    "reason": "why not ok",
    "forces": "name of the model or potential, or of the folder of forces",
    "forces_digest": "sha256 of the networks (settings, weights) of the model, empty for potentials and forces on disk",
    "relaxed": "whether cell and free coordinates were relaxed",
    "lattice_constant_angstrom": "of the relaxed conventional cube; empty unless cubic",
    "volume_angstrom3": "of the relaxed primitive cell",
    "verdict": "stable, unstable, or uncertain: only interpolated frequencies are imaginary",
    "frequency_min_thz": "lowest frequency away from Γ, imaginary ones negative",
    "frequency_min_std_thz": "its standard deviation over the members",
    "frequency_max_thz": "highest frequency",
    "frequency_std_thz": "root mean square of the standard deviation of all frequencies over the members",
    "temperature_k": "temperature of all properties",
    "heat_capacity_j_per_mol_k": "at constant volume, per mole of atoms",
    "heat_capacity_std_j_per_mol_k": "its standard deviation over the members",
    "heat_capacity_j_per_m3_k": "the same per volume",
    "sound_velocity_m_per_s": "Debye mean over directions and branches",
    "sound_velocity_std_m_per_s": "its standard deviation over the members",
    "p3_total_ps": "three-phonon scattering phase space, as ShengBTE counts it",
    "p3_total_std_decades": "standard deviation of its log10 over the members",
    "msd_max_angstrom2": "largest mean square displacement of an atom, sum over the three directions",
    "msd_max_std_angstrom2": "its standard deviation over the members",
    "msd_max_element": "element of that atom",
    "msd_by_element_angstrom2": "mean over the atoms of each element, such as Na 0.0512 Cl 0.0401",
    "kappa_p_rta_w_per_m_k": "particle-like conductivity in the relaxation-time approximation",
    "kappa_p_w_per_m_k": "particle-like conductivity, full solution",
    "kappa_c_w_per_m_k": "wave-like conductivity (coherences)",
    "kappa_p_rta_std_decades": "standard deviation of log10 of the relaxation-time conductivity over the members",
    "kappa_p_error_decades": "the same times the calibration factor: expected error of log10 of the conductivity",
    "kappa_c_std_decades": "standard deviation of log10 of the wave-like conductivity over the members",
    "calibrated": "whether the model's publication holds the calibration factor; else the factor is 1",
    "members": "members of the committee; 0 for forces of one source",
    "members_stable": "members with real frequencies at the wave vectors of the supercell",
    "members_solved": "members that the standard deviations of the conductivities are of",
    "kappa_p_mesh_error_percent": "estimated deviation from the limit of dense meshes",
    "kappa_c_mesh_error_percent": "the same of the wave-like conductivity",
    "mesh": "wave vectors along the reciprocal vectors",
    "iterations": "steps of the full solution",
    "repetitions": "supercell of the force constants",
    "n_supercell_atoms": "its atoms",
    "n_supercells": "displaced supercells",
    "third_cutoff_angstrom": "reach of the third order",
    "force_rms_mev_per_angstrom": "root mean square of the forces on the displaced supercells",
    "force_error_relative_held_out": "error of the fit on supercells it has not seen, relative to the forces",
    "epsilon_max_mev_per_angstrom": "largest disagreement of the members about the force on an atom",
    "elements_not_trained": "elements that the model has not seen in training",
    "rotational_sum_rules": "whether the force constants obey them",
    "warnings": "of the fit",
    "relaxation_steps": "evaluations of the forces in the relaxation",
    "relaxation_seconds": "processor time of the relaxation",
    "force_seconds": "processor time of the forces on the displaced supercells",
    "seconds": "processor time of the whole structure",
}  # fmt: skip
"""Column -> meaning, in the order of the file."""

SPREAD = "kappa_p_rta_std_decades"
TEXTS = {
    "structure_id", "source", "formula", "space_group", "class", "status", "reason", "forces", "forces_digest",
    "verdict", "msd_max_element", "msd_by_element_angstrom2", "mesh", "repetitions", "elements_not_trained", "warnings",
}  # fmt: skip
COUNTS = {
    "space_group_number", "n_atoms", "members", "members_stable", "members_solved", "iterations", "n_supercell_atoms",
    "n_supercells", "relaxation_steps",
}  # fmt: skip
SWITCHES = {"relaxed", "calibrated", "rotational_sum_rules"}


def row_of(values: Mapping[str, Any], outcome: "Outcome", calibration: Mapping[str, float]) -> dict[str, Any]:
    """Return the row of a structure as JSON keeps it; what is not known is None.

    Parameters
    ----------
    values : dict of what is known; other names than those of ``COLUMNS`` are an error
    outcome : Outcome of the last stage
    calibration : dict from a column of a spread to the factor that makes it an error bar
    """
    unknown = set(values) - set(COLUMNS)
    if unknown:
        raise ValueError(f"no columns of the table: {sorted(unknown)}")
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {name: _plain(value) for name, value in values.items()}
    return with_error({**row, "status": outcome.status, "reason": outcome.reason}, calibration)


def with_error(row: Mapping[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
    """Return a row with the expected error of the conductivity that a calibration makes of its spread.

    Parameters
    ----------
    row : with the column ``SPREAD``, None where it is not known
    calibration : dict from a column of a spread to the factor that makes it an error bar
    """
    spread = row[SPREAD]
    error = None if spread is None else calibration.get(SPREAD, 1.0) * spread
    return {**row, "kappa_p_error_decades": error, "calibrated": SPREAD in calibration}


def _plain(value):
    """Return a value that JSON keeps; numbers that are not finite are unknown."""
    if isinstance(value, numpy.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_of(rows: Sequence[dict]) -> pandas.DataFrame:
    """Return the table of rows, every column in its type whatever is unknown."""
    table = pandas.DataFrame(rows, columns=list(COLUMNS))
    types = {
        name: "string" if name in TEXTS else "Int64" if name in COUNTS else "boolean" if name in SWITCHES else "float64"
        for name in COLUMNS
    }
    return table.astype(types)
