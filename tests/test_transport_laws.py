"""Laws of phonon heat transport on crystals with exactly known force constants."""

import dataclasses
import itertools

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.mesh import automatic_mesh, build_mesh
from phonoscreen.phonons import thermal
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, acoustic_at_gamma, average_over_sets
from phonoscreen.phonons.modes import UnstableCrystal, broadening_steps, solve_mesh_modes
from phonoscreen.transport import kernels
from phonoscreen.transport.boltzmann import iterate, relaxation_time, symmetrise, velocity_products
from phonoscreen.transport.coherence import coherence_conductivity
from phonoscreen.transport.isotopes import isotope_rates, mass_variances
from phonoscreen.transport.scattering import pairs_of, three_phonon_rates
from phonoscreen.transport.solve import Settings, solve
from tests.transport_models import hexagonal, rocksalt

T = 300.0
TETRAGONAL = (1.0, 1.0, 1.1)


@pytest.fixture(scope="module")
def cubic():
    return rocksalt()


@pytest.fixture(scope="module")
def solved(cubic):
    return solve(*cubic, (6, 6, 6), Settings(tolerance=1e-9))


def kappas(solution):
    return numpy.array([solution.rta[0].kappa, solution.full[0].kappa, solution.coherence[0]])


def test_rates_equal_a_direct_sum_over_all_processes(cubic):
    """Every ordered pair of wave vectors, matrix elements from the list of triplets, no symmetry, no shared work."""
    crystal, second, third = cubic
    mesh = build_mesh(crystal, (3, 3, 3))
    modes = solve_mesh_modes(DynamicalMatrix(crystal, second), mesh)
    rates = three_phonon_rates(crystal, third, modes, [T])
    omega, rows, q = modes.mesh_omega, modes.eigenvectors, mesh.fractional
    steps = broadening_steps(modes, 1.0)
    n = units.bose(omega, T)
    masses = numpy.asarray(crystal.masses)[third.atoms].prod(axis=1)
    for k, point in enumerate(mesh.irreducible):
        absorbed, emitted = numpy.zeros(6), numpy.zeros(6)
        for i in range(len(q)):
            j = mesh.index(-mesh.points[point] - mesh.points[i])
            assert numpy.allclose((q[point] + q[i] + q[j]) % 1.0 % 1.0, 0, atol=1e-9) or numpy.allclose(
                numpy.rint(q[point] + q[i] + q[j]), q[point] + q[i] + q[j], atol=1e-9
            )
            phase = numpy.exp(2j * numpy.pi * (third.cells[:, 0] @ q[i] + third.cells[:, 1] @ q[j]))
            tensor = numpy.zeros((2, 3, 2, 3, 2, 3), complex)
            weighted = third.values * (phase / numpy.sqrt(masses))[:, None, None, None]
            a, b, c = third.atoms.T
            numpy.add.at(tensor, (a, slice(None), b, slice(None), c, slice(None)), weighted)
            element = numpy.einsum("abc,sa,tb,uc->stu", tensor.reshape(6, 6, 6), rows[point], rows[i], rows[j])
            w, w1, w2 = omega[point][:, None, None], omega[i][None, :, None], omega[j][None, None, :]
            n1, n2 = n[i][None, :, None], n[j][None, None, :]
            with numpy.errstate(divide="ignore", invalid="ignore"):
                strength = numpy.abs(element) ** 2 / (w * w1 * w2) * units.THREE_PHONON_RATE * numpy.pi / 4 / len(q)
                strength = numpy.where((w > 0) & (w1 > 0) & (w2 > 0), strength, 0.0)
            plus = numpy.linalg.norm(steps[i][:, None] + steps[j][None, :], axis=2)[None]
            minus = numpy.linalg.norm(steps[i][:, None] - steps[j][None, :], axis=2)[None]

            def gauss(x, width):
                with numpy.errstate(divide="ignore", invalid="ignore"):
                    value = numpy.exp(-((x / width) ** 2)) / width / numpy.sqrt(numpy.pi)
                return numpy.where((numpy.abs(x) <= 2 * width) & (width > 0), value, 0.0)

            absorbed += (strength * (n1 - n2) * gauss(w + w1 - w2, plus)).sum(axis=(1, 2))
            emitted += (strength * (1 + n1 + n2) * gauss(w - w1 - w2, minus)).sum(axis=(1, 2)) / 2
        sets = modes.sets[k : k + 1]
        for mine, direct in ((rates.absorption[0], absorbed), (rates.emission[0], emitted)):
            expected = average_over_sets(direct[None], sets)
            assert average_over_sets(mine[k : k + 1], sets) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_pairs_conserve_momentum_and_count_every_wave_vector(cubic):
    mesh = build_mesh(cubic[0], (5, 5, 5))
    for point in mesh.irreducible:
        first, second, counts = pairs_of(mesh, point)
        assert counts.sum() == len(mesh.points)
        total = mesh.points[point] + mesh.points[first] + mesh.points[second]
        assert (total % mesh.shape == 0).all()


