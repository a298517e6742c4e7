"""Displaced supercells from the files of other programs, whatever cell and supercell matrix they were made with."""

import json
import time

import h5py
import numpy
import pytest
from ase import Atoms
from ase.build import make_supercell
from ase.io import read, write
from ase.units import Bohr
from phonopy import Phonopy
from phonopy.file_IO import parse_FORCE_SETS
from phonopy.structure.atoms import PhonopyAtoms

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, full_second_order
from phonoscreen.crystal.primitive import repeated_primitive
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.finite_displacements import complete_by_symmetry, finite_differences
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.formats.bte_folder import Request, read_folder
from phonoscreen.formats.displacements import read_born, read_force_sets, read_phonopy_yaml
from phonoscreen.formats.finite_differences import forces_of_constants
from phonoscreen.formats.force_constants import read_second_order
from phonoscreen.formats.phonopy import read_array
from phonoscreen.formats.phonopy_yaml import read_phonopy_file
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from phonoscreen.stages.one_crystal import Choices, determine
from tests import prototype_crystals as prototypes
from tests.phonondb import their_points
from tests.supercell_files import supercell_order
from tests.transport_models import rocksalt

CONVENTIONAL = numpy.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
BORN = numpy.array([1.1 * numpy.eye(3), -1.1 * numpy.eye(3)])


@pytest.fixture(scope="module")
def phonon():
    """Rocksalt in phonopy: conventional supercell of a primitive cell, forces of known force constants."""
    from phonopy import Phonopy

    crystal = prototypes.rocksalt()
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions)
    phonon = Phonopy(cell, 2 * CONVENTIONAL, primitive_matrix=numpy.eye(3), log_level=0)
    phonon.generate_displacements(distance=0.01)
    own, repetitions = repeated_primitive(crystal, phonon.supercell.cell)
    basis = build_basis(own, repetitions, (None,))
    parameters = numpy.random.default_rng(0).normal(size=basis.n_free)
    order = supercell_order(own, repetitions, phonon.supercell.cell, phonon.supercell.positions)
    full = full_second_order(basis.expand_second(parameters))[:, numpy.argsort(order)][numpy.argsort(order)]
    perfect = phonon.supercell.positions
    phonon.forces = [-numpy.einsum("abxy,by->ax", full, cell.positions - perfect)
                     for cell in phonon.supercells_with_displacements]  # fmt: skip
    phonon.nac_params = {"born": BORN, "dielectric": 2.5 * numpy.eye(3), "factor": 14.4}
    return phonon, full


def agrees(data, phonon, full_of_phonopy, tolerance=1e-7):
    """Whether the fit to what was read gives the force constants back."""
    moves, forces = complete_by_symmetry(data.crystal, data.repetitions, data.displacements, data.forces)
    basis = build_basis(data.crystal, data.repetitions, (None,))
    fitted = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False)).fit(data.crystal, moves, forces)
    full = full_second_order(basis.expand_second(fitted.parameters))
    order = supercell_order(data.crystal, data.repetitions, phonon.supercell.cell, phonon.supercell.positions)
    return numpy.abs(full - full_of_phonopy[order][:, order]).max() < tolerance


def test_phonopys_params_with_an_oblique_supercell_matrix_and_born_charges(phonon, tmp_path):
    phonon[0].save(tmp_path / "phonopy_params.yaml", settings={"force_sets": True})
    data = read_phonopy_yaml(tmp_path / "phonopy_params.yaml")
    assert agrees(data, *phonon)
    assert numpy.allclose(data.born, BORN)
    assert numpy.allclose(data.dielectric, 2.5 * numpy.eye(3))


