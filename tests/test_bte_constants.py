"""Force constants of the folders that ``bte`` runs in: what fits, what is refused, and what rounding does to them."""

import bz2
import gzip
import lzma
import shutil
from dataclasses import replace

import numpy
import pytest
from scipy.constants import angstrom, atomic_mass, e

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.masses import standard_masses
from phonoscreen.crystal.mesh import build_mesh
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.force_constants.invariance import generators
from phonoscreen.formats.bte_folder import Request, read_folder
from phonoscreen.formats.force_constants import write_second_order, write_third_order
from phonoscreen.formats.phonopy import write_second_hdf5, write_third_hdf5
from phonoscreen.formats.shengbte import write_control, write_directory
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, LatticeSum, frequencies_thz
from phonoscreen.phonons.translation import doubts_of_constants, translation_thz
from phonoscreen.stages.other_solvers import read_conductivity
from phonoscreen.transport.solve import solve
from tests.shengbte_files import write_structure
from tests.test_bte_files import run_command
from tests.transport_models import conventional_rocksalt, half_heusler, hexagonal, rocksalt

MESH = ("--grid", 3, 3, 3, "--threads", 1, "--quiet")


@pytest.fixture(scope="module")
def cubic():
    return rocksalt(repetitions=(3, 3, 3))


@pytest.fixture
def folder(cubic, tmp_path):
    write_directory(*cubic, tmp_path / "in", mesh=(3, 3, 3), temperature_k=300)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda blocks: blocks[: len(blocks) // 2], "atoms 1 2 1 and 2 1 1 are not those of the same triplets"),
        (lambda blocks: [*blocks, blocks[6]], "is of the triplet of block 7"),
    ],
)
def test_third_order_constants_with_triplets_missing_or_listed_twice_are_refused(folder, capsys, damage, message):
    """Without the rows of the second atom the conductivity was 65.9 W/m/K instead of 58.4."""
    path = folder / "FORCE_CONSTANTS_3RD"
    blocks = [block.split("\n", 1)[1] for block in path.read_text().split("\n\n")[1:]]
    blocks = [f"{number:5d}\n{block}" for number, block in enumerate(damage(blocks), 1)]
    path.write_text("\n\n".join([f"{len(blocks):5d}", *blocks]) + "\n")
    assert run_command(folder, *MESH) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("factor", "word"), [(0.0, "small"), (0.011, "small"), (100.0, "large")])
def test_third_order_constants_of_no_crystal_are_refused(folder, cubic, capsys, factor, word):
    """All-zero constants gave the conductivity of isotopes alone; 0.011 is Ry/bohr^3 taken for eV/A^3."""
    crystal, _, third = cubic
    write_third_order(replace(third, values=factor * third.values), crystal.cell, folder / "FORCE_CONSTANTS_3RD")
    assert run_command(folder, *MESH) == 2
    assert f"too {word} for any crystal" in capsys.readouterr().err and not list(folder.glob("BTE.*"))


@pytest.mark.parametrize(("change", "said"), [(1.01, "0.99"), (0.998, "0.2")])
def test_another_lattice_constant_than_that_of_the_third_order_is_refused(folder, change, said):
    """1 % gave 57.9 instead of 58.4 W/m/K without a word; the rounding of either file is no difference."""
    path = folder / "CONTROL"
    text = path.read_text()
    path.write_text(text.replace("lfactor=0.1", "lfactor=0.10003"))
    read_folder(folder)
    path.write_text(text.replace("lfactor=0.1", f"lfactor={0.1 * change}"))
    with pytest.raises(StudyError, match=f"differ from those of the cell by {said} %"):
        read_folder(folder)