def test_stars_tile_the_mesh(cubic):
    mesh = build_mesh(cubic[0], (6, 6, 6))
    assert mesh.weights.sum() == len(mesh.points)
    reached = mesh.images[mesh.operation, mesh.irreducible[mesh.star]]
    assert (reached == numpy.arange(len(mesh.points))).all()


def full_mesh(cubic, shape):
    """Modes, rates and linewidths without any use of symmetry but the broadening's."""
    crystal, second, third = cubic
    matrix = DynamicalMatrix(crystal, second)
    symmetric = solve_mesh_modes(matrix, build_mesh(crystal, shape))
    modes = solve_mesh_modes(matrix, build_mesh(crystal, shape, symmetry=False))
    modes = dataclasses.replace(modes, steps=symmetric.steps, cells=symmetric.cells)
    rates = three_phonon_rates(crystal, third, modes, [T])
    linewidth = average_over_sets(rates.absorption[0] + rates.emission[0], modes.sets)
    return modes, rates, linewidth


@pytest.mark.parametrize(("make", "shape"), [(rocksalt, (5, 5, 5)), (hexagonal, (4, 4, 3))])
def test_irreducible_and_full_mesh_agree(make, shape):
    model = make()
    volume = model[0].volume
    modes, rates, linewidth = full_mesh(model, shape)
    products = velocity_products(modes)
    wedge = solve(*model, shape, Settings(tolerance=1e-9, isotopes=False))
    full = iterate(modes, linewidth, rates.transfer[0], products, volume, T, tolerance=1e-9)
    assert full.kappa == pytest.approx(wedge.full[0].kappa, rel=1e-6, abs=1e-8)
    assert relaxation_time(modes, linewidth, products, volume, T).kappa == pytest.approx(
        wedge.rta[0].kappa, rel=1e-9, abs=1e-9
    )
    coherence, parts = coherence_conductivity(modes, linewidth, volume, T)
    assert parts.sum() == pytest.approx(wedge.coherence_modes[0].sum(), rel=1e-7)
    coherence = symmetrise(coherence, wedge.modes.mesh)  # the quadrature prefers one of several equivalent edges
    assert coherence == pytest.approx(wedge.coherence[0], rel=1e-7, abs=1e-9)
    bare = coherence_conductivity(modes, linewidth, volume, T, sum_over="bare")[0]
    expected = coherence_conductivity(wedge.modes, wedge.linewidth[0], volume, T, sum_over="bare")[0]
    assert bare == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("stretch", [(1.0, 1.0, 1.0), TETRAGONAL, (1.0, 1.05, 1.1)])
