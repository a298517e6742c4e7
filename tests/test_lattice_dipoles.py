"""Dipole-dipole part of polar crystals: against phonopy, as a change that a full basis does not see, with real data."""

import h5py
import numpy
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.neighborlist import neighbor_list

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import read_records, write_records
from phonoscreen.crystal.constants import Crystal, full_second_order
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.force_constants.basis import build_basis, write_basis
from phonoscreen.force_constants.cutoffs import choose_cutoff
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.formats.displacements import read_born, read_phonopy_yaml
from phonoscreen.phonons.dipoles import check_charges, dipole_constants, dipole_correction, dipole_forces
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from phonoscreen.phonons.stability import check_stability
from phonoscreen.reference.collected import CollectedEngine
from phonoscreen.stages.labels import label_supercells
from phonoscreen.stages.one_crystal import Choices, determine
from phonoscreen.stages.stored_force_constants import StoredForceConstants
from tests import prototype_crystals as prototypes
from tests.benchmarks import polar_crystals
from tests.conftest import ROOT
from tests.phonondb import fit_compound, phonopy_of_compound, read_compound, their_points
from tests.small_study import run_script
from tests.supercell_files import supercell_order
from tests.test_lattice_phonons import springs
from tests.test_transport_stage import TRANSPORT

POLAR = ["nacl/phono3py_params_NaCl.yaml.xz", "mgo/phono3py_params_MgO-222rd-444rd.yaml.xz"]
COMPOUNDS = ["2472-sro-fm-3m-225", "10695-zns-f-43m-216", "8399-cscdf3-pm-3m-221"]


@pytest.fixture(scope="module", params=POLAR)
def polar(request, reference):
    data = read_phonopy_yaml(reference / "displaced_supercells" / request.param)
    return data, (data.born, data.dielectric)


def charges_of(crystal, charge=1.2, dielectric=2.6):
    signs = numpy.where(numpy.arange(len(crystal.numbers)) % 2, -1, 1) * charge
    signs = signs - signs.mean()
    return signs[:, None, None] * numpy.eye(3), dielectric * numpy.eye(3)


@pytest.mark.parametrize("compound", polar_crystals.FILES)
def test_optical_and_zone_boundary_frequencies_are_those_of_phono3py_with_symfc(reference, compound):
    """From the same 30 supercells; symfc takes all triplets of the supercell, the fit those within a cutoff."""
    path = reference / "displaced_supercells" / polar_crystals.FILES[compound]
    data, second, _ = polar_crystals.fit(path)
    difference, _, _ = polar_crystals.largest_difference(data, second, polar_crystals.phono3py_of(path))
    assert difference < 0.005


@pytest.mark.parametrize("repetitions", [(2, 2, 2), (3, 2, 2)])
def test_it_is_phonopys_gonze_lee_part(repetitions):
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    crystal = prototypes.rocksalt()
    born, dielectric = charges_of(crystal)
    ours = full_second_order(dipole_constants(crystal, repetitions, born, dielectric))
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions,
                        masses=crystal.masses)  # fmt: skip
    phonon = Phonopy(cell, numpy.diag(repetitions), primitive_matrix=numpy.eye(3), log_level=0)
    phonon.force_constants = numpy.zeros_like(ours)
    phonon.nac_params = {"born": born, "dielectric": dielectric, "factor": 14.399652}
    phonon.dynamical_matrix.make_Gonze_nac_dataset()
    rest = phonon.dynamical_matrix.short_range_force_constants
    order = supercell_order(crystal, repetitions, phonon.supercell.cell, phonon.supercell.positions)
    assert len(rest) == len(order)
    assert numpy.abs(ours + rest[order][:, order]).max() < 1e-5 * numpy.abs(ours).max()


def test_it_obeys_the_acoustic_sum_rule_and_exchange_of_atoms():
    crystal = prototypes.perovskite()
    born, dielectric = charges_of(crystal)
    born[2:] = -0.4 * numpy.eye(3)
    born[0], born[1] = 0.5 * numpy.eye(3), 0.7 * numpy.eye(3)
    constants = dipole_constants(crystal, (2, 2, 2), born, dielectric)
    full = full_second_order(constants)
    scale = numpy.abs(full).max()
    assert numpy.abs(constants.values.sum(axis=1)).max() < 1e-12 * scale
    assert numpy.abs(full - full.transpose(1, 0, 3, 2)).max() < 1e-12 * scale
    assert numpy.abs(dipole_forces(constants, numpy.ones((1, len(full), 3)))).max() < 1e-11 * scale


