"""Dynamical matrices, band paths and verdicts against phonopy, phonondb and the laws of lattice dynamics."""

import h5py
import numpy
import pytest
from ase import Atoms
from ase.io import read

from phonoscreen.crystal.constants import Crystal, SecondOrder, full_second_order
from phonoscreen.crystal.shortest_images import ShortestImages
from phonoscreen.crystal.units import SQUARED_FREQUENCY
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.formats.displacements import read_born, read_phonopy_yaml
from phonoscreen.formats.force_constants import phonopy_order
from phonoscreen.phonons.band_path import band_path, irreducible_mesh
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from phonoscreen.phonons.stability import check_stability
from phonoscreen.stages.one_crystal import Choices, determine
from tests import prototype_crystals as prototypes
from tests.conftest import ROOT
from tests.phonondb import fit_compound, in_phonopys_phase, of_today, phonopy_of_compound, read_compound, their_points
from tests.small_study import run_script

COMPOUNDS = [
    "1000-bate-fm-3m-225", "10182-liznp-f-43m-216", "10175-kcdf3-pm-3m-221", "10378-cs3sb-fm-3m-225",
    "10694-scf3-pm-3m-221", "10695-zns-f-43m-216", "13816-cs2naerf6-fm-3m-225", "21043-rbpbf3-pm-3m-221",
    "2472-sro-fm-3m-225", "4842-al2zns4-fd-3m-227", "6065-sr2gasbo6-fm-3m-225", "8399-cscdf3-pm-3m-221",
]  # fmt: skip


def random_second_order(crystal, repetitions, seed=0):
    basis = build_basis(crystal, repetitions, (None,))
    return basis.expand_second(numpy.random.default_rng(seed).normal(size=basis.n_free))


def springs(crystal, repetitions, stiffness, reach):
    """Crystal of springs between atoms closer than ``reach``: stable, every sum rule fulfilled."""
    vectors = ShortestImages(crystal, repetitions).mean_vectors
    lengths = numpy.linalg.norm(vectors, axis=2)
    near = (lengths > 0.1) & (lengths < reach)
    units = vectors / numpy.where(near, lengths, 1.0)[:, :, None]
    values = -stiffness * near[:, :, None, None] * units[:, :, :, None] * units[:, :, None, :]
    for i in range(len(values)):
        values[i, i] -= values[i].sum(axis=0)
    return SecondOrder(repetitions, values)


@pytest.mark.parametrize(
    ("crystal", "repetitions"),
    [
        (prototypes.half_heusler(), (3, 3, 3)),
        (prototypes.perovskite(), (2, 2, 2)),
        (prototypes.elpasolite(), (2, 2, 2)),
        (prototypes.wurtzite(), (3, 3, 2)),
    ],
)
def test_dynamical_matrices_and_derivatives_are_phonopys(crystal, repetitions):
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    second = random_second_order(crystal, repetitions)
    unit = PhonopyAtoms(
        cell=crystal.cell, scaled_positions=crystal.scaled_positions, numbers=crystal.numbers, masses=crystal.masses
    )
    phonon = Phonopy(unit, supercell_matrix=numpy.diag(repetitions), primitive_matrix=numpy.eye(3))
    order = phonopy_order(len(crystal.numbers), repetitions)
    phonon.force_constants = full_second_order(second)[order][:, order]
    qpoints = numpy.random.default_rng(1).random((5, 3))
    qpoints[0], qpoints[1] = 0, [0.5, 0.5, 0]
    ours = DynamicalMatrix(crystal, second)
    for q, matrix in zip(qpoints, in_phonopys_phase(crystal, ours(qpoints)[0], qpoints)):
        phonon.dynamical_matrix.run(q)
        assert numpy.abs(phonon.dynamical_matrix.dynamical_matrix - matrix).max() < 1e-12
    phonon.run_qpoints(qpoints)
    theirs = of_today(phonon.qpoints.frequencies)
    assert numpy.abs(frequencies_thz(ours, qpoints) - theirs).max() < 1e-6  # rounding at Gamma, under a root
    step, slopes = 1e-5, ours(qpoints, gradient=True)[1]
    for axis in range(3):
        dq = step * crystal.cell[:, axis] / (2 * numpy.pi)
        after, before = (in_phonopys_phase(crystal, ours(q)[0], q) for q in (qpoints + dq, qpoints - dq))
        slope = in_phonopys_phase(crystal, slopes[:, axis], qpoints)
        assert numpy.abs((after - before) / (2 * step) - slope).max() < 1e-7