def test_conductivity_is_symmetric_positive_and_has_the_symmetry_of_the_crystal(stretch):
    solution = solve(*rocksalt(stretch=stretch), (5, 5, 5))
    for kappa in kappas(solution):
        assert kappa == pytest.approx(kappa.T, abs=1e-9 * kappa.max())
        assert numpy.linalg.eigvalsh(kappa).min() > 0
        assert kappa - numpy.diag(numpy.diag(kappa)) == pytest.approx(0, abs=1e-9 * kappa.max())
    x, y, z = numpy.diag(solution.full[0].kappa)
    assert (x == pytest.approx(y, rel=1e-9)) == (stretch[0] == stretch[1])
    assert (x == pytest.approx(z, rel=1e-9)) == (stretch[0] == stretch[2])


def test_hexagonal_crystal_conducts_alike_in_its_basal_plane():
    for kappa in kappas(solve(*hexagonal(), (6, 6, 4))):
        x, y, z = numpy.diag(kappa)
        assert x == pytest.approx(y, rel=1e-9) and abs(x / z - 1) > 0.05
        assert kappa - numpy.diag([x, y, z]) == pytest.approx(0, abs=1e-9 * x)


def test_conductivity_turns_with_the_crystal():
    crystal, second, third = rocksalt(stretch=TETRAGONAL)
    turn, _ = numpy.linalg.qr(numpy.random.default_rng(1).normal(size=(3, 3)))
    turn *= numpy.sign(numpy.linalg.det(turn))
    turned = dataclasses.replace(crystal, cell=crystal.cell @ turn.T)
    second_turned = dataclasses.replace(second, values=numpy.einsum("xa,yb,ijab->ijxy", turn, turn, second.values))
    third_turned = dataclasses.replace(
        third, values=numpy.einsum("xa,yb,zc,tabc->txyz", turn, turn, turn, third.values)
    )
    before = kappas(solve(crystal, second, third, (5, 5, 5)))
    after = kappas(solve(turned, second_turned, third_turned, (5, 5, 5)))
    assert after == pytest.approx(numpy.einsum("xa,yb,kab->kxy", turn, turn, before), rel=1e-6, abs=1e-6)


def test_harmonic_properties_do_not_depend_on_the_supercell_or_on_the_cell_vectors():
    crystal, second, _ = rocksalt()
    modes = solve_mesh_modes(DynamicalMatrix(crystal, second), build_mesh(crystal, (6, 6, 6)))
    skew = numpy.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    other = Crystal(
        skew @ crystal.cell, crystal.scaled_positions @ numpy.linalg.inv(skew), crystal.numbers, crystal.masses
    )
    from tests.transport_models import central_forces, morse

    near, far = morse(0.6, 1.3, 2.8), morse(0.15, 1.1, 4.2)

    def bonds(a, b, r):
        return near(r) if a != b and r < 3.64 else far(r) if r < 4.48 else None

    wide, _ = central_forces(other, bonds, 4.48, (5, 5, 5))
    again = solve_mesh_modes(DynamicalMatrix(other, wide), build_mesh(other, (6, 6, 6)))
    assert numpy.sort(again.mesh_omega, axis=None) == pytest.approx(numpy.sort(modes.mesh_omega, axis=None), rel=1e-7)
    for first, cell in ((modes, crystal), (again, other)):
        assert thermal.mean_square_displacements(first, cell, T) == pytest.approx(
            thermal.mean_square_displacements(modes, crystal, T), rel=1e-7
        )


def random_basis(seed):
    rng = numpy.random.default_rng(seed)

    def rotate(omega, vectors):
        vectors = vectors.copy()
        for k in range(len(vectors)):
            edges = numpy.flatnonzero(numpy.diff(omega[k]) > 6e-4) + 1
            for block in numpy.split(numpy.arange(omega.shape[1]), edges):
                mixture = rng.normal(size=(len(block), len(block))) + 1j * rng.normal(size=(len(block), len(block)))
                vectors[k][:, block] = vectors[k][:, block] @ numpy.linalg.qr(mixture)[0]
        return vectors

    return rotate


