"""What one structure leaves the transport stage with."""

import dataclasses
from types import SimpleNamespace

import numpy
import pandas
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.figures.convergence import draw
from phonoscreen.stages.convergence import convergence
from phonoscreen.stages.solvers import choose_solver
from phonoscreen.stages.transport import Task, solve_structure
from phonoscreen.transport.solve import Settings, solve
from tests.transport_models import rocksalt

TRANSPORT = {"solver": "native", "temperature_k": 300, "mesh_density_angstrom": 20, "scalebroad": 1.0, "isotopes": True,
             "coherence_sum": "cell_average", "imaginary_threshold_thz": 0.1, "iterations_max": 500,
             "iterations_tolerance": 1e-5, "memory_gib": 1, "command": None, "device": "cpu",
             "non_analytic_correction": True}  # fmt: skip


@pytest.fixture(scope="module")
def cubic():
    return rocksalt()


def test_solved_structure_has_modes_that_sum_to_its_conductivities(cubic):
    outcome = solve_structure(Task(*cubic), TRANSPORT)
    assert outcome.status == "ok" and outcome.values["mesh"] == "7 7 7"
    for name in ("kappa_p", "kappa_c"):
        assert outcome.arrays[f"{name}_modes"].sum() == pytest.approx(outcome.values[f"{name}_w_per_m_k"], rel=1e-9)
    assert outcome.arrays["weights"].sum() == 343
    assert outcome.values["msd_max_angstrom2"] == outcome.arrays["msd_angstrom2"].max()
    assert outcome.values["msd_max_element"] == "Mg"
    assert 0 < outcome.values["heat_capacity_j_per_mol_k"] < 3 * 8.3145


def test_unstable_and_unconverged_structures_are_recorded(cubic):
    crystal, second, third = cubic
    unstable = solve_structure(Task(crystal, dataclasses.replace(second, values=-second.values), third), TRANSPORT)
    assert unstable.status == "unstable" and "imaginary" in unstable.reason
    hasty = solve_structure(Task(*cubic), {**TRANSPORT, "iterations_max": 1, "iterations_tolerance": 1e-12})
    assert hasty.status == "not_converged" and "1 steps" in hasty.reason


def test_committee_spread_is_that_of_its_members(cubic):
    crystal, second, third = cubic
    members = [(second, dataclasses.replace(third, values=third.values * s)) for s in (0.9, 1.0, 1.1)]
    outcome = solve_structure(Task(*cubic, members), {**TRANSPORT, "isotopes": False})
    # rates go with the square of the third order
    expected = numpy.std([-2 * numpy.log10(s) for s in (0.9, 1.0, 1.1)], ddof=1)
    assert outcome.values["kappa_p_rta_std_decades"] == pytest.approx(expected, rel=1e-6)
    assert outcome.values["msd_max_std_angstrom2"] == pytest.approx(0, abs=1e-12)
    assert outcome.values["members_solved"] == 3


def test_members_that_cannot_be_solved_are_counted_and_not_averaged(cubic):
    crystal, second, third = cubic
    unstable = (dataclasses.replace(second, values=-second.values), third)
    broken = (second, dataclasses.replace(third, values=third.values * numpy.nan))
    silent = (second, dataclasses.replace(third, values=0 * third.values))  # conducts without limit
    absurd = (second, dataclasses.replace(third, values=1e-13 * third.values))  # 1e26 times the conductivity, finite
    plain = solve_structure(Task(*cubic, [(second, third)] * 2), {**TRANSPORT, "isotopes": False})
    mixed = Task(*cubic, [(second, third), unstable, (second, third), broken, silent, absurd])
    found = solve_structure(mixed, {**TRANSPORT, "isotopes": False}).values
    assert [found[f"members_{name}"] for name in ("solved", "unstable", "failed")] == [2, 1, 3]
    for name in ("kappa_p_rta_std_decades", "kappa_c_std_decades", "msd_max_std_angstrom2"):
        assert found[name] == pytest.approx(plain.values[name], abs=1e-12)


def test_a_coarser_mesh_of_the_members_leaves_their_verdicts_and_hardly_changes_their_spread(cubic):
    crystal, second, third = cubic
    unstable = (dataclasses.replace(second, values=-second.values), third)
    members = [(second, dataclasses.replace(third, values=third.values * s)) for s in (0.9, 1.0, 1.1)] + [unstable]
    coarse = {**TRANSPORT, "isotopes": False, "committee_mesh_density_angstrom": 12}
    found = solve_structure(Task(*cubic, members), coarse).values
    expected = numpy.std([-2 * numpy.log10(s) for s in (0.9, 1.0, 1.1)], ddof=1)
    assert found["kappa_p_rta_std_decades"] == pytest.approx(expected, rel=1e-6)
    assert found["mesh"] == "7 7 7" and (found["members_solved"], found["members_unstable"]) == (3, 1)