def test_phonopys_disp_file_with_force_sets_beside_it(phonon, tmp_path):
    from phonopy.file_IO import write_FORCE_SETS

    write_FORCE_SETS(phonon[0].dataset, filename=tmp_path / "FORCE_SETS")
    phonon[0].save(tmp_path / "phonopy_disp.yaml", settings={"force_sets": False})
    assert agrees(read_phonopy_yaml(tmp_path / "phonopy_disp.yaml"), *phonon)
    unit_cell = prototypes.rocksalt()
    assert agrees(read_force_sets(tmp_path / "FORCE_SETS", unit_cell, 2 * CONVENTIONAL), *phonon)
    with pytest.raises(StudyError, match="not for a supercell of 16 atoms") as failure:
        read_force_sets(tmp_path / "FORCE_SETS", unit_cell, (2, 2, 2))
    assert "DIM" in failure.value.fix
    (tmp_path / "FORCE_SETS").write_text((tmp_path / "FORCE_SETS").read_text()[:3000])
    with pytest.raises(StudyError, match="cut"):
        read_force_sets(tmp_path / "FORCE_SETS", unit_cell, 2 * CONVENTIONAL)


def test_the_command_fits_force_sets_of_a_conventional_cell(phonon, tmp_path, capsys):
    from phonopy.file_IO import write_FORCE_SETS

    write_FORCE_SETS(phonon[0].dataset, filename=tmp_path / "FORCE_SETS")
    crystal = prototypes.rocksalt()
    write(tmp_path / "POSCAR", Atoms(numbers=crystal.numbers, cell=crystal.cell, pbc=True,
                                     scaled_positions=crystal.scaled_positions))  # fmt: skip
    matrix = [str(x) for x in (2 * CONVENTIONAL).ravel()]
    arguments = ["fit", str(tmp_path / "POSCAR"), str(tmp_path / "FORCE_SETS"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--supercell", *matrix]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rotational_sum_rules"] is False  # as phonopy
    repetitions = tuple(int(n) for n in report["repetitions"].split())
    assert numpy.prod(repetitions) == 32
    assert len(full_second_order(read_second_order(tmp_path / "out" / "FORCE_CONSTANTS_2ND", 2, repetitions))) == 64
    assert main(arguments) == 2
    assert "DIM" in capsys.readouterr().err


def test_phono3pys_pair_displacements(tmp_path):
    from phono3py import Phono3py

    crystal = prototypes.rocksalt()
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions)
    program = Phono3py(cell, (2, 2, 2), primitive_matrix=numpy.eye(3), log_level=0)
    program.generate_displacements()
    rng = numpy.random.default_rng(0)
    program.forces = rng.normal(size=(len(program.supercells_with_displacements), 16, 3))
    program.save(tmp_path / "phono3py_params.yaml", settings={"force_sets": True})
    data = read_phonopy_yaml(tmp_path / "phono3py_params.yaml")
    assert data.displacements.shape == program.forces.shape
    order = supercell_order(crystal, (2, 2, 2), program.supercell.cell, program.supercell.positions)
    assert numpy.allclose(data.forces, program.forces[:, order], atol=1e-9)
    moved = numpy.array([own.positions for own in program.supercells_with_displacements]) - program.supercell.positions
    assert numpy.allclose(data.displacements, moved[:, order], atol=1e-9)


@pytest.mark.parametrize("text", ["", "nonsense: 1", "unit_cell: {}"])
def test_other_yaml_files_are_refused_with_a_remedy(tmp_path, text):
    (tmp_path / "some.yaml").write_text(text)
    with pytest.raises(StudyError) as failure:
        read_phonopy_yaml(tmp_path / "some.yaml")
    assert failure.value.fix


def test_born_charges_follow_the_atoms_of_the_primitive_cell(tmp_path):
    (tmp_path / "BORN").write_text("14.4\n" + " ".join(f"{x}" for x in 2.5 * numpy.eye(3).ravel()) + "\n"
                                   + " ".join(f"{x}" for x in BORN[0].ravel()) + "\n"
                                   + " ".join(f"{x}" for x in BORN[1].ravel()) + "\n")  # fmt: skip
    crystal = prototypes.rocksalt()
    born, dielectric = read_born(tmp_path / "BORN", crystal)
    assert numpy.allclose(born, BORN)
    assert numpy.allclose(dielectric, 2.5 * numpy.eye(3))
    turned = Crystal(crystal.cell, crystal.scaled_positions[::-1], crystal.numbers[::-1], crystal.masses[::-1])
    assert numpy.allclose(read_born(tmp_path / "BORN", turned, crystal)[0], BORN[::-1])
    with pytest.raises(StudyError, match="not a BORN file"):
        read_born(tmp_path / "BORN", prototypes.half_heusler())