def test_frequencies_are_equal_at_equivalent_wave_vectors():
    crystal, repetitions = prototypes.elpasolite(), (2, 2, 2)
    second = random_second_order(crystal, repetitions)
    q = numpy.array([0.13, 0.29, 0.41])
    reciprocal = numpy.linalg.inv(crystal.cell).T
    turned = []
    for turn in (numpy.eye(3), -numpy.eye(3), numpy.eye(3)[[1, 0, 2]], numpy.diag([1, -1, 1]), numpy.eye(3)[[1, 2, 0]]):
        turned.append((q @ reciprocal @ turn.T) @ crystal.cell.T)
    values = frequencies_thz(DynamicalMatrix(crystal, second), numpy.array(turned))
    assert numpy.abs(values - values[0]).max() < 1e-10


def test_a_chain_of_springs_has_the_textbook_dispersion():
    crystal = Crystal.from_ase(Atoms("Ar", cell=numpy.diag([2.0, 9.0, 9.0]), scaled_positions=[[0, 0, 0]], pbc=True))
    second = springs(crystal, (6, 1, 1), stiffness=3.0, reach=2.1)
    k = numpy.linspace(0, 0.5, 7)
    matrices = DynamicalMatrix(crystal, second)(numpy.outer(k, [1, 0, 0]))[0] / SQUARED_FREQUENCY
    expected = 4 * 3.0 / crystal.masses[0] * numpy.sin(numpy.pi * k) ** 2
    assert numpy.abs(numpy.linalg.eigvalsh(matrices)[:, -1] - expected).max() < 1e-12


def test_springs_are_stable_and_weak_negative_ones_are_not():
    crystal, repetitions = prototypes.rocksalt(), (3, 3, 3)
    good = check_stability(crystal, springs(crystal, repetitions, 2.0, 4.1), 0.1)
    assert good.stable
    assert good.values["frequency_min_thz"] > 0
    bad = check_stability(crystal, springs(crystal, repetitions, -2.0, 4.1), 0.1)
    assert not bad.stable
    assert "imaginary mode" in bad.reason
    assert bad.values["frequency_min_thz"] == pytest.approx(-good.values["frequency_max_thz"], rel=1e-6)
    assert bad.values["imaginary_fraction"] > 0.9


def chain(second_neighbour, repetitions=(4, 1, 1)):
    """Chain of springs to first and second neighbours: 2 (1 - cos q) + 2 k (1 - cos 2q) per mass."""
    crystal = Crystal.from_ase(Atoms("Ar", cell=numpy.diag([2.0, 9.0, 9.0]), scaled_positions=[[0, 0, 0]], pbc=True))
    values = numpy.zeros((1, repetitions[0], 3, 3))
    for step, stiffness in ((1, 1.0), (-1, 1.0), (2, second_neighbour), (-2, second_neighbour)):
        values[0, step % repetitions[0], 0, 0] -= stiffness
        values[0, 0, 0, 0] += stiffness
    return crystal, SecondOrder(repetitions, values)


def test_a_verdict_that_rests_on_interpolation_alone_is_uncertain():
    """With k between -1/2 and -1/4 the chain is stable at the wave vectors of four cells and soft near Gamma."""
    expected = {-0.1: ("stable", "ok"), -0.35: ("uncertain", "not_converged"), -0.7: ("unstable", "unstable")}
    for second_neighbour, (verdict, status) in expected.items():
        found = check_stability(*chain(second_neighbour), 0.05)
        assert (found.verdict, found.status, found.values["verdict"]) == (verdict, status, verdict)
        assert found.stable == (verdict == "stable")
        assert (found.reason == "") == found.stable
    uncertain = check_stability(*chain(-0.35), 0.05, [chain(-0.35)[1], chain(-0.7)[1]])
    values = uncertain.values
    assert values["frequency_min_commensurate_thz"] >= 0 > values["frequency_min_interpolated_thz"]
    assert values["frequency_min_thz"] == values["frequency_min_interpolated_thz"]
    assert values["members_unstable"] == 1
    assert "larger supercell" in uncertain.reason