def test_a_diverging_iteration_leaves_no_number(cubic, monkeypatch):
    """The matrix of the full solution times 20: its eigenvalues pass 1."""
    import phonoscreen.transport.solve as engine

    true = engine.iterate

    def enlarged(modes, linewidth, transfer, *arguments, **options):
        return true(modes, linewidth, 20 * transfer, *arguments, **options)

    monkeypatch.setattr(engine, "iterate", enlarged)
    outcome = solve_structure(Task(*cubic), TRANSPORT)
    assert outcome.status == "not_converged" and "diverges" in outcome.reason and "fix:" in outcome.reason
    assert outcome.values["iterations"] < 60
    assert numpy.isnan(outcome.values["kappa_p_w_per_m_k"]) and outcome.values["kappa_p_rta_w_per_m_k"] > 0
    assert numpy.isnan(outcome.arrays["kappa_p_modes"]).all()
    assert numpy.isnan(outcome.arrays["kappa_p_tensor_w_per_m_k"]).all()


def test_unknown_solver_is_refused():
    with pytest.raises(StudyError, match="native, shengbte or phono3py"):
        choose_solver({**TRANSPORT, "solver": "magic"})


def test_matrix_of_the_full_solution_beyond_the_memory_is_a_file(cubic, monkeypatch):
    in_memory, on_disk = (solve(*cubic, (7, 7, 7), Settings(memory_gib=gib)) for gib in (1, 1e-4))
    assert isinstance(on_disk.rates.transfer.base, numpy.memmap)
    assert on_disk.full[0].kappa == pytest.approx(in_memory.full[0].kappa, rel=1e-12)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StudyError, match="GiB are free"):
        solve(*cubic, (7, 7, 7), Settings(memory_gib=1e-4))


def argon():
    """Crystal, repetitions and forces of an fcc crystal of Lennard-Jones atoms."""
    atoms = bulk("Ar", "fcc", a=5.26)
    repetitions, rng = (4, 4, 4), numpy.random.default_rng(7)
    perfect = atoms.repeat(repetitions)
    displacements = rng.normal(scale=0.01, size=(8, len(perfect), 3))
    forces = []
    for moves in displacements:
        moved = perfect.copy()
        moved.positions += moves
        moved.calc = LennardJones(epsilon=0.0104, sigma=3.4, rc=7.0, smooth=True)
        forces.append(moved.get_forces())
    samples = {"displacements": displacements, "forces": numpy.array(forces), "residual_forces": None, "charges": None}
    return Crystal.from_ase(atoms), repetitions, samples


def test_convergence_varies_one_choice_at_a_time():
    crystal, repetitions, samples = argon()
    force_constants = {"method": "least_squares", "rotational_sum_rules": True, "third_cutoff_angstrom": 5.5}
    choices = {"mesh_densities_angstrom": [15, 30], "scalebroads": [0.5]}
    choices["third_cutoffs_angstrom"] = [2.0, 4.0, 5.5, 7.0]
    rows = pandas.DataFrame(
        convergence(crystal, repetitions, samples, force_constants, {**TRANSPORT, "temperature_k": 30}, choices)
    )
    assert rows.groupby("varied").size().to_dict() == {
        "mesh_density_angstrom": 3, "scalebroad": 2, "third_cutoff_angstrom": 4,
    }  # fmt: skip
    own = rows[rows["study"]]
    assert len(own) == 3 and own["kappa_p_w_per_m_k"].nunique() == 1
    refused = rows[rows["reason"] != ""]
    assert refused["value"].tolist() == [2.0] and "nearest neighbours" in refused["reason"].iloc[0]
    assert rows["kappa_p_w_per_m_k"].nunique() == 6
    # the forces reach only the first shells: beyond them the cutoff changes little
    cutoffs = rows[rows["varied"] == "third_cutoff_angstrom"].set_index("value")["kappa_p_w_per_m_k"].dropna()
    assert cutoffs.iloc[-1] == pytest.approx(cutoffs.iloc[-2], rel=0.15)
    figure, caption = draw(rows.assign(structure_id="ar", source="reference"), reference="Lennard-Jones")
    assert "highest over lowest" in caption
    figure.canvas.draw()
