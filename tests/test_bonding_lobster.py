"""The route through LOBSTER: inputs by pymatgen, outputs of its versions, lobsterpy on its files and on ours."""

import gzip
import json
from types import SimpleNamespace

import h5py
import numpy
import pytest
from ase.build import bulk
from ase.io import write

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.cohp import Cohp, pairs_within
from phonoscreen.bonding.description import describe_folder
from phonoscreen.bonding.kept import read_cohp
from phonoscreen.bonding.lobster import read_lobster, write_contcar, write_lobster
from phonoscreen.bonding.lobster_inputs import FIRST_ENERGY_EV, write_lobster_inputs
from phonoscreen.crystal.constants import Crystal
from phonoscreen.stages.bonding import analyse_structure
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def salt():
    return Crystal.from_ase(bulk("NaCl", "rocksalt", a=5.69))


@pytest.fixture
def cohp(salt):
    """Curves of bands at -12 and -2 eV whose strength falls with the distance; the numbers mean nothing else."""
    atoms, translations, distances = pairs_within(salt.cell, salt.scaled_positions, salt.numbers, 4.5)
    energies = numpy.arange(-15, 5.001, 0.1)
    shape = numpy.exp(-((energies + 2) ** 2)) + numpy.exp(-((energies + 12) ** 2))
    curves = -numpy.exp(-distances)[:, None] * shape
    below = numpy.trapezoid(curves[:, energies <= 1e-6], energies[energies <= 1e-6], axis=1)
    return Cohp(
        energies, numpy.array(["Na", "Cl"])[atoms], atoms, translations, distances, curves, below,
        numpy.zeros(len(atoms)), spilling=0.01, mulliken=numpy.array([0.8, -0.8]), loewdin=numpy.array([0.7, -0.7]),
    )  # fmt: skip


def older(folder):
    """LOBSTER 3: no header in ICOHPLIST, no CHARGE."""
    path = folder / "ICOHPLIST.lobster"
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")
    (folder / "CHARGE.lobster").unlink()


def newer(folder):
    """LOBSTER 5.1 with spin: the strengths of both spins in one row, the curves of the second behind the first.

    ICOHPLIST has a second line of titles and the parts of the orbitals behind each bond, as a file of version 5.1.1.
    """
    path = folder / "ICOHPLIST.lobster"
    _, *rows = path.read_text().splitlines()
    halves = [row.rsplit(maxsplit=1) for row in rows]
    rows = []
    for front, value in halves:
        label, first, second, *rest = front.split()
        spins = f"{float(value) / 2:12.6f} {float(value) / 2:12.6f}"
        orbitals = f"{label} {first}_3s {second}_3p_y {' '.join(rest)}"
        rows += [f"{front} {spins}", f"{orbitals} {spins}"]
    titles = [
        "  COHP#  atomMU  atomNU  distance  translation  ICOHP (at) eF  ICOHP (at) eF",
        "  for spin 1  for spin 2",
    ]
    path.write_text("\n".join([*titles, *rows]) + "\n")
    path = folder / "COHPCAR.lobster"
    title, numbers, *lines = path.read_text().splitlines()
    fields = numbers.split()
    names = [line for line in lines if line[:3] in ("Ave", "No.")]
    values = [line.split() for line in lines[len(names) :]]
    table = [[row[0], *2 * [f"{float(value) / 2:.6f}" for value in row[1:]]] for row in values]
    numbers = " ".join([fields[0], "2", *fields[2:]])
    path.write_text("\n".join([title, numbers, *names, *(" ".join(row) for row in table)]) + "\n")


@pytest.mark.parametrize("version", [None, older, newer])
def test_outputs_of_every_version_give_the_same(cohp, tmp_path, version):
    write_lobster(cohp, tmp_path)
    if version:
        version(tmp_path)
    found = read_lobster(tmp_path)
    assert numpy.array_equal(found.translations, cohp.translations) and numpy.array_equal(found.atoms, cohp.atoms)
    assert found.icohp_ev == pytest.approx(cohp.icohp_ev, abs=2e-5)
    assert found.curves == pytest.approx(cohp.curves, abs=2e-5)
    assert (found.mulliken is None) == (version is older)