def test_zinc_oxide_is_uncertain_because_of_one_interpolated_point(reference):
    """Lowest frequency at the wave vectors of the supercell: 2.07 THz (README of the reference data)."""
    folder = reference / "other_programs" / "phonopy_zno"
    data = read_phonopy_yaml(folder / "phonopy_disp.yaml")
    unit = Crystal.from_ase(read(folder / "POSCAR-unitcell"))
    data.born, data.dielectric = read_born(folder / "BORN", data.crystal, unit)
    found = determine(data, Choices())
    verdict = check_stability(data.crystal, found.second, 0.1, charges=found.charges)
    assert verdict.verdict == "uncertain"
    assert verdict.values["frequency_min_commensurate_thz"] == pytest.approx(2.07, abs=0.01)
    assert verdict.values["frequency_min_interpolated_thz"] == pytest.approx(-0.16, abs=0.02)
    assert verdict.values["imaginary_fraction"] == 0


def test_the_committees_spread_is_that_of_its_members():
    crystal, repetitions = prototypes.rocksalt(), (3, 3, 3)
    members = [springs(crystal, repetitions, 2.0 * s**2, 4.1) for s in (0.9, 1.0, 1.1)]
    same = check_stability(crystal, members[1], 0.1, [members[1]] * 3)
    assert same.values["frequency_std_thz"] < 1e-12
    spread = check_stability(crystal, members[1], 0.1, members)
    mesh_lowest = numpy.nanmin(spread.arrays["mesh/frequencies_thz"][1:])
    assert spread.values["frequency_min_std_thz"] == pytest.approx(0.1 * mesh_lowest, rel=1e-6)


@pytest.mark.parametrize(
    ("crystal", "corners"), [(prototypes.rocksalt(), "G X U|K G L"), (prototypes.perovskite(), "G X M G R X|M R")]
)
def test_the_band_path_runs_through_the_standard_corners(crystal, corners):
    path = band_path(crystal.cell)
    assert " ".join(label for label in path.labels if label) == corners
    assert len(path.labels) == len(path.qpoints) == len(path.distances)
    assert (numpy.diff(path.distances) >= 0).all()


def test_the_irreducible_mesh_counts_every_point_once():
    qpoints, weights = irreducible_mesh(prototypes.half_heusler(), (8, 8, 8))
    assert weights.sum() == 512
    assert len(qpoints) == 29


@pytest.mark.parametrize("compound", COMPOUNDS)
def test_compounds_of_phonondb_have_phonopys_frequencies(reference, tmp_path, compound):
    """The same forces, through this project's fit and through phonopy's two ways to force constants."""
    archive = reference / "phonondb" / "force_sets" / f"materials-id-{compound}.tar.lzma"
    compound = read_compound(archive, tmp_path)
    crystal = compound.data.crystal
    qpoints = numpy.array([[0.5, 0.5, 0.5], [0.5, 0, 0], [0.1, 0.2, 0.3], [0.25, 0.25, 0]])
    for calculator in (None, "symfc"):
        second = fit_compound(compound.data, completed=calculator is None)
        ours = frequencies_thz(DynamicalMatrix(crystal, second), qpoints)
        phonon = phonopy_of_compound(compound, calculator)
        phonon.run_qpoints(their_points(qpoints, crystal, phonon))
        assert numpy.abs(ours - of_today(phonon.qpoints.frequencies)).max() < 1e-9


