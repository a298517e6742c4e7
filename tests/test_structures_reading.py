"""The door for crystals: what numbers, cell, positions and masses cannot hold is refused, never dropped."""

import gzip
import time

import numpy
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.data import atomic_masses
from ase.io import write
from ase.spacegroup import Spacegroup
from hypothesis import HealthCheck, given, settings
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.hidden_content import own_masses
from phonoscreen.formats.structure_files import iterate_snapshots, read_crystal, read_crystals, read_text
from phonoscreen.structures.prototypes import classify
from tests.fuzz.strategies import mutated

COLUMNS = "_atom_site_label _atom_site_type_symbol _atom_site_fract_x _atom_site_fract_y _atom_site_fract_z"
XYZ = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3{columns} {info}\n{one}\n{two}\n'
SNAPSHOTS = {"velocities": "momenta"}


def cif(*rows, columns="_atom_site_occupancy", extra="", c=5.64):
    cell = f"_cell_length_a 5.64\n_cell_length_b 5.64\n_cell_length_c {c}\n"
    cell += "".join(f"_cell_angle_{name} 90\n" for name in ("alpha", "beta", "gamma"))
    group = "_symmetry_space_group_name_H-M 'F m -3 m'\n_symmetry_Int_Tables_number 225\n"
    names = "\n".join([*COLUMNS.split(), *columns.split()])
    return f"data_test\n{cell}{group}{extra}\nloop_\n{names}\n" + "\n".join(rows) + "\n"


def xyz(columns="", one="Na 0 0 0", two="Cl 2 2 2", info=""):
    return XYZ.format(columns=columns, info=info, one=one, two=two)


def poscar(*changes):
    lines = ["salt", "1.0", "4 0 0", "0 4 0", "0 0 4", "Na Cl", "1 1", "Direct", "0 0 0", "0.5 0.5 0.5"]
    for number, line in changes:
        lines[number - 1] = line
    return "\n".join(lines) + "\n"