def test_version_2_of_lobster_which_lists_no_translations_is_refused(cohp, tmp_path):
    write_lobster(cohp, tmp_path)
    path = tmp_path / "ICOHPLIST.lobster"
    rows = [row.split() for row in path.read_text().splitlines()[1:]]
    title = "  COHP#  atomMU  atomNU     distance          ICOHP(eF) avg. over # bonds  for spin  1"
    path.write_text("\n".join([title, *(" ".join([*row[:4], row[7], "1"]) for row in rows)]) + "\n")
    with pytest.raises(StudyError, match="version 2"):
        read_lobster(tmp_path)


@pytest.mark.parametrize("title", ["LOBSTER v3.1.0", "LOBSTER v4.1.0 (g++ 7.5.0)", "LOBSTER v5.1.1 (g++ 11.4.0)"])
def test_spilling_is_read_from_the_log_of_every_version(reference, cohp, tmp_path, title):
    write_lobster(cohp, tmp_path)
    with gzip.open(reference / "lobster/CsH/lobsterout.gz", "rt") as log:
        text = log.read()
    (tmp_path / "lobsterout").write_text(text.replace("LOBSTER v4.1.0 (g++ 7.5.0)", title))
    assert read_lobster(tmp_path).spilling == pytest.approx(0.0301)


def test_both_spins_of_lobster_are_summed(reference):
    one, both = (read_lobster(reference / "lobster" / name) for name in ("NaCl", "NaCl_spin"))
    assert both.icohp_ev == pytest.approx(one.icohp_ev, abs=2e-3)


def test_inputs_are_those_of_a_calculation_that_lobster_can_read(salt, tmp_path):
    from pymatgen.core import Structure
    from pymatgen.io.lobster import Lobsterin
    from pymatgen.io.vasp.inputs import Incar, Kpoints

    write_lobster_inputs(salt, tmp_path / "nacl", "nacl")
    names = {"INCAR", "KPOINTS", "POSCAR", "POTCAR.spec", "lobsterin"}
    assert {path.name for path in (tmp_path / "nacl").iterdir()} == names
    lobsterin = Lobsterin.from_file(str(tmp_path / "nacl/lobsterin"))
    assert lobsterin["COHPstartEnergy"] == FIRST_ENERGY_EV < -90  # Mg 2p, the deepest that PAW data treat as valence
    assert [line.split() for line in lobsterin["basisfunctions"]] == [["Na", "2p", "3s"], ["Cl", "3p", "3s"]]
    incar = Incar.from_file(tmp_path / "nacl/INCAR")
    assert incar["ISYM"] == 0 and incar["LWAVE"] and incar["NSW"] == 0 and incar["NBANDS"] >= 8
    assert min(Kpoints.from_file(tmp_path / "nacl/KPOINTS").kpts[0]) >= 8
    assert (tmp_path / "nacl/POTCAR.spec").read_text().split() == ["Na_pv", "Cl"]
    volume = Structure.from_file(tmp_path / "nacl/POSCAR").volume
    assert volume == pytest.approx(abs(numpy.linalg.det(salt.cell)))
    strange = Crystal(salt.cell, salt.scaled_positions, numpy.array([11, 110]), salt.masses)
    with pytest.raises(StudyError, match="no inputs of LOBSTER"):
        write_lobster_inputs(strange, tmp_path / "strange", "strange")
    assert not (tmp_path / "strange").exists()