def solve_in_basis(cubic, rotate):
    crystal, second, third = cubic
    modes = solve_mesh_modes(DynamicalMatrix(crystal, second), build_mesh(crystal, (6, 6, 6)), rotate=rotate)
    rates = three_phonon_rates(crystal, third, modes, [T])
    isotope = isotope_rates(modes, mass_variances(crystal.numbers))
    linewidth = average_over_sets(rates.absorption[0] + rates.emission[0] + isotope, modes.sets)
    products = velocity_products(modes)
    full = iterate(modes, linewidth, rates.transfer[0], products, crystal.volume, T, tolerance=1e-9)
    rta = relaxation_time(modes, linewidth, products, crystal.volume, T)
    kappa_c, kappa_c_modes = coherence_conductivity(modes, linewidth, crystal.volume, T)
    found = (rta.kappa, full.kappa, kappa_c, linewidth, rta.kappa_modes, full.kappa_modes, kappa_c_modes)
    return numpy.concatenate([x.ravel() for x in found]), rates.absorption[0]


def test_nothing_depends_on_the_eigenvectors_chosen_inside_degenerate_sets(cubic):
    plain, single = solve_in_basis(cubic, None)
    turned, single_turned = solve_in_basis(cubic, random_basis(3))
    assert turned == pytest.approx(plain, rel=1e-6, abs=1e-7)
    # and the check can fail: rates of single eigenvectors do depend on the choice
    assert numpy.abs(single_turned - single).max() > 1e-3 * single.max()


def test_iteration_solves_the_linear_system_and_starts_from_the_relaxation_time(cubic, solved):
    crystal = cubic[0]
    modes, linewidth, transfer = solved.modes, solved.linewidth[0], solved.rates.transfer[0]
    products = velocity_products(modes)
    nothing = iterate(modes, linewidth, 0 * transfer, products, crystal.volume, T)
    assert nothing.kappa == pytest.approx(solved.rta[0].kappa, rel=1e-12)
    assert solved.full[0].history[0].sum(axis=0) == pytest.approx(solved.rta[0].kappa, rel=1e-12)
    n_irr, n_band = modes.omega.shape
    average = numpy.zeros((n_irr, n_band, n_irr, n_band))
    for q in range(n_irr):
        average[q, :, q, :] = average_over_sets(numpy.eye(n_band)[None], modes.sets[q : q + 1])[0]
    average = numpy.einsum("qsrt,xy->qsxrty", average, numpy.eye(3)).reshape(len(transfer), -1)
    active = numpy.repeat(linewidth.ravel() > 0, 3)
    operator = numpy.diag(numpy.where(active, numpy.repeat(linewidth.ravel(), 3), 1.0)) - average @ transfer
    drive = (modes.omega[:, :, None] * modes.velocities).ravel()
    field = numpy.linalg.solve(operator, numpy.where(active, drive, 0.0))
    found = (solved.full[0].mean_free_path * modes.omega[:, :, None]).ravel()
    assert found == pytest.approx(field, rel=1e-5, abs=1e-5 * numpy.abs(field).max())


def test_collisions_obey_detailed_balance_and_produce_entropy(cubic):
    """n (n + 1) times the collision matrix is symmetric up to the broadening and has no negative eigenvalues."""
    modes, rates, _ = full_mesh(cubic, (5, 5, 5))
    n = units.bose(modes.omega, T)
    metric = numpy.repeat(numpy.sqrt(n * (n + 1)).ravel(), 3)
    total = numpy.repeat((rates.absorption[0] + rates.emission[0]).ravel(), 3)
    fed = rates.transfer[0] * numpy.divide(metric[:, None], metric, out=numpy.zeros((len(metric),) * 2),
                                           where=metric > 0)  # fmt: skip
    assert numpy.linalg.norm(fed - fed.T) < 0.3 * numpy.linalg.norm(fed + fed.T)
    assert numpy.linalg.eigvalsh(2 * numpy.diag(total) - fed - fed.T).min() > -1e-9 * total.max()