def test_with_all_pairs_in_the_basis_subtraction_changes_nothing(polar):
    data, charges = polar
    basis = build_basis(data.crystal, data.repetitions, (None,))
    fitter = ForceConstantFitter(basis)
    plain = fitter.fit(data.crystal, data.displacements[:10], data.forces[:10])
    rest = fitter.fit(data.crystal, data.displacements[:10], data.forces[:10], charges=charges)
    total = basis.expand_second(rest.parameters).values
    total = total + dipole_constants(data.crystal, data.repetitions, *charges).values
    expected = basis.expand_second(plain.parameters).values
    assert numpy.abs(total - expected).max() < 1e-9 * numpy.abs(expected).max()
    assert rest.quality["force_error_relative"] == pytest.approx(plain.quality["force_error_relative"], rel=1e-6)
    assert rest.quality["dipole_force_share"] > 0.05


def test_a_cutoff_leaves_half_the_error_once_the_dipoles_are_subtracted(polar):
    data, charges = polar
    cutoff = choose_cutoff(data.crystal, data.repetitions, 20.0).value_angstrom  # as far as the supercell allows
    basis = build_basis(data.crystal, data.repetitions, (cutoff, cutoff))
    fitter, errors = ForceConstantFitter(basis), []
    for known in (None, charges):
        fitted = fitter.fit(data.crystal, data.displacements[:30], data.forces[:30], charges=known)
        predicted = fitter.predict(data.crystal, fitted.parameters, data.displacements[30:40], charges=known)
        misfit = predicted - data.forces[30:40]
        errors.append(numpy.sqrt((misfit**2).mean() / (data.forces[30:40] ** 2).mean()))
        assert fitted.quality["force_error_relative_held_out"] == pytest.approx(errors[-1], rel=0.2)
    assert errors[0] > 0.05
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("compound", COMPOUNDS)
def test_corrected_frequencies_are_phonopys_with_the_same_born_file(reference, tmp_path, compound):
    compound = read_compound(reference / "phonondb" / "force_sets" / f"materials-id-{compound}.tar.lzma", tmp_path)
    crystal, second = compound.data.crystal, fit_compound(compound.data)
    charges = read_born(compound.folder / "BORN", crystal, compound.unit_cell)
    qpoints = numpy.array([[0.01, 0.02, 0.0], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])
    ours = frequencies_thz(DynamicalMatrix(crystal, second, dipole_correction(crystal, charges)), qpoints)
    phonon = phonopy_of_compound(compound, born=True)
    phonon.run_qpoints(their_points(qpoints, crystal, phonon))
    assert numpy.abs(ours - phonon.qpoints.frequencies).max() < 1e-4  # Coulomb constants differ in the seventh digit
    plain = check_stability(crystal, second, 0.1)
    assert check_stability(crystal, second, 0.1, charges=charges).stable == plain.stable
    gamma = frequencies_thz(DynamicalMatrix(crystal, second, dipole_correction(crystal, charges)), [[0.0, 0.0, 0.0]])
    assert ours[0].max() - gamma[0].max() > 0.3  # LO above TO


