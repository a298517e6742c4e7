"""What one structure leaves the transport stage with."""

import dataclasses

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.transport.convergence import convergence
from phonoscreen.transport.solve import Settings, solve
from phonoscreen.transport.stage import choose_solver, solve_structure
from tests.transport_models import rocksalt

TRANSPORT = {"solver": "native", "temperature_k": 300, "mesh_density_angstrom": 20, "scalebroad": 1.0, "isotopes": True,
             "iterations_max": 500, "iterations_tolerance": 1e-5}  # fmt: skip


@pytest.fixture(scope="module")
def cubic():
    return rocksalt()


def test_solved_structure_has_modes_that_sum_to_its_conductivities(cubic):
    outcome = solve_structure(*cubic, TRANSPORT)
    assert outcome.status == "ok" and outcome.values["mesh"] == "7 7 7"
    for name in ("kappa_p", "kappa_c"):
        assert outcome.arrays[f"{name}_modes"].sum() == pytest.approx(outcome.values[f"{name}_w_per_m_k"], rel=1e-9)
    assert outcome.arrays["weights"].sum() == 343
    assert outcome.values["msd_max_angstrom2"] == outcome.arrays["msd_angstrom2"].max()
    assert outcome.values["msd_max_element"] == "Mg"
    assert 0 < outcome.values["heat_capacity_j_per_mol_k"] < 3 * 8.3145


def test_unstable_and_unconverged_structures_are_recorded(cubic):
    crystal, second, third = cubic
    unstable = solve_structure(crystal, dataclasses.replace(second, values=-second.values), third, TRANSPORT)
    assert unstable.status == "unstable" and "imaginary" in unstable.reason
    hasty = solve_structure(crystal, second, third, {**TRANSPORT, "iterations_max": 1, "iterations_tolerance": 1e-12})
    assert hasty.status == "not_converged" and "1 steps" in hasty.reason


def test_committee_spread_is_that_of_its_members(cubic):
    crystal, second, third = cubic
    members = [(second, dataclasses.replace(third, values=third.values * s)) for s in (0.9, 1.0, 1.1)]
    outcome = solve_structure(crystal, second, third, {**TRANSPORT, "isotopes": False}, members)
    kappa = outcome.values["kappa_p_rta_w_per_m_k"]  # rates go with the square of the third order
    expected = numpy.std([kappa / s**2 for s in (0.9, 1.0, 1.1)], ddof=1)
    assert outcome.values["kappa_p_rta_std_w_per_m_k"] == pytest.approx(expected, rel=1e-6)
    assert outcome.values["msd_max_std_angstrom2"] == pytest.approx(0, abs=1e-12)


def test_unknown_solver_and_too_little_memory_are_refused(cubic):
    with pytest.raises(StudyError, match="none of native"):
        choose_solver("magic")
    with pytest.raises(StudyError, match="GiB"):
        solve(*cubic, (7, 7, 7), Settings(memory_gib=1e-4))


def test_convergence_varies_one_setting_at_a_time(cubic):
    rows = convergence(*cubic, Settings(), 14, densities=[14, 20], scalebroads=[0.5])
    assert [(row["varied"], row["mesh"]) for row in rows] == [
        ("mesh_density_angstrom", "5 5 5"), ("mesh_density_angstrom", "7 7 7"), ("scalebroad", "5 5 5"),
    ]  # fmt: skip
    assert len({row["kappa_p_w_per_m_k"] for row in rows}) == 3