@pytest.fixture
def amm2(reference, tmp_path):
    """phonopy's own test: KNbO3, a centred orthorhombic cell repeated 3 x 2 x 2."""
    folder = reference / "other_programs" / "phonopy_amm2"
    (tmp_path / "POSCAR").write_text((folder / "POSCAR_Amm2").read_text())
    (tmp_path / "FORCE_SETS").write_text((folder / "FORCE_SETS_Amm2").read_text())
    return tmp_path


def test_a_centred_cell_repeated_costs_seconds_and_gives_phonopys_frequencies(amm2, capsys):
    """Version 0.1 took 105 s and 17.8 GB: the Smith form of this supercell is 1 x 2 x 12 needles."""
    start = time.process_time()
    arguments = ["fit", str(amm2 / "POSCAR"), str(amm2 / "FORCE_SETS"), "--supercell", "3", "2", "2"]
    assert main([*arguments, "--output", str(amm2 / "out")]) == 0
    assert time.process_time() - start < 10
    report = json.loads(capsys.readouterr().out)
    assert (report["space_group"], report["symmetry_tolerance_angstrom"]) == ("Amm2", 1e-5)
    assert sorted(int(n) for n in report["repetitions"].split()) == [2, 3, 4]
    assert report["method"] == "finite differences"
    assert report["force_error_relative"] < 0.02
    assert report["residual_force_max_ev_per_angstrom"] == pytest.approx(0.022, abs=0.001)  # not relaxed by its makers
    unit = read(amm2 / "POSCAR")
    crystal = Crystal.from_ase(unit)
    theirs = PhonopyAtoms(cell=crystal.cell, scaled_positions=crystal.scaled_positions, numbers=crystal.numbers,
                          masses=crystal.masses)  # fmt: skip
    phonon = Phonopy(theirs, numpy.diag([3, 2, 2]), primitive_matrix="auto", log_level=0)
    phonon.dataset = parse_FORCE_SETS(filename=str(amm2 / "FORCE_SETS"))
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants(show_drift=False, use_symfc_projector=True)
    data = read_force_sets(amm2 / "FORCE_SETS", crystal, (3, 2, 2))
    second, _ = finite_differences(data.crystal, data.repetitions, data.displacements, data.forces)
    points = numpy.random.default_rng(0).random((6, 3))
    ours = frequencies_thz(DynamicalMatrix(data.crystal, second), points)
    phonon.run_qpoints(their_points(points, data.crystal, phonon))
    assert numpy.abs(ours - phonon.qpoints.frequencies).max() < 1e-5  # units differ in the seventh digit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--third-cutoff", "4"], "hold no third or fourth order"),
        (["--third-shells", "1"], "hold no third or fourth order"),
        (["--learning-curve"], "nothing to be held out"),
        (["--rotational-sum-rules"], "rotational sum rules are left off"),
    ],
)
def test_what_single_displaced_atoms_cannot_give_is_refused(amm2, capsys, options, message):
    arguments = ["fit", str(amm2 / "POSCAR"), str(amm2 / "FORCE_SETS"), "--supercell", "3", "2", "2"]
    assert main([*arguments, *options, "--output", str(amm2 / "no")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert options[0].removeprefix("--") in said.split("fix:")[1]
    assert not (amm2 / "no").exists()


@pytest.fixture(scope="module")
def pairs():
    """Single and pair displacements in phono3py, with the forces of known second- and third-order constants."""
    from phono3py import Phono3py

    crystal, second, third = rocksalt(repetitions=(2, 2, 2))
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions)
    program = Phono3py(cell, (2, 2, 2), primitive_matrix=numpy.eye(3), log_level=0)
    program.generate_displacements()
    order = supercell_order(crystal, (2, 2, 2), program.supercell.cell, program.supercell.positions)
    moved = numpy.array([own.positions for own in program.supercells_with_displacements]) - program.supercell.positions
    forces = forces_of_constants(second, third, numpy.where(numpy.abs(moved) > 1e-8, moved, 0.0)[:, order])
    return program, forces[:, numpy.argsort(order)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda forces: forces, None),
        (lambda forces: forces[[0, 2, 1, *range(3, len(forces))]], "unexplained"),
        (lambda forces: numpy.concatenate([forces[:4], -forces[4:5], forces[5:]]), "in supercell 5 of"),
        (lambda forces: numpy.concatenate([forces[:4], 0 * forces[4:5], forces[5:]]), "in supercell 5 of"),
        (lambda forces: forces[:, [0, 1, 3, 2, *range(4, forces.shape[1])]], "unexplained"),
        (lambda forces: forces / 25.7, "look in Ry/bohr"),
    ],
    ids=["as calculated", "exchanged supercells", "another sign", "nothing", "exchanged atoms", "another unit"],
)
def test_forces_of_pairs_that_are_not_those_of_their_displacements_are_refused(pairs, tmp_path, change, words):
    """Force constants of phono3py are symmetric and finite whatever the forces; only the forces tell."""
    program, forces = pairs
    program.forces = change(forces)
    program.save(tmp_path / "phono3py_params.yaml", settings={"force_sets": True})
    if words is None:
        data = read_phonopy_yaml(tmp_path / "phono3py_params.yaml")
        assert determine(data, Choices()).report["force_error_relative"] < 0.02
        assert read_folder(tmp_path, Request(mesh=(3, 3, 3))).third is not None
        return
    with pytest.raises(StudyError, match=words):  # fit and bte go through the same door
        read_folder(tmp_path, Request(mesh=(3, 3, 3)))