def test_stored_force_constants_contain_the_dipoles_again(polar, tmp_path):
    data, charges = polar
    basis = build_basis(data.crystal, data.repetitions, (None,))
    fitter = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False))
    committee = data.forces[None, :8] * numpy.array([1.0, 1.02])[:, None, None, None]
    rest = fitter.fit(data.crystal, data.displacements[:8], data.forces[:8], committee, charges=charges)
    plain = fitter.fit(data.crystal, data.displacements[:8], data.forces[:8], committee)
    with h5py.File(tmp_path / "bases.h5", "w") as bases, h5py.File(tmp_path / "constants.h5", "w") as store:
        write_basis(bases, basis)
        group = store.create_group("polar")
        group.attrs["basis_key"] = basis.key
        arrays = {"parameters": rest.parameters, "parameters_committee": rest.parameters_committee,
                  "born_charges": charges[0], "dielectric": charges[1], "cell": data.crystal.cell,
                  "scaled_positions": data.crystal.scaled_positions, "numbers": data.crystal.numbers}  # fmt: skip
        for name, array in arrays.items():
            group[name] = array
    with StoredForceConstants(tmp_path / "constants.h5", tmp_path / "bases.h5") as stored:
        assert numpy.array_equal(stored.charges("polar")[0], charges[0])
        sets = [stored.second_order("polar"), *stored.second_order_committee("polar")]
    for own, parameters in zip(sets, [plain.parameters, *plain.parameters_committee]):
        expected = basis.expand_second(parameters).values
        assert numpy.abs(own.values - expected).max() < 1e-8 * numpy.abs(expected).max()


@pytest.mark.parametrize("how", ["shape", "sum to", "not finite", "not positive", "dielectric constant"])
def test_impossible_charges_are_refused_with_a_remedy(how):
    crystal = prototypes.rocksalt()
    born, dielectric = charges_of(crystal)
    if how == "shape":
        born = born[:1]
    elif how == "sum to":
        born = numpy.abs(born)
    elif how == "not finite":
        born[0, 0, 0] = numpy.nan
    elif how == "not positive":
        dielectric = -dielectric
    else:
        dielectric = numpy.full((3, 3), 1.7e308)  # finite, but no eigenvalues are found
    with pytest.raises(StudyError, match=how) as failure:
        check_charges(crystal, born, dielectric)
    assert failure.value.fix


def test_small_violations_of_neutrality_are_taken_off_evenly():
    crystal = prototypes.rocksalt()
    born, dielectric = charges_of(crystal)
    neutral, _ = check_charges(crystal, born + 0.01, dielectric)
    assert numpy.abs(neutral.sum(axis=0)).max() < 1e-14