DIAMOND = cif("C1 C 0.125 0.125 0.125 1").replace("5.64", "3.57").replace("_symmetry_Int_Tables_number 225\n", "{1}")
DIAMOND = DIAMOND.replace("F m -3 m", "{0}")
SALT = cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1.0(2)", extra="_chemical_formula_sum 'Na1 Cl1'")
GROUP = "_symmetry_space_group_name_H-M 'F m -3 m'\n_symmetry_Int_Tables_number 225\n"  # makes 8 atoms of 2
REFUSED = [
    ("cif", cif("Na1 Na 0 0 0 0.5", "K1 K 0 0 0 0.5", "Cl1 Cl 0.5 0.5 0.5 1"), "partial occupancy"),
    ("cif", cif("M1 Na 0 0 0 0.8", "Cl1 Cl 0.5 0.5 0.5 1"), "occupied by 0.8"),
    ("cif", cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 -1"), "partial occupancy"),
    ("cif", cif("Na1 Na 0 0 0 A", "Cl1 Cl 0.5 0.5 0.5 .", columns="_atom_site_disorder_group"), "disordered"),
    ("cif", cif("Na1 Na 0 0 0 2", "Cl1 Cl 0.5 0.5 0.5 0", columns="_atom_site_attached_hydrogens"), "hydrogen"),
    ("cif", cif("T1 T 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), "tritium"),
    ("cif", cif("NA1 NA 0 0 0 1", "CL1 CL 0.5 0.5 0.5 1"), "names no element"),
    ("cif", cif("X1 X 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), "names no element"),
    ("cif", cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1", extra="_chemical_formula_sum 'Na H Cl'"), "formula"),
    ("cif", cif("Fe1 Fe 0 0 0 1", "O1 O 0.5 0.5 0.5 1",
                extra="_atom_site_moment_label Fe1\n_atom_site_moment_crystalaxis_x 3.0"), "magnetic"),
    ("cif", cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1", extra="_cell_modulation_dimension 1"), "modulated"),
    ("cif", cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1", c=5.9), "64 symmetry operations"),
    ("cif", cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.01 0 0 1"), "apart"),
    ("cif", cif("Na1 Na nan 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), "without coordinates"),
    ("cif", "data_empty\n", "holds no structure"),
    ("cif", SALT.replace("225", "216"), "different groups"),
    ("cif", SALT.replace("loop_", "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\nloop_"), "operations make Pm-3m"),
    ("cif", SALT.replace(GROUP, "_cell_formula_units_Z 4\n"), "and 4 units of it in the cell"),
    ("cif", SALT.replace(GROUP, "").replace("Na1 Cl1", "Na4 Cl4"), "formula is 'Na4 Cl4'"),
    ("cif", SALT.replace(GROUP, "_cell_formula_units_Z 4\n").replace("Na1 Cl1", "?"), "and 4 units of it in the cell"),
    ("cif", SALT.replace(GROUP, "_symmetry_cell_setting cubic\n"), "_symmetry_cell_setting cubic' is not known"),
    ("cif", SALT.replace(GROUP, "_space_group_IT_number 225.0\n"), "number 225.0' is not known"),
    ("cif", SALT.replace(GROUP, "_space_group_name_H-M_ref 'F m -3 m'\n"), "_ref F m -3 m' is not known"),
    ("cif", SALT.replace(GROUP, "_cell_volume 44.8\n"), "_cell_volume is 44.8 A.3, cell and atoms make 179.4"),
    ("cif", SALT.replace(GROUP, "_exptl_crystal_density_diffrn 2.16\n"), "cell and atoms make 0.5409"),
    ("cif", SALT.replace("\n_symmetry_Int_Tables_number 225", "\n_space_group_name_H-M_alt 'P 1'"), "different groups"),
    ("cif", cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1\nBr1 Br 0.5 0.5 0.5 1"), "shared by two elements"),
    ("cif", cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 ? 0.5 1"), "_atom_site_fract_y is '.'"),
    ("cif", cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1").replace(
        GROUP, "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'z,x,y'\n"), "are no group"),
    ("cif", DIAMOND.format("F d -3 m", ""), "two settings"),
    ("cif", DIAMOND.format("Q 3 z", ""), "'Q 3 z' is not known"),
    ("cif", "\x00\x01" + SALT, "no CIF"),
    ("poscar", poscar() + "0.25 0.25 0.25\n", "more positions than 2"),
    ("poscar", poscar((9, "0 0 0 Cl"), (10, "0.5 0.5 0.5 Na")), "labelled Cl"),
    ("poscar", poscar((6, "1 1"), (7, "Direct"), (8, "0 0 0"), (10, "")), "VASP 4"),
    ("poscar", poscar((6, "D Cl")), "isotopes"),
    ("poscar", poscar((6, "X Cl")), "elements X"),
    ("poscar", poscar((7, "1")), "numbers of atoms"),
    ("poscar", poscar((7, "1 1000000000")), "atoms"),
    ("poscar", poscar((8, "0 0 0")), "neither Direct nor Cartesian"),
    ("poscar", poscar((2, "nan")), "scaling factor"),
    ("poscar", poscar((8, "Selective\nDirect"), (9, "0 0 0 F F F"), (10, "0.5 0.5 0.5 T T T")), "held fixed"),
    ("poscar", poscar() + "Cartesian\n0.1 0 0\n0 0.1 0\n", "velocities"),
    ("poscar", poscar((5, "0 0 0")), "no volume"),
    ("extxyz", xyz(info='pbc="F F F"'), "repeats in 0 directions"),
    ("extxyz", xyz(info='pbc="T T F"'), "repeats in 2 directions"),
    ("extxyz", "2\n\nNa 0 0 0\nCl 2 2 2\n", "no cell"),
    ("extxyz", xyz(":magmoms:R:1", "Fe 0 0 0 3.0", "O 2 2 2 0"), "magnetic moments"),
    ("extxyz", xyz(":initial_magmoms:R:3", "Fe 0 0 0 0 0 -3", "O 2 2 2 0 0 0"), "magnetic moments"),
    ("extxyz", xyz(info="magmom=4.0"), "magnetic moments"),
    ("extxyz", xyz(":initial_charges:R:1", "Na 0 0 0 1", "Cl 2 2 2 -1"), "charges"),
    ("extxyz", xyz(":spin:R:3", "Fe 0 0 0 0 0 2", "O 2 2 2 0 0 0"), "magnetic moments"),
    ("extxyz", xyz(info="total_magnetization=4.0"), "magnetic moments"),
    ("extxyz", xyz(":isotope:I:1", "Na 0 0 0 23", "Cl 2 2 2 37"), "isotopes"),
    ("extxyz", xyz(":Z:I:1", "Na 0 0 0 11", "Cl 2 2 2 11"), "element 11 by its column Z"),
    ("extxyz", xyz(info="unit=bohr"), "bohr"),
    ("extxyz", xyz(info="charge=1"), "charges"),
    ("extxyz", xyz(":occupancy:R:1", "Na 0 0 0 0.5", "Cl 2 2 2 1"), "occupied"),
    ("extxyz", xyz(":move_mask:L:1", "Na 0 0 0 F", "Cl 2 2 2 T"), "held fixed"),
    ("extxyz", xyz(":momenta:R:3", "Na 0 0 0 0 1 0", "Cl 2 2 2 0 0 0"), "velocities"),
    ("extxyz", xyz(":masses:R:1", "Na 0 0 0 22.99", "Cl 2 2 2 1"), "a mass of 1 u for Cl"),
    ("extxyz", xyz(":masses:R:1", "Li 0 0 0 6.0", "Li 2 2 2 7.016"), "masses of 6 and 7.016 u"),
    ("extxyz", xyz(":mass:R:1", "Li 0 0 0 6.015", "Cl 2 2 2 35.45"), "a column mass of other masses"),
    ("extxyz", xyz(two="D 2 2 2"), "isotope of H"),
    ("extxyz", xyz(two="X 2 2 2"), "without an element"),
    ("extxyz", xyz(two="Cl nan 2 2"), "not finite"),
    ("extxyz", xyz(two="Cl 0.1 0 0"), "0.100 angstrom apart"),
    ("extxyz", xyz(two="Cl 1e300 2 2"), "coordinate"),
    ("extxyz", xyz(two="Cl 2 2 2 7"), "columns"),
    ("extxyz", xyz(":forces:R:1000000000"), "columns"),
    ("extxyz", xyz().replace("2\n", "2000000000\n", 1), "no number of atoms"),
    ("extxyz", xyz().replace("4 0 0 0 4 0 0 0 4", "1e-5 0 0 0 1e5 0 0 0 1e5"), "1e-05 angstrom apart"),
    ("extxyz", xyz().replace("4 0 0 0 4 0 0 0 4", "40 0 0 0 40 0 0 0 40"), "cubic angstrom per atom"),
    ("extxyz", xyz().replace("4 0 0 0 4 0 0 0 4", "1 0 0 0 1 0 0 0 1"), "cubic angstrom per atom"),
    ("extxyz", xyz().replace("4 0 0 0 4 0 0 0 4", "1 0 0 0 1e4 0 0 0 1"), "lattice vector of 1e+04"),
]  # fmt: skip


@pytest.mark.parametrize("kind, text, words", REFUSED, ids=[f"{kind}: {words}" for kind, _, words in REFUSED])
def test_what_cannot_be_held_is_refused_with_a_reason_and_a_remedy_at_once(tmp_path, kind, text, words):
    path = tmp_path / {"cif": "a.cif", "poscar": "POSCAR", "extxyz": "a.extxyz"}[kind]
    path.write_text(text)
    begin = time.process_time()
    with pytest.raises(StudyError, match=words.replace("+", r"\+")) as error:
        read_crystal(path)
    assert error.value.fix and str(path) in error.value.where
    assert time.process_time() - begin < 1.5
    # Velocities and a missing cell are no hindrance for a force model; everything else is.
    (snapshot,) = iterate_snapshots(path)
    assert (snapshot.error is None) == (words in ("velocities", "no cell")), snapshot.error


@pytest.mark.parametrize(
    "kind, text",
    [
        ("cif", SALT),
        ("cif", SALT.replace(GROUP, GROUP + "_cell_formula_units_Z 4\n_cell_volume 179.41(3)\n")),
        ("cif", SALT.replace(GROUP, GROUP + "_cell_formula_units_Z 4\n").replace("Na1 Cl1", "Na4 Cl4")),
        ("cif", SALT.replace(GROUP, GROUP + "_exptl_crystal_density_diffrn 2.163\n_symmetry_cell_setting cubic\n")),
        ("cif", SALT.replace(" Na ", " Na1+ ").replace(" Cl ", " Cl1- ")),
        ("cif", "# made by hand\n\n" + SALT.replace(" Na ", " Na+1 ").replace(" Cl ", " Cl-1 ")),
        ("poscar", poscar((9, "0 0 0 Na1"), (10, "0.5 0.5 0.5 Cl"))),
        ("poscar", poscar()),
        ("poscar", poscar((8, "Selective dynamics\nDirect"), (9, "0 0 0 T T T"), (10, "0.5 0.5 0.5 T T T"))),
        ("poscar", poscar((2, "-64.0"))),
        ("extxyz", xyz()),
        ("extxyz", xyz(":magmoms:R:1", "Na 0 0 0 0.001", "Cl 2 2 2 0")),
        ("extxyz", xyz(":forces:R:3", "Na 0 0 0 0 0 1", "Cl 2 2 2 0 0 -1", "energy=-3.2 charge=0 spin=1")),
        ("extxyz", xyz(":mass:R:1", "Na 0 0 0 22.99", "Cl 2 2 2 35.453")),
        ("extxyz", xyz(":move_mask:L:3", "Na 0 0 0 T T T", "Cl 2 2 2 T T T", 'pbc="T T T"')),
    ],
)
def test_what_takes_nothing_away_is_welcome(kind, text):
    (atoms,) = read_text(text, kind)
    assert sorted(set(atoms.symbols)) == ["Cl", "Na"] and atoms.pbc.all() and not atoms.has("masses")


def test_files_of_pymatgen_with_operations_and_oxidation_numbers_are_welcome():
    lattice = Lattice.from_parameters(3.5, 3.5, 7.0, 90, 90, 120)
    layers = Structure(lattice, ["Mg2+", "F-", "F-"], [[0, 0, 0], [1 / 3, 2 / 3, 0.2], [2 / 3, 1 / 3, 0.8]])
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for structure, prototype in ((layers, "164-AB2"), (salt, "225-AB")):
        for symprec in (None, 0.01):
            (atoms,) = read_text(str(CifWriter(structure, symprec=symprec)), "cif")
            assert classify(atoms, 0.01).prototype == prototype


@pytest.mark.parametrize("name", ["F d -3 m :2", "F d -3 m Z", "F d -3 m :1", "Fd-3mS"])
def test_the_origin_of_a_space_group_is_that_of_its_name_or_of_the_operations(name):
    """ASE takes the first origin whatever the name says: 16 atoms for ``:2``, and knows no name with an origin."""
    second = name.endswith(("2", "Z"))
    for operations in (False, True):
        rows = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(
            f"'{triplet(rotation, shift)}'" for rotation, shift in Spacegroup(227, 1 + second).get_symop()
        )
        text = DIAMOND.format(name, f"_symmetry_Int_Tables_number 227\n{rows if operations else ''}\n")
        (atoms,) = read_text(text if second else text.replace("0.125 0.125 0.125", "0 0 0"), "cif")
        assert len(atoms) == 8 and atoms.get_distance(0, 4, mic=True) < 2.6
        assert sorted(atoms.get_all_distances(mic=True)[0])[1] == pytest.approx(3.57 * 3**0.5 / 4, abs=1e-3)


@pytest.mark.parametrize("name", ["Fm3m", "F m 3 m", "FM-3M", "fm-3m", "F M -3 M", "F_m_3_m", "F m {bar 3} m"])
def test_old_and_odd_spellings_of_a_space_group_are_understood(name):
    group = "_symmetry_space_group_name_H-M 'F m -3 m'\n_symmetry_Int_Tables_number 225\n"
    (atoms,) = read_text(SALT.replace(group, f"_symmetry_space_group_name_H-M '{name}'\n"), "cif")
    assert len(atoms) == 8 and classify(atoms, 0.01).prototype == "225-AB"


def test_sites_without_symmetry_that_leave_the_cell_empty_are_refused():
    """The asymmetric unit of rocksalt, diamond and zincblende in the cubic cell; whole cells need no symmetry."""
    bare = "data_x\n_cell_length_a {0}\n_cell_length_b {0}\n_cell_length_c {0}\n_cell_angle_alpha 90\n"
    bare += "_cell_angle_beta 90\n_cell_angle_gamma 90\n{1}loop_\n" + "\n".join(COLUMNS.split()) + "\n"
    salt, places = ("Na1 Na 0 0 0", "Cl1 Cl 0.5 0.5 0.5"), ((0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
    for length, rows, word in (
        (5.64, salt, "Na has no neighbour"), (3.57, ("C1 C 0 0 0",), "C has no neighbour"),
        (5.65, ("Ga1 Ga 0 0 0", "As1 As 0.25 0.25 0.25"), "fill 0.08 of the cell"),
        (5.64, ("Na1 Na 0 0 0", "Cl1 Cl 0.5 0 0"), "fill 0.13 of the cell"),
    ):  # fmt: skip
        with pytest.raises(StudyError, match=f"{word}.*states no symmetry.*\n.*\n?.*'P 1'"):
            read_text(bare.format(length, "") + "\n".join(rows) + "\n", "cif")
        said = "_symmetry_space_group_name_H-M 'P 1'\n"
        assert len(read_text(bare.format(length, said) + "\n".join(rows) + "\n", "cif")[0]) == len(rows)
    whole = [f"{name}{n} {name} {x} {y} {z}" for name, a in (("Na", 0), ("Cl", 0.5))
             for n, (x, y, z) in enumerate([(a, a, a), *((p + a, q + a, r + a) for p, q, r in places)])]  # fmt: skip
    (atoms,) = read_text(bare.format(5.64, "") + "\n".join(whole) + "\n", "cif")
    assert classify(atoms, 0.01).prototype == "225-AB"


def test_a_hall_symbol_alone_is_the_space_group():
    """It was read over: rocksalt became caesium chloride in the same cell, two atoms for eight, without a word."""
    group = "_symmetry_space_group_name_H-M 'F m -3 m'\n_symmetry_Int_Tables_number 225\n"
    assert group in SALT
    for symbol in ("-F 4 2 3", "-f_4_2_3"):
        (atoms,) = read_text(SALT.replace(group, f"_space_group_name_Hall '{symbol}'\n"), "cif")
        assert len(atoms) == 8 and classify(atoms, 0.01).prototype == "225-AB"
    origins = {"F 4d 2 3 -1d": "0 0 0", "-F 4vw 2vw 3": "0.125 0.125 0.125"}
    for symbol, place in origins.items():
        text = DIAMOND.replace("_symmetry_space_group_name_H-M '{0}'\n{1}", f"_space_group_name_Hall '{symbol}'\n")
        text = text.replace("0.125 0.125 0.125", place)
        (atoms,) = read_text(text, "cif")
        assert classify(atoms, 0.01).prototype == "227-A" and len(atoms) == 8
    with pytest.raises(StudyError, match="'Q 3 z' is not known"):
        read_text(SALT.replace(group, "_space_group_name_Hall 'Q 3 z'\n"), "cif")
    with pytest.raises(StudyError, match="different groups"):
        read_text(SALT.replace("loop_", "_symmetry_space_group_name_Hall 'P 1'\nloop_", 1), "cif")


def triplet(rotation, shift):
    """A symmetry operation as CIF writes it."""
    rows = []
    for row, offset in zip(rotation, shift):
        rows.append(
            "".join(f"{'+' if n > 0 else '-'}{axis}" for n, axis in zip(row, "xyz") if n) + f"+{offset % 1:.6f}"
        )
    return ",".join(rows)


def test_the_cell_shows_the_setting_of_rhombohedral_and_monoclinic_groups():
    text = cif("Bi1 Bi 0.23 0.23 0.23 1").replace("_symmetry_Int_Tables_number 225\n", "")
    (atoms,) = read_text(text.replace("F m -3 m", "R -3 m").replace("5.64", "4.5").replace(" 90\n", " 57\n"), "cif")
    assert len(atoms) == 2
    for angle, name in (("beta", "P 1 21/c 1"), ("beta", "P2_1/c"), ("gamma", "P 21/m"), ("beta", "P 21/m")):
        skew = text.replace(f"_cell_angle_{angle} 90", f"_cell_angle_{angle} 97").replace("F m -3 m", name)
        assert len(read_text(skew.replace("0.23 0.23 0.23", "0.11 0.07 0.40"), "cif")[0]) == 4


def test_masses_are_carried_to_the_primitive_cell_and_deuterium_keeps_its_name():
    (deuteride,) = read_text(cif("Li1 Li 0 0 0 1", "D1 D 0.5 0.5 0.5 1"), "cif")
    classified = classify(deuteride, 0.01)
    assert classified.formula == "LiD" and own_masses(classified.atoms) == {1: pytest.approx(2.01410178)}
    (pure,) = read_text(xyz(":masses:R:1", "Li 0 0 0 7.016", "F 2 2 2 18.998"), "extxyz")
    assert own_masses(classify(pure, 0.01).atoms) == {3: 7.016}
    natural = f"Li 0 0 0 {atomic_masses[3]}"
    assert not read_text(xyz(":masses:R:1", natural, f"F 2 2 2 {atomic_masses[9]}"), "extxyz")[0].has("masses")


def test_files_with_several_structures_lose_none(tmp_path):
    (tmp_path / "two.cif").write_text(SALT + SALT.replace("data_test", "data_more").replace("Na", "K"))
    found = read_crystals(tmp_path / "two.cif")
    assert [reading.name for reading in found] == ["0", "1"]
    assert [str(reading.atoms.symbols) for reading in found] == ["Na4Cl4", "K4Cl4"]
    (tmp_path / "three.extxyz").write_text(xyz() + xyz(two="Cl 2 two 2") + xyz(one="K 0 0 0"))
    found = read_crystals(tmp_path / "three.extxyz")
    assert [reading.error is None for reading in found] == [True, False, True]
    with pytest.raises(StudyError, match="holds 3 structures"):
        read_crystal(tmp_path / "three.extxyz")


def test_compressed_files_and_other_formats_of_ase_pass_the_same_door(tmp_path):
    with gzip.open(tmp_path / "salt.cif.gz", "wt") as stream:
        stream.write(SALT)
    assert len(read_crystal(tmp_path / "salt.cif.gz")) == 8
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    write(tmp_path / "salt.traj", atoms)
    assert len(read_crystal(tmp_path / "salt.traj")) == 2
    for change in ({"magmoms": [2, 0]}, {"masses": [22.99, 70.0]}, {"constraint": FixAtoms([0])}, {"pbc": [1, 1, 0]}):
        changed = Atoms(atoms, **change)
        write(tmp_path / "changed.traj", changed)
        with pytest.raises(StudyError):
            read_crystal(tmp_path / "changed.traj")
    for name, content in (("noise.dat", b"\x00\xff" * 50), ("cut.cif.gz", gzip.compress(b"x" * 999)[:30])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StudyError):
            read_crystal(tmp_path / name)
    for read in (read_crystal, read_crystals, lambda path: list(iterate_snapshots(path))):  # no property of a structure
        with pytest.raises(StudyError, match="cannot be opened"):
            read(tmp_path / "nothing.cif")


LAMMPS = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4\n"
LAMMPS += "ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 2 2 2 2\n"
ESPRESSO = """&control
/
&system
 ibrav=0, nat=2, ntyp=2 {}
/
&electrons
/
ATOMIC_SPECIES
Li {} Li.upf
H  {} H.upf
CELL_PARAMETERS angstrom
4 0 0
0 4 0
0 0 4
ATOMIC_POSITIONS crystal
Li 0 0 0
H .5 .5 .5
K_POINTS gamma
"""
ABINIT = """acell 3*4.0 angstrom  # not bohr
rprim 1 0 0  0 1 0  0 0 1
natom 2 ntypat 2 znucl 3 1 typat 1 2
xred 0 0 0 1/2 0.5d0 .5
"""
SHELX = "TITL LiH\nCELL 1.0 4 4 4 90 90 90\nLATT -1\nSFAC Li H\nLi 1 0 0 0 1.0\nH 2 .5 .5 .5 1.0\nEND\n"
STUDIO = (
    "<XSD><AtomisticTreeRoot><SymmetrySystem><MappingSet><MappingFamily><IdentityMapping>"
    '<Atom3d Components="Li"/><Atom3d Components="H" XYZ="0.5,0.5,0.5"/><SpaceGroup GroupName="{}" AVector="4,0,0" '
    'BVector="0,4,0" CVector="0,0,4"/></IdentityMapping></MappingFamily></MappingSet></SymmetrySystem>'
    "</AtomisticTreeRoot></XSD>\n"
)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a.lammpstrj", LAMMPS, "lammps-dump-text does not name the elements"),
        ("a.pwi", ESPRESSO.format(", nspin=2, starting_magnetization(1)=0.5", "6.94", "1.008"), "magnetic"),
        ("a.pwi", ESPRESSO.format("", "6.94", "2.014"), "a mass of 2.014 u for H"),
        ("a.pwi", ESPRESSO.format("! starting_magnetization(1)=0.5", "6.94", "1.008"), None),
        ("a.pwi", ESPRESSO.format(", tot_charge = 1.0", "6.94", "1.008"), "a charge of 1.0 e"),
        ("a.pwi", ESPRESSO.format(", nspin=2, tot_magnetization=2", "6.94", "1.008"), "magnetic"),
        ("a.pwi", ESPRESSO.format("", "6.94", "1.008").replace("nat=2", "nat=1"), "2 positions are listed, nat is 1"),
        ("a.pwi.gz", ESPRESSO.format("", "6.94", "2.014"), "a mass of 2.014 u for H"),
        ("a.in", ESPRESSO.format("", "6.94", "1.008").replace("&", " &"), None),
        ("a@1.in", ESPRESSO.format("", "6.94", "1.008").replace(".5 .5 .5", ".5 .5 .5 ! hydrogen"), None),
        ("a.in", "tasks\n 0\navec\n 4 0 0\n 0 4 0\n 0 0 4\n", "not known"),
        ("a.abi", ABINIT, None),
        ("a.abi", "! acell 3*9.0 xred 0 0 0 .25 .25 .25\n" + ABINIT, None),
        ("a.abi", ABINIT.replace("xred 0 0 0 1/2 0.5d0 .5", "xcart 0 0 0 2 2 2 angstrom"), None),
        ("a.abi", ABINIT + "scalecart 1.1 1 1\n", "scalecart changes the crystal"),
        ("a.abi", ABINIT + "amu 6.94 2.014\n", "amu changes the crystal"),
        ("a.abi", ABINIT + "cellcharge 1\n", "cellcharge changes the crystal"),
        ("a.abi", ABINIT + "cellcharge 0\n", None),
        ("a.abi", ABINIT.replace("acell", "ndtset 2 acell1"), "several data sets"),
        ("a.res", SHELX, None),
        ("a.res", SHELX.replace("LATT -1", "LATT 4"), "symmetry makes further atoms"),
        ("a.res", SHELX.replace("LATT -1\n", ""), "symmetry makes further atoms"),
        ("a.res", SHELX.replace("SFAC", "SYMM -x,-y,z\nSFAC"), "symmetry makes further atoms"),
        ("a.res", SHELX.replace(".5 1.0", ".5 0.5"), "occupied by 0.5"),
        ("a.res", SHELX.replace(".5 1.0", ".5 1.0 2.0"), "seventh column"),
        ("a.res", SHELX.replace("END\n", ""), "the file is cut"),
        ("a.xsd", STUDIO.format("P1"), None),
        ("a.xsd", STUDIO.format("FM-3M"), "symmetry FM-3M makes further atoms"),
        ("a.nwi", "geometry units angstrom\n system crystal\n lat_a 4", "is not read here"),
        ("a.unheard", "of", "is not read here"),
    ],
)
def test_what_readers_of_other_formats_guess_drop_or_misread_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    (reading,) = read_crystals(tmp_path / name)
    assert (reading.error is None) if words is None else (words in str(reading.error))
    if reading.atoms is not None:
        assert sorted(reading.atoms.symbols) == ["H", "Li"]
        assert reading.atoms.cell.array == pytest.approx(4 * numpy.eye(3))
        assert reading.atoms.get_distance(0, 1) == pytest.approx(2 * 3**0.5)


def test_a_skew_cell_is_the_crystal_of_its_reduced_one():
    skew = bulk("NaCl", "rocksalt", a=5.6)
    skew.set_cell(skew.cell.array + [[0, 0, 0], 40 * skew.cell[0], -70 * skew.cell[0]])
    write_text = xyz(one="Na 0 0 0", two="Cl 2.8 0 0").replace(
        "4 0 0 0 4 0 0 0 4", " ".join(map(str, skew.cell.array.ravel()))
    )
    (atoms,) = read_text(write_text, "extxyz")
    assert classify(atoms, 0.01).prototype == "225-AB"
    left = bulk("ZnS", "wurtzite", a=3.8, c=6.2)
    left.set_cell(left.cell.array[[1, 0, 2]])
    assert classify(left, 0.01).prototype == "186-AB"


SEEDS = {"cif": [SALT, SALT + SALT], "poscar": [poscar(), poscar((8, "Selective\nCartesian"))],
         "extxyz": [xyz(), xyz() + xyz(":masses:R:1", "Li 0 0 0 7.016", "F 2 2 2 18.998")]}  # fmt: skip


@pytest.mark.parametrize("kind", SEEDS)
def test_mutated_files_are_read_in_full_or_refused(kind):
    @settings(max_examples=100, deadline=5000, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(mutated(SEEDS[kind]))
    def read(text):
        try:
            structures = read_text(text, kind)
        except StudyError:
            return
        for atoms in structures:
            assert len(atoms) and numpy.isfinite(atoms.positions).all() and numpy.isfinite(atoms.cell.array).all()
            assert (atoms.numbers > 0).all() and atoms.pbc.all() and 1 <= atoms.cell.volume / len(atoms) <= 500

    read()