@pytest.mark.parametrize("order", [[0, 2, 1], [2, 1, 0], [1, 2, 0]])
def test_another_order_of_the_atoms_than_that_of_the_constants_is_refused(tmp_path, order):
    """Three sites of one kind of symmetry: only the places of the neighbours tell the atoms apart."""
    crystal, second, third = half_heusler(repetitions=(3, 3, 3))
    other = replace(crystal, numbers=crystal.numbers[order], masses=crystal.masses[order],
                    scaled_positions=crystal.scaled_positions[order])  # fmt: skip
    write_directory(crystal, second, third, tmp_path, mesh=(3, 3, 3), temperature_k=300)
    line = next(line for line in read_folder(tmp_path).choices if line.startswith("symmetry: F-43m"))
    assert float(line.split()[-2]) < 1e-6
    write_control(other, tmp_path / "CONTROL", repetitions=(3, 3, 3), mesh=(3, 3, 3))
    with pytest.raises(StudyError, match="not for this order of atoms"):
        read_folder(tmp_path)


@pytest.mark.parametrize("make", [rocksalt, conventional_rocksalt, half_heusler, hexagonal])
def test_a_few_operations_generate_the_space_group(make):
    """What holds for them holds for all: their products, in any order, are every operation."""
    crystal, second, _ = make()
    symmetry = find_symmetry(crystal, second.repetitions)
    chosen = generators(symmetry, range(len(symmetry.rotations)))
    key = {(r.tobytes(), a.tobytes()): g for g, (r, a) in enumerate(zip(symmetry.rotations, symmetry.atoms))}
    found, before = set(chosen), 0
    while len(found) > before:
        before = len(found)
        found |= {key[(symmetry.rotations[g] @ symmetry.rotations[h]).tobytes(),
                      symmetry.atoms[g][symmetry.atoms[h]].tobytes()] for g in chosen for h in found}  # fmt: skip
    assert len(found) == len(key) == len(symmetry.rotations) and len(chosen) <= 8


def test_constants_that_nobody_made_symmetric_are_read(folder, cubic):
    """Noise of a hundredth of the largest constants, as of forces without any symmetry."""
    crystal, second, third = cubic
    draw = numpy.random.default_rng(3)
    uneven = second.values + 0.01 * numpy.abs(second.values).max() * draw.uniform(-1, 1, second.values.shape)
    write_second_order(replace(second, values=uneven), folder / "FORCE_CONSTANTS_2ND")
    matrix = DynamicalMatrix(crystal, read_folder(folder).second)(numpy.array([[0.1, 0.2, 0.3]]))[0][0]
    assert numpy.allclose(matrix, matrix.conj().T)
    noise = draw.normal(size=third.values.shape)
    noisy = third.values + 0.005 * numpy.abs(third.values).max() * noise
    symmetric = _over_permutations(replace(third, values=noisy))
    write_third_order(symmetric, crystal.cell, folder / "FORCE_CONSTANTS_3RD")
    line = next(line for line in read_folder(folder).choices if line.startswith("symmetry:"))
    assert 1 < float(line.split()[-2]) < 10


def _over_permutations(third):
    """Constants averaged over the exchange of the second and third atom, which every reader asks for."""
    places = {tuple(row): k for k, row in enumerate(numpy.hstack([third.atoms, third.cells.reshape(-1, 6)]).tolist())}
    other = [places[a, c, b, *y, *x] for (a, b, c), (x, y) in zip(third.atoms.tolist(), third.cells.tolist())]
    return replace(third, values=0.5 * (third.values + third.values[other].swapaxes(2, 3)))


@pytest.mark.parametrize("scell", ["3 2 4", "4 2 3", "2 3 4"])
def test_a_supercell_of_the_right_size_but_another_shape_is_refused(tmp_path, scell):
    """The number of atoms tells nothing there: the constants do, which do not depend on the order of their atoms."""
    write_directory(*rocksalt(repetitions=(3, 2, 4)), tmp_path, mesh=(3, 3, 3), temperature_k=300)
    text = (tmp_path / "CONTROL").read_text()
    (tmp_path / "CONTROL").write_text(text.replace("scell(:)=3 2 4", f"scell(:)={scell}"))
    if scell == "3 2 4":
        assert read_folder(tmp_path).second.repetitions == (3, 2, 4)
    else:
        with pytest.raises(StudyError, match="when two atoms are exchanged"):
            read_folder(tmp_path)