def test_a_born_file_beside_collected_outputs_reaches_stability_and_conductivity(tmp_path):
    """Springs, stiffer when they are short, and dipoles of a rocksalt as outputs through the scripts of four stages."""
    crystal, repetitions = prototypes.rocksalt(), (2, 2, 2)
    born, dielectric = charges_of(crystal)
    second = springs(crystal, repetitions, 4.0, 4.1)
    second.values += dipole_constants(crystal, repetitions, born, dielectric).values
    full, moves = full_second_order(second), 0.03 * numpy.random.default_rng(0).normal(size=(6, 16, 3))
    atoms = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    perfect = atoms.repeat(repetitions)
    first, second, away = neighbor_list("ijD", perfect, 3.0)
    away /= numpy.linalg.norm(away, axis=1, keepdims=True)
    for number, move in enumerate([numpy.zeros((16, 3)), *moves]):
        moved = perfect.copy()
        moved.positions += move
        forces = -numpy.einsum("abxy,by->ax", full, move)
        stretched = ((move[second] - move[first]) * away).sum(axis=1)
        numpy.add.at(forces, first, -10.0 * stretched[:, None] ** 2 * away)  # third derivative -20 eV/angstrom^3
        moved.calc = SinglePointCalculator(moved, energy=0.0, forces=forces)
        (tmp_path / "outputs" / "salt").mkdir(parents=True, exist_ok=True)
        moved.write(tmp_path / "outputs" / "salt" / f"{number}.extxyz")
    rows = [dielectric, *born]
    text = "\n".join(["14.4", *(" ".join(f"{x:.8f}" for x in row.ravel()) for row in rows)])
    (tmp_path / "outputs" / "salt" / "BORN").write_text(text + "\n")
    upstream = [{"structure_id": "salt", "stage": "before", "status": "ok", "reason": ""}]
    for name in ("relaxed", "forces"):
        write_records(upstream, tmp_path / f"{name}.parquet")
    with h5py.File(tmp_path / "relaxed.h5", "w") as relaxed, h5py.File(tmp_path / "supercells.h5", "w") as supercells:
        for key in ("cell", "scaled_positions", "numbers"):
            relaxed[f"salt/{key}"] = supercells[f"salt/{key}"] = getattr(crystal, key)
        supercells["salt/repetitions"], supercells["salt/displacements"] = repetitions, moves
        labels = label_supercells(CollectedEngine(tmp_path / "outputs"), "salt", supercells["salt"], numpy.arange(6))
    with h5py.File(tmp_path / "forces.h5", "w") as forces:
        for name, array in labels.arrays.items():
            forces[f"salt/{name}"] = array
    supercell = {
        "min_length_angstrom": 7.0, "max_atoms": 100, "reference_oversampling": 2, "reference_min": 4,
        "network_oversampling": 4, "network_min": 5,
    }  # fmt: skip
    paths = {name: tmp_path / name for name in ("relaxed.h5", "supercells.h5", "forces.h5", "bases.h5", "constants.h5")}
    run_script(
        "build_symmetry_bases",
        input={
            "arrays": paths["relaxed.h5"],
            "records": tmp_path / "relaxed.parquet",
            "prototypes": ROOT / "resources" / "prototypes.yaml",
        },
        output={"bases": paths["bases.h5"], "assignment": tmp_path / "assignment.parquet"},
        params={"supercell": supercell, "orders": {"third_cutoff_angstrom": 3.5}},
    )
    run_script(
        "fit_force_constants",
        input={"forces": paths["forces.h5"], "forces_records": tmp_path / "forces.parquet", "bases": paths["bases.h5"],
               "supercells": paths["supercells.h5"], "assignment": tmp_path / "assignment.parquet"},
        output={"arrays": paths["constants.h5"], "records": tmp_path / "constants.parquet"},
        params={"fit": {"method": "least_squares"}, "learning_curve": False},
    )  # fmt: skip
    assert read_records(tmp_path / "constants.parquet")["dipole_force_share"][0] > 0.05
    highest, kappa = {}, {}
    for corrected in (True, False):
        run_script(
            "check_stability",
            input={"force_constants": paths["constants.h5"], "records": tmp_path / "constants.parquet",
                   "relaxed": paths["relaxed.h5"], "bases": paths["bases.h5"]},
            output={"arrays": tmp_path / "stability.h5", "records": tmp_path / "stability.parquet"},
            params={"imaginary_threshold_thz": 0.1, "non_analytic_correction": corrected},
        )  # fmt: skip
        run_script(
            "solve_bte",
            input={"force_constants": paths["constants.h5"], "records": tmp_path / "stability.parquet",
                   "relaxed": paths["relaxed.h5"], "bases": paths["bases.h5"]},
            output={"arrays": tmp_path / "transport.h5", "records": tmp_path / "transport.parquet"},
            params={"transport": {**TRANSPORT, "committee": False, "non_analytic_correction": corrected}},
        )  # fmt: skip
        with h5py.File(tmp_path / "stability.h5") as store:
            near_gamma = store["salt/band/frequencies_thz"][1]
        highest[corrected] = near_gamma.max()
        kappa[corrected] = read_records(tmp_path / "transport.parquet")["kappa_p_rta_w_per_m_k"][0]
    assert highest[True] > highest[False] + 0.3  # LO-TO splitting
    assert kappa[True] != kappa[False]
    assert kappa[True] > 0


def rotated_charges(crystal, seed):
    """Random tensors averaged over the space group, without their sum: the most general Born charges of a crystal."""
    symmetry = find_symmetry(crystal)
    given = numpy.random.default_rng(seed).normal(size=(len(crystal.numbers), 3, 3))
    born = numpy.zeros_like(given)
    for images, turn in zip(symmetry.atoms, symmetry.cartesian):
        born[images] += turn @ given @ turn.T / len(symmetry.atoms)
    return born - born.mean(axis=0)


LOW_SYMMETRY = Crystal(
    numpy.array([[4.0, 0, 0], [0.3, 4.4, 0], [-0.2, 0.5, 5.0]]),
    numpy.array([[0, 0, 0], [0.23, 0.31, 0.42], [0.77, 0.69, 0.58]]),
    numpy.array([12, 8, 8]),
    numpy.array([24.3, 16.0, 16.0]),
)