def test_different_masses_of_equivalent_atoms_are_refused_where_a_primitive_cell_would_forget_them(phonon, tmp_path):
    """Of four equivalent atoms of a conventional cell one had another mass, which was lost or given to all."""
    from phono3py import Phono3py

    crystal = prototypes.rocksalt()
    unit = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    unit = make_supercell(unit, CONVENTIONAL)
    masses = unit.get_masses()
    masses[2] += 1.0
    places = unit.get_scaled_positions()
    atoms = PhonopyAtoms(numbers=unit.numbers, cell=unit.cell, scaled_positions=places, masses=masses)
    program = Phono3py(atoms, (1, 1, 1), primitive_matrix="auto", log_level=0)
    program.generate_displacements()
    program.forces = numpy.ones((len(program.supercells_with_displacements), 8, 3))
    program.save(tmp_path / "phono3py_params.yaml", settings={"force_sets": True})
    for door in (read_phonopy_yaml, lambda path: read_folder(path.parent, Request((3, 3, 3)))):
        with pytest.raises(StudyError, match=r"yaml: atoms 1 and 3 are equivalent by symmetry and have masses"):
            door(tmp_path / "phono3py_params.yaml")


@pytest.mark.parametrize("calculator", ["qe", "lammps", "abinit", "elk", "cp2k"])
def test_files_of_every_calculator_of_phonopy_come_in_angstrom_and_ev(phonon, tmp_path, calculator):
    from phonopy.file_IO import write_FORCE_SETS
    from phonopy.physical_units import get_calculator_physical_units

    own, full = phonon
    units = get_calculator_physical_units(calculator)
    unit = own.unitcell
    cell = PhonopyAtoms(numbers=unit.numbers, cell=unit.cell / units.distance_to_A,
                        scaled_positions=unit.scaled_positions, masses=unit.masses)  # fmt: skip
    other = Phonopy(cell, own.supercell_matrix, primitive_matrix=numpy.eye(3), calculator=calculator, log_level=0)
    other.dataset = {"natom": len(own.supercell), "first_atoms": [
        {"number": one["number"], "displacement": numpy.array(one["displacement"]) / units.distance_to_A,
         "forces": numpy.array(one["forces"]) / units.force_to_eVperA} for one in own.dataset["first_atoms"]
    ]}  # fmt: skip
    other.save(tmp_path / "phonopy_params.yaml", settings={"force_sets": True})
    data = read_phonopy_yaml(tmp_path / "phonopy_params.yaml")
    assert agrees(data, *phonon)
    assert data.crystal.cell == pytest.approx(read_phonopy_yaml_of(own, tmp_path).crystal.cell)
    (tmp_path / "phonopy_params.yaml").unlink()
    write_FORCE_SETS(other.dataset, filename=tmp_path / "FORCE_SETS")
    other.save(tmp_path / "phonopy_disp.yaml", settings={"force_sets": False})
    data = read_phonopy_yaml(tmp_path / "phonopy_disp.yaml")  # ten decimals of hartree/bohr are few
    assert agrees(data, *phonon, tolerance=2e-6)