def test_constants_of_phono3py_with_a_conventional_cell(reference, tmp_path):
    """phono3py's Si-PBEsol example, 11x11x11 without isotopes: its README gives 109.1 W/m/K in the relaxation time."""
    import phono3py
    from phono3py.file_IO import write_fc2_to_hdf5, write_fc3_to_hdf5

    source = reference / "other_programs/phono3py_si_pbesol"
    program = phono3py.load(source / "phono3py_disp.yaml", forces_fc3_filename=source / "FORCES_FC3.xz", log_level=0,
                            fc_calculator="traditional")  # fmt: skip
    write_fc2_to_hdf5(program.fc2, filename=str(tmp_path / "fc2.hdf5"), p2s_map=program.phonon_primitive.p2s_map)
    write_fc3_to_hdf5(program.fc3, filename=str(tmp_path / "fc3.hdf5"), p2s_map=program.primitive.p2s_map)
    shutil.copy(source / "POSCAR-unitcell", tmp_path)
    assert run_command(tmp_path, "--grid", 11, 11, 11, "--rta", "--quiet", "--threads", 1) == 0
    kappa = read_conductivity(tmp_path / "BTE.KappaTensorVsT_RTA")
    assert numpy.diag(kappa) == pytest.approx(109.1, rel=0.02)  # broadening instead of tetrahedra


def bare_folder(folder, crystal, second, third, *, digits=16, hdf5=False):
    """POSCAR with few digits, and force constants beside it."""
    folder.mkdir()
    rows = [*crystal.cell, *crystal.scaled_positions]
    lines = [" ".join(f"{x:.{digits}f}" for x in row) for row in rows]
    count = str(len(crystal.numbers))
    text = "\n".join(["crystal", "1.0", *lines[:3], "Mg", count, "Direct", *lines[3:], ""])
    (folder / "POSCAR").write_text(text)
    if hdf5:
        write_second_hdf5(second, folder / "fc2.hdf5")
        write_third_hdf5(third, second.repetitions, folder / "fc3.hdf5")
    else:
        write_second_order(second, folder / "FORCE_CONSTANTS_2ND")
        write_third_order(third, crystal.cell, folder / "FORCE_CONSTANTS_3RD")
    return folder


@pytest.fixture(scope="module")
def close_packed():
    crystal, second, third = hexagonal(repetitions=(4, 4, 2))
    return replace(crystal, masses=standard_masses(crystal.numbers)), second, third


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize("digits", [6, 4])
def test_a_rounded_poscar_gives_the_frequencies_of_the_exact_crystal(close_packed, tmp_path, digits, hdf5):
    """Images at equal distances share a force constant: AlN rounded to five decimals had a spread of 0.3 THz."""
    points = numpy.random.default_rng(0).random((6, 3))
    exact = frequencies_thz(DynamicalMatrix(*close_packed[:2]), points)
    problem = read_folder(bare_folder(tmp_path / "in", *close_packed, digits=digits, hdf5=hdf5), Request((3, 3, 3)))
    ours = frequencies_thz(DynamicalMatrix(problem.crystal, problem.second), points)
    assert numpy.abs(ours - exact).max() < 100 * 10.0**-digits
    assert not problem.warnings and "P6_3/mmc" in " ".join(problem.choices)


def test_coordinates_too_coarse_for_the_tolerance_are_named(close_packed, tmp_path):
    coarse = bare_folder(tmp_path / "in", *close_packed, digits=3)
    (warning,) = read_folder(coarse, Request((3, 3, 3))).warnings
    assert "would be P6_3/mmc" in warning and "more digits" in warning


@pytest.mark.parametrize(("factor", "unit"), [(1 / 48.587, "in Ry/bohr.2"), (1 / 97.174, "hartree/bohr.2"),
                                              (16.0218, "in N/m")])  # fmt: skip
@pytest.mark.parametrize("kind", ["control", "poscar", "hdf5"])
def test_force_constants_in_another_unit_are_refused(close_packed, tmp_path, factor, unit, kind):
    crystal, second, third = close_packed
    scaled = crystal, replace(second, values=factor * second.values), replace(third, values=factor * third.values)
    if kind == "control":
        write_directory(*scaled, tmp_path / "in", mesh=(3, 3, 3), temperature_k=300)
    else:
        bare_folder(tmp_path / "in", *scaled, hdf5=kind == "hdf5")
    with pytest.raises(StudyError, match=unit):
        read_folder(tmp_path / "in", Request((3, 3, 3)))