def test_inputs_of_quantum_espresso_keep_what_lobster_needs(salt, tmp_path):
    """Wave functions of the whole mesh, more bands than any basis has functions, and the basis by the PAW data."""
    from ase.io import read
    from pymatgen.io.lobster import Lobsterin
    from pymatgen.io.pwscf import PWInput

    turned = Crystal(salt.cell, salt.scaled_positions[::-1], salt.numbers[::-1], salt.masses[::-1])
    write_lobster_inputs(turned, tmp_path / "nacl", "nacl", "espresso")
    assert {path.name for path in (tmp_path / "nacl").iterdir()} == {"lobster.scf.in", "lobsterin", "CONTCAR"}
    found = PWInput.from_file(tmp_path / "nacl/lobster.scf.in")
    assert found.sections["control"]["calculation"] == "scf" and found.sections["control"]["wf_collect"] is True
    system = found.sections["system"]
    assert system["nosym"] is True and system["noinv"] is True and "nspin" not in system
    assert system["nbnd"] >= 9  # 2s 2p 3s of Na, 3s 3p of Cl
    assert found.kpoints_mode == "automatic" and min(found.kpoints_grid) >= 8 and found.pseudo["Na"] == "Na.UPF"
    atoms = read(tmp_path / "nacl/lobster.scf.in", format="espresso-in")
    assert (atoms.numbers == turned.numbers).all()  # LOBSTER counts the atoms in this order
    assert atoms.cell[:] == pytest.approx(salt.cell, abs=1e-10)
    assert (read(tmp_path / "nacl/CONTCAR", format="vasp").numbers == turned.numbers).all()
    lobsterin = Lobsterin.from_file(str(tmp_path / "nacl/lobsterin"))
    assert lobsterin["userecommendedbasisfunctions"] and "basisfunctions" not in lobsterin
    assert lobsterin["COHPstartEnergy"] == FIRST_ENERGY_EV and lobsterin["cohpGenerator"].startswith("from 0.1 to 6.0")
    write_lobster_inputs(Crystal.from_ase(bulk("FeAl", "cesiumchloride", a=2.9)), tmp_path / "feal", "feal", "espresso")
    iron = read(tmp_path / "feal/lobster.scf.in", format="espresso-in")
    assert "nspin = 2" in (tmp_path / "feal/lobster.scf.in").read_text()
    assert iron.get_initial_magnetic_moments()[0] > 0 == iron.get_initial_magnetic_moments()[1]
    strange = Crystal(salt.cell, salt.scaled_positions, numpy.array([11, 110]), salt.masses)
    with pytest.raises(StudyError, match="no inputs of LOBSTER"):
        write_lobster_inputs(strange, tmp_path / "strange", "strange", "espresso")


def test_potentials_and_atoms_keep_the_order_of_the_crystal(salt, tmp_path):
    from ase.io import read

    turned = Crystal(salt.cell, salt.scaled_positions[::-1], salt.numbers[::-1], salt.masses[::-1])
    write_lobster_inputs(turned, tmp_path, "nacl")
    assert (read(tmp_path / "POSCAR", format="vasp").numbers == turned.numbers).all()
    assert (tmp_path / "POTCAR.spec").read_text().split() == ["Cl", "Na_pv"]


def test_outputs_that_count_the_atoms_in_another_order_are_described_by_their_own_crystal(salt, cohp, tmp_path):
    """The study has Cl before Na, LOBSTER's folder Na before Cl: without its CONTCAR nothing is said of wrong atoms."""
    turned = Crystal(salt.cell, salt.scaled_positions[::-1], salt.numbers[::-1], salt.masses[::-1])
    write_lobster(cohp, tmp_path / "nacl")
    with pytest.raises(StudyError, match="not counted as those of the crystal"):
        analyse_structure(turned, "nacl", "lobster", str(tmp_path))
    write_contcar(salt, tmp_path / "nacl/CONTCAR")
    found = analyse_structure(turned, "nacl", "lobster", str(tmp_path))
    assert "Na1 has an octahedral (CN=6)" in found.values["description"]
    assert found.values["origin"] == "calculated by LOBSTER (lattice constant +0.00 %)"
    other = Crystal(salt.cell, salt.scaled_positions, numpy.array([19, 17]), salt.masses)
    with pytest.raises(StudyError, match="another compound"):
        analyse_structure(other, "nacl", "lobster", str(tmp_path))