def in_units_of(calculator, program):
    """The supercells and forces of a ``Phono3py`` object as a file of another calculator has them."""
    from phono3py import Phono3py
    from phonopy.physical_units import get_calculator_physical_units

    units, unit = get_calculator_physical_units(calculator), program.unitcell
    cell = PhonopyAtoms(numbers=unit.numbers, cell=unit.cell / units.distance_to_A,
                        scaled_positions=unit.scaled_positions, masses=unit.masses)  # fmt: skip
    other = Phono3py(cell, program.supercell_matrix, primitive_matrix=numpy.eye(3), calculator=calculator, log_level=0)
    other.generate_displacements(distance=0.03 / units.distance_to_A, cutoff_pair_distance=100 / units.distance_to_A)
    other.forces = program.forces / units.force_to_eVperA
    return other


@pytest.mark.parametrize("calculator", ["qe", "abinit"])
def test_pairs_of_phono3py_in_units_of_another_calculator(pairs, tmp_path, calculator):
    program, forces = pairs
    program.forces = forces
    program.save(tmp_path / "phono3py_params.yaml", settings={"force_sets": True})
    expected = read_folder(tmp_path, Request(mesh=(3, 3, 3)))
    other = in_units_of(calculator, program)
    other.save(tmp_path / "phono3py_params.yaml", settings={"force_sets": True})
    assert "cutoff_pair_distance" in (tmp_path / "phono3py_params.yaml").read_text()
    own = read_folder(tmp_path, Request(mesh=(3, 3, 3)))
    for found, known in ((own.second, expected.second), (own.third, expected.third)):
        assert numpy.abs(found.values - known.values).max() < 1e-5 * numpy.abs(known.values).max()
    assert numpy.allclose(own.crystal.cell, expected.crystal.cell)
    data = read_phonopy_yaml(tmp_path / "phono3py_params.yaml")
    assert determine(data, Choices()).report["displacement_max_angstrom"] == pytest.approx(0.03 * 3**0.5, abs=1e-6)
    data.folder.file.convert()  # nothing is left to be converted
    assert numpy.allclose(data.folder.file.unit_cell.cell, program.unitcell.cell)
    other.save(tmp_path / "phono3py_disp.yaml", settings={"force_sets": False})
    (tmp_path / "phono3py_params.yaml").unlink()
    numpy.savetxt(tmp_path / "FORCES_FC3", other.forces.reshape(-1, 3))
    again = read_phonopy_yaml(tmp_path / "phono3py_disp.yaml")
    assert again.used == ["phono3py_disp.yaml", "FORCES_FC3"]
    assert numpy.allclose(again.forces, data.forces, atol=1e-6)


def test_units_of_an_unknown_calculator_are_refused(phonon, tmp_path):
    phonon[0].save(tmp_path / "phonopy_params.yaml", settings={"force_sets": True})
    text = (tmp_path / "phonopy_params.yaml").read_text()
    (tmp_path / "phonopy_params.yaml").write_text(text.replace("phonopy:\n", "phonopy:\n  calculator: abc\n", 1))
    with pytest.raises(StudyError, match="phonopy_params.yaml was made for 'abc'") as refused:
        read_phonopy_yaml(tmp_path / "phonopy_params.yaml")
    assert "line 'calculator'" in refused.value.fix