@pytest.mark.parametrize("ending", ["gz", "xz", "bz2"])
def test_compressed_force_constants_are_found_beside_every_structure(folder, cubic, tmp_path, ending):
    pack = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[ending]
    bare = tmp_path / "bare"
    write_structure(cubic[0], bare)
    for name in ("FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_3RD"):
        for place in (folder, bare):
            (place / f"{name}.{ending}").write_bytes(pack((folder / name).read_bytes()))
    for name in ("FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_3RD"):
        (folder / name).unlink()
    for place in (folder, bare):
        assert read_folder(place, Request((3, 3, 3))).third is not None


def test_only_what_holds_a_crystal_in_place_lets_it_oscillate_as_a_whole(cubic):
    """Springs of k to fixed places oscillate with the root of k over the mass; a crystal by itself does not."""
    crystal, second, _ = cubic
    n = len(crystal.numbers)
    assert translation_thz(crystal, second) < 1e-6
    held = second.values.copy()
    held[range(n), range(n)] += 0.02 * numpy.eye(3)
    expected = numpy.sqrt(n * 0.02 * e / angstrom**2 / (crystal.masses.sum() * atomic_mass)) / (2e12 * numpy.pi)
    for values in (held, 2 * second.values - held):
        assert translation_thz(crystal, replace(second, values=values)) == pytest.approx(expected, rel=1e-6)
    lattice = LatticeSum.from_second_order(crystal, replace(second, values=held))
    assert translation_thz(crystal, lattice) == pytest.approx(expected, rel=1e-6)
    (doubt,) = doubts_of_constants(crystal, replace(second, values=held), None)
    assert "acoustic sum rule" in doubt and f"{expected:.3g} THz" in doubt


def rounded_inas(source, folder, second, third):
    """ShengBTE's own test, InAs, its force constants written with so many decimals; None: as they are."""
    shutil.copy(source / "CONTROL", folder / "CONTROL")
    texts = {"2ND": lzma.open(source / "FORCE_CONSTANTS_2ND.xz", "rt").read(),
             "3RD": (source / "FORCE_CONSTANTS_3RD").read_text()}  # fmt: skip
    for (name, text), decimals, n_columns in zip(texts.items(), (second, third), (3, 4)):
        lines = text.splitlines()
        for number, line in enumerate(lines):
            words = line.split()
            if decimals is not None and len(words) == n_columns and "." in words[-1]:
                lines[number] = " ".join(f"{float(x):.{decimals}f}" if "." in x else x for x in words)
        (folder / f"FORCE_CONSTANTS_{name}").write_text("\n".join(lines) + "\n")


SUM_RULE = "break the acoustic sum rule"
SECOND, THIRD = (f"the {order}-order force constants have 2 decimals" for order in ("second", "third"))


@pytest.mark.parametrize(
    ("second", "third", "named", "kappa"),
    [
        (None, None, [], 26.09), (3, 3, [], 26.0), (2, None, [SUM_RULE, SECOND], 37.18), (None, 2, [THIRD], 23.69),
    ],
)  # fmt: skip
def test_constants_of_inas_that_are_rounded_too_far_are_named(reference, tmp_path, second, third, named, kappa):
    """With two decimals in the second order the conductivity was 37 instead of 26 W/m/K, and nothing said so."""
    rounded_inas(reference / "shengbte_inas", tmp_path, second, third)
    problem = read_folder(tmp_path, Request(full_solution=False))
    assert len(problem.warnings) == len(named)
    assert all(word in text for word, text in zip(named, problem.warnings))
    mesh = build_mesh(problem.crystal, problem.mesh)
    solution = solve(
        problem.crystal, problem.second, problem.third, mesh, problem.settings, correction=problem.correction
    )
    assert numpy.trace(solution.rta[0].kappa) / 3 == pytest.approx(kappa, rel=1e-3)  # as docs/formats.md says