@pytest.mark.parametrize("crystal", [LOW_SYMMETRY, prototypes.wurtzite()], ids=["triclinic", "wurtzite"])
def test_dipole_constants_are_force_constants_on_sites_of_any_symmetry(crystal):
    """Equal when the two atoms are exchanged, with charges that are no symmetric tensors."""
    born = rotated_charges(crystal, 3)
    full = full_second_order(dipole_constants(crystal, (2, 2, 2), born, numpy.diag([2.1, 2.1, 3.0])))
    assert numpy.abs(full).max() > 0.01
    assert numpy.abs(full - full.transpose(1, 0, 3, 2)).max() < 1e-10 * numpy.abs(full).max()


def test_charges_are_averaged_over_the_space_group_and_their_noise_is_taken_off():
    crystal = prototypes.wurtzite()
    born, dielectric = rotated_charges(crystal, 1), numpy.diag([2.0, 2.0, 3.0])
    noise = 0.01 * numpy.random.default_rng(0).normal(size=born.shape)
    noisy, tensor = check_charges(crystal, born + noise, dielectric + noise[0])
    assert numpy.abs(noisy - born).max() < 0.02
    assert numpy.abs(noisy.sum(axis=0)).max() < 1e-14
    again, tensor_again = check_charges(crystal, noisy, tensor)
    assert numpy.allclose(again, noisy, atol=1e-13)
    assert numpy.allclose(tensor, numpy.diag([tensor[0, 0], tensor[0, 0], tensor[2, 2]]), atol=1e-13)
    assert numpy.allclose(tensor_again, tensor, atol=1e-13)
    exact, _ = check_charges(crystal, born, dielectric)
    assert numpy.allclose(exact, born, atol=1e-13)
    with pytest.raises(StudyError, match="break the symmetry") as failure:
        check_charges(crystal, born[[0, 2, 1, 3]] * [[[1.0]], [[2.0]], [[1.0]], [[1.0]]], dielectric)
    assert "order of the atoms" in failure.value.fix


def test_frequencies_with_charges_on_sites_of_low_symmetry_are_phonopys(reference):
    """Al2O3: oxygen on a twofold axis. At wave vectors of the supercell, between them, and beside Gamma."""
    from phonopy import Phonopy
    from phonopy.file_IO import parse_BORN, parse_FORCE_SETS
    from phonopy.interface.phonopy_yaml import PhonopyYaml

    folder = reference / "other_programs" / "phonopy_al2o3"
    content = PhonopyYaml().read(folder / "phonopy_disp.yaml")
    phonon = Phonopy(content.unitcell, content.supercell_matrix, primitive_matrix=content.primitive_matrix, log_level=0)
    phonon.dataset = parse_FORCE_SETS(filename=str(folder / "FORCE_SETS"))
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants(show_drift=False, use_symfc_projector=True)
    phonon.nac_params = {**parse_BORN(phonon.primitive, filename=str(folder / "BORN")), "factor": 14.399652}
    unit = Crystal.from_ase(read(folder / "POSCAR-unitcell"))
    data = read_phonopy_yaml(folder / "phonopy_disp.yaml")
    data.born, data.dielectric = read_born(folder / "BORN", data.crystal, unit)
    found = determine(data, Choices())
    rng = numpy.random.default_rng(0)
    fitting = rng.integers(0, data.repetitions, size=(4, 3)) / data.repetitions
    points = numpy.concatenate([fitting, rng.random((4, 3)) - 0.5, 1e-3 * rng.normal(size=(4, 3))])
    points = points[numpy.abs(points).max(axis=1) > 0]
    ours = frequencies_thz(
        DynamicalMatrix(data.crystal, found.second, dipole_correction(data.crystal, found.charges)), points
    )
    theirs = their_points(points, data.crystal, phonon)
    theirs -= numpy.rint(theirs)  # phonopy's sum over reciprocal vectors ends at a sphere around Gamma
    phonon.run_qpoints(theirs)
    assert numpy.abs(ours - phonon.qpoints.frequencies).max() < 1e-4  # Coulomb constants differ in the seventh digit
    assert check_stability(data.crystal, found.second, 0.1, charges=found.charges).verdict == "stable"