def test_what_the_log_of_lobster_warns_of_is_in_the_record(reference):
    found = read_lobster(reference / "lobster/CsH").all_warnings()
    assert "3.0% of the occupied bands lie outside LOBSTER's basis" in found[0]
    assert "268 of 2744 k-points could not be orthonormalized" in found[1]
    assert not read_lobster(reference / "lobster/NaCl_comp_range").warnings


def test_command_writes_the_inputs_of_a_crystal_and_of_a_shard(salt, tmp_path, capsys):
    write(tmp_path / "salt.cif", bulk("NaCl", "rocksalt", a=5.69))
    assert main(["bonding", str(tmp_path / "salt.cif"), "--lobster-inputs", str(tmp_path / "in")]) == 0
    with h5py.File(tmp_path / "0000.h5", "w") as store:
        for name, numbers in (("good", [11, 17]), ("strange", [11, 110])):
            group = store.create_group(name)
            group["cell"], group["scaled_positions"], group["numbers"] = salt.cell, salt.scaled_positions, numbers
    assert main(["bonding", str(tmp_path / "0000.h5"), "--lobster-inputs", str(tmp_path / "in")]) == 1
    assert "inputs of 1 of 2 crystals" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"salt", "good"}


def test_noise_of_the_coordinates_does_not_move_an_atom_to_the_other_side_of_the_cell(salt, cohp, tmp_path):
    noisy = Crystal(salt.cell, salt.scaled_positions - [[2e-16, 0, 1e-17], [0, 0, 0]], salt.numbers, salt.masses)
    write_lobster(cohp, tmp_path)
    write_contcar(noisy, tmp_path / "CONTCAR")
    found = describe_folder(tmp_path, tmp_path / "plot.png")
    assert "Na1 has an octahedral (CN=6)" in found.text
    assert (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("name", "record"),
    [("NaCl", "nacl-225"), ("NaCl_comp_range", "nacl-225"), ("NaCl_spin", "nacl-225"), ("BeTe", "bete-216")],
)
def test_lobsterpy_says_the_same_of_our_records_and_of_lobster(reference, name, record):
    theirs = describe_folder(reference / "lobster" / name)
    with h5py.File(ROOT / "resources/bonding/cohp.h5") as store:
        ours = SimpleNamespace(
            condensed=json.loads(store[record].attrs["lobsterpy"]), which_bonds=store[record].attrs["which_bonds"]
        )
        _, cohp = read_cohp(store[record])
    assert ours.which_bonds == theirs.which_bonds == "cation-anion"
    mine, other = ({site["ion"]: site for site in one.condensed["sites"].values()} for one in (ours, theirs))
    assert set(mine) == set(other)
    for ion, site in other.items():
        assert mine[ion]["env"] == site["env"]
        for partner, bond in site["bonds"].items():
            same = mine[ion]["bonds"][partner]
            assert same["number_of_bonds"] == bond["number_of_bonds"]
            assert same["has_antibdg_states_below_Efermi"] == bond["has_antibdg_states_below_Efermi"]
            assert float(same["ICOHP_mean"]) == pytest.approx(float(bond["ICOHP_mean"]), rel=0.15)
    assert all(sentence.startswith("the antibonding part") for sentence in cohp.all_warnings())


def test_command_takes_crystals_by_the_door_of_every_command(tmp_path, capsys):
    """A site that two elements share is refused, and a folder without a crystal; nothing is calculated for a part."""
    (tmp_path / "shared.cif").write_text(SHARED_SITE)
    (tmp_path / "outputs").mkdir()
    for name, words in (("shared.cif", "occup"), ("outputs", "CONTCAR")):
        assert main(["bonding", str(tmp_path / name), "--lobster-inputs", str(tmp_path / "inputs")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "inputs").exists()


SHARED_SITE = """data_shared
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cs1 Cs 0 0 0 0.5
Rb1 Rb 0 0 0 0.5
Cl1 Cl 0.5 0.5 0.5 1
"""