@pytest.mark.parametrize(("factor", "known"), [("14.4", True), ("2.0", True), ("default", True), ("1.0", False)])
def test_born_beside_a_file_of_another_calculator_may_have_its_factor(tmp_path, factor, known):
    """BORN of a run with Quantum ESPRESSO begins with 2.0, e^2 in Ry bohr; its charges are in units of e."""
    lines = [factor, *(" ".join(map(str, tensor.ravel())) for tensor in (2.5 * numpy.eye(3), *BORN))]
    (tmp_path / "BORN").write_text("\n".join(lines) + "\n")
    crystal = prototypes.rocksalt()
    if known:
        assert numpy.allclose(read_born(tmp_path / "BORN", crystal, nac_factor=2.0)[0], BORN)
    else:
        with pytest.raises(StudyError, match=r"line 1: the factor 1.0 is not that of eV and angstrom, 14.3996, nor 2"):
            read_born(tmp_path / "BORN", crystal, nac_factor=2.0)


def test_the_unit_that_force_constants_state_is_converted_or_refused(tmp_path):
    """phonopy writes eV/angstrom.au for siesta and abinit: 1.9 times, which no check of sizes can tell."""
    values = numpy.ones((1, 2, 3, 3))
    for unit, factor in (("eV/angstrom^2", 1.0), ("eV/Angstrom^2", 1.0), ("eV/angstrom.au", 1 / Bohr), ("N/m", None)):
        with h5py.File(tmp_path / "fc2.hdf5", "w") as store:
            store["fc2"], store["physical_unit"] = values, numpy.array([unit.encode()])
        if factor is not None:
            assert read_array(tmp_path / "fc2.hdf5", ("fc2",), 2)[0] == pytest.approx(factor * values, rel=1e-6)
            continue
        with pytest.raises(StudyError, match="is in 'N/m'"):
            read_array(tmp_path / "fc2.hdf5", ("fc2",), 2)


def read_phonopy_yaml_of(phonon, folder):
    phonon.save(folder / "vasp.yaml", settings={"force_sets": True})
    data = read_phonopy_yaml(folder / "vasp.yaml")
    (folder / "vasp.yaml").unlink()
    return data


@pytest.mark.parametrize(
    ("moments", "symbols", "kept"),
    [([1, 1, 1, 1], "Mg Mg O O", 24), ([1, -1, 0, 0], "Mg Mg O O", 24), ([1, -1, 2, -2], "Mg Mg O O", 12),
     ([0, 0, 0, 0], "Mg1 Mg1 O1 O1", 24), ([0, 0, 0, 0], "Mg1 Mg2 O O", 12)],
)  # fmt: skip
def test_moments_and_numbers_that_lower_the_symmetry_are_refused(tmp_path, moments, symbols, kept):
    """Opposite moments that a symmetry operation exchanges leave forces with the symmetry of the elements."""
    cell, height = numpy.diag([2.0, 1.0, 1.0]) @ prototypes.rocksalt().cell, [0.25, 0.5, 0.5]
    double = Atoms("MgMgOO", cell=cell, pbc=True,
                   scaled_positions=[[0, 0, 0], [0.5, 0, 0], height, [0.75, 0.5, 0.5]])  # fmt: skip
    points = "".join(
        f"  - symbol: {symbol}\n    coordinates: [{x:.6f}, {y:.6f}, {z:.6f}]\n    magnetic_moment: {moment}\n"
        for symbol, (x, y, z), moment in zip(symbols.split(), double.get_scaled_positions(), moments)
    )
    lattice = "".join(f"  - {row.tolist()}\n" for row in double.cell.array)
    (tmp_path / "phonopy_disp.yaml").write_text(
        f"phonopy:\n  version: 4\nunit_cell:\n  lattice:\n{lattice}  points:\n{points}"
        "supercell_matrix:\n- [1, 0, 0]\n- [0, 1, 0]\n- [0, 0, 1]\n"
    )
    if kept == 24:
        assert len(read_phonopy_file(tmp_path / "phonopy_disp.yaml").unit_cell) == 4
    else:
        with pytest.raises(StudyError, match=f"leave {kept} of the 24 symmetry operations"):
            read_phonopy_file(tmp_path / "phonopy_disp.yaml")