@pytest.mark.parametrize("w", numpy.linspace(0.5, 12.0, 24))
def test_every_process_conserves_energy_within_two_widths(w):
    """One mode at each of three wave vectors: only detunings below two widths scatter, with a Gaussian's weight."""
    w1, w2, plus, minus = 3.0, 5.0, 0.8, 0.4
    omega = numpy.array([[w], [w1], [w2]])
    steps = numpy.zeros((3, 1, 3))
    steps[1, 0, 0], steps[2, 0, 0] = (plus + minus) / 2, (plus - minus) / 2
    occupation, last = units.bose(omega, T)[None], numpy.full((3, 1, 1), 0.6 + 0.8j)
    rates, space, transfer = numpy.zeros((1, 1, 2)), numpy.zeros((1, 4)), numpy.zeros((1, 3, 1, 1))
    one = numpy.array([1]), numpy.array([2]), numpy.array([1.0])
    half = numpy.ones((1, 1, 1, 1), complex)
    kernels.three_phonon(half, last, omega, steps, occupation, 0, 0, *one, 1.0, rates, space, transfer)

    def gauss(detuning, width):
        return numpy.exp(-((detuning / width) ** 2)) / width / numpy.sqrt(numpy.pi) * (abs(detuning) <= 2 * width)

    n1, n2 = occupation[0, 1, 0], occupation[0, 2, 0]
    absorption = (n1 - n2) * (gauss(w + w1 - w2, plus) - gauss(w + w2 - w1, plus)) / 2 / (w * w1 * w2)
    emission = (1 + n1 + n2) * gauss(w - w1 - w2, minus) / 2 / (w * w1 * w2)
    assert rates[0, 0] == pytest.approx([absorption, emission], rel=1e-9, abs=1e-15)
    assert transfer[0, 1:, 0, 0] == pytest.approx(-rates.sum(), rel=1e-12)
    scatters = abs(w + w1 - w2) <= 2 * plus or abs(w + w2 - w1) <= 2 * plus or abs(w - w1 - w2) <= 2 * minus
    assert scatters == bool(space.any())


def test_heat_capacity_and_displacements_reach_the_classical_limit(cubic, solved):
    crystal, modes = cubic[0], solved.modes
    hot = 2e4
    assert thermal.molar_heat_capacity(modes, hot) == pytest.approx(3 * 8.314462618, rel=1e-4)
    once, twice = (thermal.mean_square_displacements(modes, crystal, t) for t in (hot, 2 * hot))
    assert twice / once == pytest.approx(numpy.full(2, 2.0), rel=1e-3)
    zero, cold = (thermal.mean_square_displacements(modes, crystal, t) for t in (0.0, 1e-3))
    assert cold == pytest.approx(zero, rel=1e-12)
    assert (zero > 0).all()


def test_density_of_states_counts_the_bands(cubic, solved):
    from phonoscreen.transport.isotopes import elastic_widths

    modes = solved.modes
    widths = elastic_widths(broadening_steps(modes, 1.0))
    grid = numpy.linspace(-5, 1.3 * modes.omega.max(), 4000)
    dos = thermal.density_of_states(modes, widths, grid)
    assert numpy.trapezoid(dos, grid) == pytest.approx(6, rel=2e-3)


def test_sound_velocities_are_slopes_of_the_acoustic_branches(cubic):
    matrix = DynamicalMatrix(cubic[0], cubic[1])
    found = thermal.sound_velocities(matrix)
    assert (numpy.diff(found.branches_m_per_s) > 0).all()
    q = numpy.array([[0.001, 0.0, 0.0]])
    k = numpy.linalg.norm(2 * numpy.pi * q @ numpy.linalg.inv(cubic[0].cell).T)
    slopes = numpy.sqrt(numpy.linalg.eigvalsh(matrix(q)[0])[0, :3]) / k * 100
    assert found.branches_m_per_s[0] <= slopes.min() * 1.01 and slopes.max() <= 1.1 * found.branches_m_per_s[2]
    assert found.branches_m_per_s[0] < found.debye_m_per_s < found.branches_m_per_s[2]