def test_scripts_carry_a_shard_from_relaxed_cells_to_verdicts(tmp_path):
    """Springs of a committee: basis, fit and stability as the workflow runs them, one structure broken."""
    from phonoscreen.audit.records import read_records, write_records

    crystals = {"a": prototypes.rocksalt(), "b": prototypes.half_heusler(), "c": prototypes.rocksalt("MgO", 4.2)}
    with h5py.File(tmp_path / "relaxed.h5", "w") as store:
        for name, crystal in crystals.items():
            for key in ("cell", "scaled_positions", "numbers"):
                store[f"{name}/{key}"] = getattr(crystal, key)
    upstream = [{"structure_id": x, "stage": "relax", "status": "ok", "reason": ""} for x in "abc"]
    write_records(upstream, tmp_path / "relaxed.parquet")
    supercell = {
        "min_length_angstrom": 8.0, "max_atoms": 100, "displacement_angstrom": 0.03, "reference_oversampling": 2,
        "reference_min": 4, "network_oversampling": 4, "network_min": 5,
    }  # fmt: skip
    run_script(
        "build_symmetry_bases",
        input={
            "arrays": tmp_path / "relaxed.h5",
            "records": tmp_path / "relaxed.parquet",
            "prototypes": ROOT / "resources" / "prototypes.yaml",
        },
        output={"bases": tmp_path / "bases.h5", "assignment": tmp_path / "assignment.parquet"},
        params={"supercell": supercell, "orders": {"third_cutoff_angstrom": 4.2}},
    )
    assignment = read_records(tmp_path / "assignment.parquet").set_index("structure_id")
    assert (assignment["status"] == "ok").all()
    with h5py.File(tmp_path / "supercells.h5", "w") as supercells, h5py.File(tmp_path / "forces.h5", "w") as forces:
        for name, crystal in crystals.items():
            repetitions = tuple(int(n) for n in assignment.loc[name, "repetitions"].split())
            second = full_second_order(springs(crystal, repetitions, 2.0, 0.75 * crystal.volume ** (1 / 3) * 1.6))
            moves = 0.03 * numpy.random.default_rng(0).normal(size=(assignment.loc[name, "n_network"], len(second), 3))
            for key in ("cell", "scaled_positions", "numbers"):
                supercells[f"{name}/{key}"] = getattr(crystal, key)
            supercells[f"{name}/repetitions"], supercells[f"{name}/displacements"] = repetitions, moves
            exact = -numpy.einsum("abxy,sby->sax", second, moves)
            if name == "c":
                exact[0, 0, 0] = numpy.nan
            forces[f"{name}/forces"], forces[f"{name}/committee_forces"] = exact, numpy.stack([exact, 1.02 * exact])
    write_records(upstream, tmp_path / "forces.parquet")
    run_script(
        "fit_force_constants",
        input={
            "forces": tmp_path / "forces.h5", "forces_records": tmp_path / "forces.parquet",
            "supercells": tmp_path / "supercells.h5", "assignment": tmp_path / "assignment.parquet",
            "bases": tmp_path / "bases.h5",
        },
        output={"arrays": tmp_path / "constants.h5", "records": tmp_path / "constants.parquet"},
        params={"fit": {"method": "least_squares"}, "learning_curve": True},
    )  # fmt: skip
    fitted = read_records(tmp_path / "constants.parquet").set_index("structure_id")
    assert list(fitted["status"]) == ["ok", "ok", "failed"]
    assert "not finite" in fitted.loc["c", "reason"]
    assert (fitted.loc[["a", "b"], "force_error_relative_held_out"] < 1e-6).all()
    run_script(
        "check_stability",
        input={
            "force_constants": tmp_path / "constants.h5", "records": tmp_path / "constants.parquet",
            "relaxed": tmp_path / "relaxed.h5", "bases": tmp_path / "bases.h5",
        },
        output={"arrays": tmp_path / "stability.h5", "records": tmp_path / "stability.parquet"},
        params={"imaginary_threshold_thz": 0.1, "non_analytic_correction": True},
    )  # fmt: skip
    verdicts = read_records(tmp_path / "stability.parquet").set_index("structure_id")
    assert list(verdicts["status"]) == ["ok", "ok", "skipped"]
    assert verdicts.loc["a", "frequency_std_thz"] > 0
    with h5py.File(tmp_path / "stability.h5") as store:
        assert len(store["a/band/labels"]) == len(store["a/band/frequencies_thz"])
