"""Bad input of a fit: a clear error that names the remedy, never a silent fit."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.cutoffs import check_cutoff, cutoff_of_shells, neighbour_shells
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings, OrderSettings
from tests import prototype_crystals as prototypes
from tests.test_lattice_fit import model_forces, random_displacements

N_SUPERCELLS = 12


@pytest.fixture(scope="module")
def good():
    """Half-Heusler whose forces also hold a little of what the basis cannot describe."""
    crystal = prototypes.half_heusler()
    basis = build_basis(crystal, (2, 2, 2), (None, 3.0))
    rng = numpy.random.default_rng(7)
    displacements = random_displacements(basis, N_SUPERCELLS)
    forces = model_forces(basis, rng.normal(size=basis.n_free), displacements)
    forces += 0.03 * forces.std() * rng.normal(size=forces.shape)
    return crystal, basis, ForceConstantFitter(basis), displacements, forces


def spoil(displacements, forces, how):
    displacements, forces = displacements.copy(), forces.copy()
    if how == "force components are not finite":
        forces[1, 4, 2] = numpy.nan
    elif how == "displacement components are not finite":
        displacements[1, 4, 2] = numpy.inf
    elif how == "nothing is displaced":
        displacements[2] = 0.0
    elif how == "given twice":
        displacements[3], forces[3] = displacements[0], forces[0]
    elif how == "shape":
        displacements, forces = displacements[:, :-1], forces[:, :-1]
    elif how == "one force for every":
        forces = forces[:-1]
    elif how == "explains nothing":
        forces = forces[:, numpy.random.default_rng(0).permutation(forces.shape[1])]
    elif how == "all forces vanish":
        forces[:] = 0.0
    elif how == r"on atoms \[1, 4\] stand out":  # two atoms in the other order, in every supercell
        forces[:, [1, 4]] = forces[:, [4, 1]]
    elif how == r"in supercells \[5\]":  # one supercell of another calculation
        forces[5] = numpy.roll(forces[5], 3, axis=0)
    elif how == r"in supercells \[2\]":  # one force of a run that did not converge
        forces[2, 7] += 5 * forces.std()
    elif how == "determine fewer|do not act":
        displacements[:, :, 1:] = 0.0
        displacements[:, 1:] = 0.0
        displacements[:, 0, 0] = 0.01 * numpy.arange(1, len(displacements) + 1)
    return displacements, forces


@pytest.mark.parametrize(
    "how",
    ["force components are not finite", "displacement components are not finite", "nothing is displaced", "given twice",
     "shape", "one force for every", "explains nothing", "all forces vanish", r"on atoms \[1, 4\] stand out",
     r"in supercells \[5\]", r"in supercells \[2\]", "determine fewer|do not act"],
)  # fmt: skip
def test_bad_input_is_refused_with_a_remedy(good, how):
    crystal, _, fitter, displacements, forces = good
    fitter.fit(crystal, displacements, forces)
    with pytest.raises(StudyError, match=how) as failure:
        fitter.fit(crystal, *spoil(displacements, forces, how))
    assert failure.value.fix


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), supercells=st.integers(1, N_SUPERCELLS), atoms=st.integers(2, 24))
def test_forces_in_another_order_are_never_fitted_silently(good, seed, supercells, atoms):
    """Any permutation of any atoms in any number of supercells: refused, or too small to spoil the fit."""
    crystal, basis, fitter, displacements, forces = good
    rng = numpy.random.default_rng(seed)
    chosen, moved = rng.choice(N_SUPERCELLS, supercells, replace=False), rng.choice(24, atoms, replace=False)
    shuffled = forces.copy()
    shuffled[numpy.ix_(chosen, moved)] = forces[numpy.ix_(chosen, rng.permutation(moved))]
    try:
        fitted = fitter.fit(crystal, displacements, shuffled)
    except StudyError as error:
        assert error.fix
    else:
        misfit = model_forces(basis, fitted.parameters, displacements) - forces
        assert numpy.sqrt((misfit**2).mean() / (forces**2).mean()) < 0.1


def test_a_noisy_force_model_is_fitted_and_its_error_reported(good):
    """Errors spread over all atoms are those of a model, however large: no mistake in the input."""
    crystal, _, fitter, displacements, forces = good
    noise = 0.5 * forces.std() * numpy.random.default_rng(3).normal(size=forces.shape)
    quality = fitter.fit(crystal, displacements, forces + noise).quality
    assert 0.3 < quality["force_error_relative"] < 0.6


@pytest.mark.parametrize("other", ["another prototype", "atoms in another order", "shifted atom"])
def test_a_crystal_that_is_not_the_basis_is_refused(good, other):
    crystal, _, fitter, displacements, forces = good
    wrong = {
        "another prototype": prototypes.half_heusler("NiTiTi"),
        "atoms in another order": Crystal(crystal.cell, crystal.scaled_positions[[1, 0, 2]], crystal.numbers,
                                          crystal.masses),
        "shifted atom": Crystal(crystal.cell, crystal.scaled_positions + [[0.01, 0, 0], [0] * 3, [0] * 3],
                                crystal.numbers, crystal.masses),
    }[other]  # fmt: skip
    with pytest.raises(StudyError, match="does not have the symmetry") as failure:
        fitter.fit(wrong, displacements, forces)
    assert failure.value.fix


@pytest.mark.parametrize("spoiled", [numpy.zeros((3, 3)), numpy.full((24, 3), numpy.nan)])
def test_wrong_residual_forces_are_refused(good, spoiled):
    crystal, _, fitter, displacements, forces = good
    with pytest.raises(StudyError, match="residual forces") as failure:
        fitter.fit(crystal, displacements, forces, residual_forces=spoiled)
    assert failure.value.fix


def test_too_few_equations_are_refused_with_the_number_that_serves():
    crystal = prototypes.half_heusler()
    basis = build_basis(crystal, (3, 3, 3), (None, 5.0))
    displacements = random_displacements(basis, 1)
    forces = model_forces(basis, numpy.ones(basis.n_free), displacements)
    with pytest.raises(StudyError, match="243 force components for 458 free force constants") as failure:
        ForceConstantFitter(basis).fit(crystal, displacements, forces)
    assert "4 times as many displaced supercells" in failure.value.fix
    with pytest.raises(StudyError, match="cross-validation needs at least two supercells"):
        ForceConstantFitter(basis, FitSettings("lasso")).fit(crystal, displacements, forces)


@pytest.mark.parametrize(
    ("cutoff", "message", "remedy"),
    [
        (5.61, "falls on the neighbour shell at 5.600", "middle of a gap"),
        (6.5, "exceeds half the supercell", "supercell of at least 13.00"),
    ],
)
def test_a_basis_refuses_cutoffs_on_a_shell_or_that_alias(cutoff, message, remedy):
    """Beyond half the supercell one atom would be several neighbours: their force constants cannot be told apart."""
    crystal = prototypes.rocksalt()
    for build in (lambda: check_cutoff(crystal, (3, 3, 3), cutoff),
                  lambda: build_basis(crystal, (3, 3, 3), (None, cutoff)),
                  lambda: build_basis(crystal, (3, 3, 3), (cutoff,)),
                  lambda: OrderSettings(4.0, fourth_cutoff_angstrom=cutoff).cutoffs(crystal, (3, 3, 3))):  # fmt: skip
        with pytest.raises(StudyError, match=message) as failure:
            build()
        assert remedy in failure.value.fix


def test_shells_that_do_not_fit_into_the_supercell_are_refused_with_the_number_that_does():
    crystal = prototypes.rocksalt()
    cutoff = cutoff_of_shells(crystal, (3, 3, 3), 3)
    shells = neighbour_shells(crystal, 6.0)
    assert cutoff.value_angstrom == pytest.approx(0.5 * (shells[2] + shells[3]))
    assert cutoff.to_shell_angstrom == pytest.approx(0.5 * (shells[3] - shells[2]))
    assert OrderSettings(5.0, third_shells=3).cutoffs(crystal, (3, 3, 3))[0] == [None, cutoff.value_angstrom]
    for n_shells in (0, 9):
        with pytest.raises(StudyError, match="do not fit into half the supercell") as failure:
            cutoff_of_shells(crystal, (3, 3, 3), n_shells)
        assert "supercell of at least" in failure.value.fix


def test_a_fourth_order_needs_a_third():
    with pytest.raises(StudyError, match="without a third"):
        OrderSettings(0.0, fourth_cutoff_angstrom=3.0).cutoffs(prototypes.rocksalt(), (3, 3, 3))


def test_a_basis_that_breaks_symmetry_would_be_seen():
    """The residual recorded with every fit is not zero by definition: it rises when a tensor is spoiled."""
    from phonoscreen.crystal.symmetry import find_symmetry
    from phonoscreen.force_constants.clusters import image_table, supercell_pairs
    from phonoscreen.force_constants.invariants import _symmetry_residual, build_order

    crystal = prototypes.rocksalt()
    symmetry, clusters = find_symmetry(crystal, (2, 2, 2)), supercell_pairs(2, (2, 2, 2))
    order = build_order(clusters, symmetry)
    assert order.symmetry_residual < 1e-12
    table, orders = image_table(clusters, symmetry)
    spoiled = order.tensors.tolil()
    spoiled[9 * 3, 0] += 0.1
    assert _symmetry_residual(spoiled.tocsr(), table, orders, symmetry.cartesian) > 1e-3