def test_conductivity_falls_with_temperature_and_with_more_scattering(cubic, solved):
    warm = solve(*cubic, (6, 6, 6), Settings(temperatures_k=(300, 600)))
    assert warm.rta[0].kappa == pytest.approx(solved.rta[0].kappa, rel=1e-9)
    assert warm.full[1].kappa[0, 0] < warm.full[0].kappa[0, 0]
    small = solve(*cubic, (6, 6, 6), Settings(boundary_length_nm=20.0))
    assert small.rta[0].kappa[0, 0] < solved.rta[0].kappa[0, 0]


def test_modes_sum_to_the_conductivity(solved):
    for total, parts in ((solved.rta[0].kappa, solved.rta[0].kappa_modes),
                         (solved.full[0].kappa, solved.full[0].kappa_modes),
                         (solved.coherence[0], solved.coherence_modes[0])):  # fmt: skip
        assert parts.sum() == pytest.approx(numpy.trace(total) / 3, rel=1e-9)


def test_single_precision_of_matrix_elements_costs_less_than_a_millionth(cubic, solved):
    single = solve(*cubic, (6, 6, 6), Settings(tolerance=1e-9, single_precision=True))
    assert kappas(single) == pytest.approx(kappas(solved), rel=1e-5, abs=1e-6)


def test_unconverged_iteration_says_so(cubic):
    solution = solve(*cubic, (4, 4, 4), Settings(iterations_max=1, tolerance=1e-12))
    assert not solution.full[0].converged and solution.full[0].iterations == 1


@pytest.mark.parametrize("factor", [-8.0, 5.0, 20.0, 1e3, 1e200])
def test_growing_iteration_is_stopped_early(cubic, solved, factor):
    """The matrix of the iteration times a factor: |eigenvalues| beyond 1, of either sign; never a huge number."""
    modes, transfer = solved.modes, solved.rates.transfer[0]
    products, volume = velocity_products(modes), cubic[0].volume
    found = iterate(modes, solved.linewidth[0], factor * transfer, products, volume, T)
    assert found.diverged and not found.converged and found.iterations < 200
    for numbers in (found.kappa, found.kappa_modes, found.mean_free_path):
        assert numpy.isnan(numbers).all()
    assert found.history.sum(axis=(0, 1)) == pytest.approx(solved.rta[0].kappa, rel=1e-12)


@pytest.mark.parametrize("factor", [-0.9, 0.5, 1.0])
def test_iteration_that_settles_is_left_alone(cubic, solved, factor):
    modes, transfer = solved.modes, solved.rates.transfer[0]
    products, volume = velocity_products(modes), cubic[0].volume
    found = iterate(modes, solved.linewidth[0], factor * transfer, products, volume, T, tolerance=1e-10)
    assert found.converged and not found.diverged and found.iterations > 5


def test_acoustic_modes_at_gamma_are_the_smallest_and_an_imaginary_optical_one_counts(cubic):
    """A soft optical mode at Gamma lies below the translations: it is the instability, they are the zeros."""
    crystal, second, third = cubic
    q = numpy.zeros((1, 3))
    assert acoustic_at_gamma(numpy.array([[-3.0, -2.9, -2.8, -0.02, 0.0, 0.03]]), q)[0].tolist() == [False] * 3 + (
        [True] * 3
    )
    soft = second.values.copy()
    n_super = soft.shape[1]
    for i, j in itertools.product(range(2), repeat=2):  # a term that only the relative motion of the sublattices feels
        soft[i, j:n_super:2] -= (1 if i == j else -1) * 6.0 / (n_super // 2) * numpy.eye(3)
    with pytest.raises(UnstableCrystal, match=r"q = \[0.0, 0.0, 0.0\]"):
        solve(crystal, dataclasses.replace(second, values=soft), third, (3, 3, 3))


def test_threshold_of_imaginary_frequencies_is_the_callers(cubic):
    crystal, second, third = cubic
    hard = dataclasses.replace(second, values=-second.values)
    with pytest.raises(UnstableCrystal, match="imaginary_threshold_thz"):
        solve(crystal, hard, third, (3, 3, 3), Settings(imaginary_threshold_thz=0.5))
    allowed = solve(crystal, hard, third, (3, 3, 3), Settings(imaginary_threshold_thz=1e3))
    assert not allowed.rta[0].kappa.any()  # every mode is imaginary and left out


def test_automatic_mesh_is_odd_and_follows_the_lattice(cubic):
    assert automatic_mesh(cubic[0], 40) == (11, 11, 11)
    assert all(n % 2 for n in automatic_mesh(rocksalt(stretch=(1, 1.3, 1.7))[0], 50))


def test_automatic_mesh_has_the_symmetry_of_the_crystal_in_any_primitive_cell(cubic):
    """A cell for diagonal supercells has vectors of unequal lengths; the mesh of the compact one is also its mesh."""
    crystal = cubic[0]
    change = numpy.array([[1, 0, 0], [-1, 1, 1], [0, 0, 1]])
    other = Crystal(change @ crystal.cell, crystal.scaled_positions @ numpy.linalg.inv(change), crystal.numbers,
                    crystal.masses)  # fmt: skip
    lengths = numpy.linalg.norm(other.cell, axis=1)
    assert lengths.max() > 1.2 * lengths.min()
    assert automatic_mesh(other, 40) == automatic_mesh(crystal, 40)
    meshes = [build_mesh(own, automatic_mesh(own, 40)) for own in (crystal, other)]
    assert len(meshes[0].irreducible) == len(meshes[1].irreducible)


def test_wrong_input_is_refused(cubic):
    crystal, second, third = cubic
    broken = second.values.copy()
    broken[0, 1, 0, 1] += 5.0
    uneven = third.values.copy()
    uneven[3, 0, 1, 2] += 5.0
    cases = {
        "two atoms are exchanged": (crystal, dataclasses.replace(second, values=broken), third, (3, 3, 3), {}),
        "NaN": (crystal, dataclasses.replace(second, values=second.values * numpy.nan), third, (3, 3, 3), {}),
        "shape": (crystal, dataclasses.replace(second, repetitions=(2, 2, 2)), third, (3, 3, 3), {}),
        "third-order": (crystal, second, dataclasses.replace(third, values=third.values * numpy.nan), (3, 3, 3), {}),
        "second and third atom are exchanged": (
            crystal,
            second,
            dataclasses.replace(third, values=uneven),
            (3, 3, 3),
            {},
        ),
        "name atom": (crystal, second, dataclasses.replace(third, atoms=third.atoms + 1), (3, 3, 3), {}),
        "one point": (crystal, second, third, (1, 1, 1), {}),
        "positive integers": (crystal, second, third, (0, 3, 3), {}),
        "above 0": (crystal, second, third, (3, 3, 3), {"temperatures_k": (0.0,)}),
        "finite": (dataclasses.replace(crystal, masses=numpy.array([numpy.nan, 1])), second, third, (3, 3, 3), {}),
    }
    for message, (cell, two, three, mesh, options) in cases.items():
        with pytest.raises(StudyError, match=message):
            solve(cell, two, three, mesh, Settings(**options))
    with pytest.raises(UnstableCrystal, match="imaginary"):
        solve(crystal, dataclasses.replace(second, values=-second.values), third, (3, 3, 3))


def test_the_broadened_delta_function_integrates_to_one():
    width, steps = 0.3, numpy.linspace(-3, 3, 20001)
    values = numpy.array([kernels.line_shape(step, width) for step in steps])
    assert numpy.trapezoid(values, steps) == pytest.approx(1, abs=1e-10)
    assert kernels.line_shape(0.0, 0.0) == 0
