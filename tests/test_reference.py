"""Engines: consistency of energies, forces and stress; inputs and outputs of DFT codes; collected outputs; labels."""

import re
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.reference.baselines import evaluate_structure, force_errors
from phonoscreen.reference.collected import CollectedEngine, match_atoms, output_files
from phonoscreen.reference.k_points import k_grid
from phonoscreen.reference.registry import make_engine
from phonoscreen.reference.vasp import VaspCode, incar, read_vasprun
from phonoscreen.stages.labels import label_supercells
from phonoscreen.structures.store import structure_arrays
from phonoscreen.structures.supercells import build_supercell, displaced_supercell, random_displacements

VASP = {"engine": "vasp", "model": "PBE", "command": "vasp_std", "cutoff_ev": 520, "k_spacing_per_angstrom": 0.3}


@pytest.fixture(scope="module")
def potential():
    pytest.importorskip("sevenn", reason="the package sevenn is not installed")
    return make_engine({"engine": "sevennet", "model": "7net-0"}, 1)


@pytest.fixture(scope="module")
def salt():
    return bulk("NaCl", "rocksalt", a=5.69)


@pytest.fixture
def group(tmp_path, salt):
    """A structure's group as displace_supercells writes it."""
    moves = random_displacements(3, 16, 0.03, numpy.random.default_rng(5))
    with h5py.File(tmp_path / "supercells.h5", "w") as store:
        group = store.create_group("nacl-225")
        for name, array in {**structure_arrays(salt), "repetitions": (2, 2, 2), "displacements": moves}.items():
            group[name] = array
        yield group


def displaced(atoms, seed):
    moves = random_displacements(1, len(atoms), 0.03, numpy.random.default_rng(seed))[0]
    return displaced_supercell(atoms, moves)


def test_forces_are_the_gradient_of_the_energy_and_stress_that_of_strain(potential, salt):
    atoms = displaced(build_supercell(salt, (2, 2, 2)), 1)
    _, forces, _ = potential.evaluate(atoms)
    step, direction = 0.01, numpy.random.default_rng(2).standard_normal((16, 3))
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * step * direction
        ends.append(potential.forces(moved)[0])
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(-(forces * direction).sum(), rel=0.02, abs=5e-3)
    assert numpy.abs(forces.sum(axis=0)).max() < 1e-4
    atoms.set_cell(atoms.cell * 0.96, scale_atoms=True)  # under pressure, where the stress is large
    ends = []
    for strain in (0.005, -0.005):
        stretched = atoms.copy()
        stretched.set_cell(atoms.cell * (1 + strain), scale_atoms=True)
        ends.append(potential.forces(stretched)[0])
    stress = potential.evaluate(atoms)[2]
    assert numpy.trace(stress) < -0.05
    assert (ends[0] - ends[1]) / 0.01 == pytest.approx(numpy.trace(stress) * atoms.cell.volume, rel=0.03)


def test_forces_vanish_on_the_perfect_crystal_and_follow_its_symmetry(potential, salt):
    perfect = build_supercell(salt, (2, 2, 2))
    assert numpy.abs(potential.forces(perfect)[1]).max() < 1e-4
    atoms = displaced(perfect, 3)
    rotated = atoms.copy()
    rotated.rotate(90, "z", rotate_cell=True)
    turn = numpy.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert potential.forces(rotated)[1] == pytest.approx(potential.forces(atoms)[1] @ turn.T, abs=2e-4)


def test_a_universal_potential_is_named_as_one(potential):
    assert potential.name == "7net-0 (SevenNet universal potential)" and "DFT" not in potential.name


def test_models_that_would_be_downloaded_and_unknown_engines_are_refused():
    with pytest.raises(StudyError, match="does not ship"):
        make_engine({"engine": "sevennet", "model": "7net-omni"}, 1)
    with pytest.raises(StudyError, match="unknown reference engine"):
        make_engine({"engine": "crystal-ball", "model": "x"}, 1)


def test_engines_that_are_missing_name_the_remedy(tmp_path):
    with pytest.raises(StudyError, match="reference.vasp.command"):
        make_engine({**VASP, "command": None}, 1, tmp_path)
    with pytest.raises(StudyError, match="reference.collected"):
        make_engine({"engine": "collected", "model": "", "folder": str(tmp_path / "no")}, 1)
    try:
        import gpaw  # noqa: F401
    except ImportError:
        with pytest.raises(MachineError, match="gpaw-data"):
            make_engine({**VASP, "engine": "gpaw"}, 1, tmp_path)


@pytest.mark.parametrize("fault, message", [("nan", "not finite"), ("close", "apart"), ("unknown", "does not know Og")])
def test_nonsense_is_refused_before_it_is_calculated(potential, salt, fault, message):
    atoms = build_supercell(salt, (2, 2, 2))
    if fault == "nan":
        atoms.positions[3, 1] = numpy.nan
    elif fault == "close":
        atoms.positions[3] = atoms.positions[2] + 0.1
    else:
        atoms.numbers[3] = 118
    with pytest.raises(StudyError, match=message):
        potential.forces(atoms, "here/0")


def test_k_grid_follows_vasp_s_own_rule(salt):
    """KSPACING of the VASP manual: N = max(1, ceil(|b| / spacing)) with 2 pi in b."""
    assert k_grid(numpy.eye(3) * 4.0, 0.3) == (6, 6, 6)
    assert k_grid(numpy.eye(3) * 100.0, 0.3) == (1, 1, 1)
    lengths = 2 * numpy.pi * numpy.linalg.norm(numpy.linalg.inv(salt.cell.array).T, axis=1)
    for spacing in (0.1, 0.2, 0.3, 0.5):
        assert (lengths / numpy.array(k_grid(salt.cell, spacing)) <= spacing + 1e-9).all()


def test_vasp_inputs_are_those_of_the_study_and_read_by_other_programs(tmp_path, library, salt):
    from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar

    atoms = displaced(build_supercell(salt, (2, 2, 2)), 4)
    (tmp_path / "run").mkdir()
    VaspCode(VASP).write(atoms, tmp_path / "run", "")
    order = numpy.argsort(atoms.numbers, kind="stable")
    settings = Incar.from_file(tmp_path / "run/INCAR")
    assert settings["ENCUT"] == 520 and settings["EDIFF"] == 1e-8 and settings["GGA"].upper() == "PE"
    assert settings["ISPIN"] == 1 and settings["NSW"] == 0 and not settings.get("LDAU") and not settings.get("LSORBIT")
    assert tuple(Kpoints.from_file(tmp_path / "run/KPOINTS").kpts[0]) == k_grid(atoms.cell, 0.3)
    poscar = Poscar.from_file(tmp_path / "run/POSCAR", check_for_potcar=False)
    assert poscar.site_symbols == ["Na", "Cl"] and poscar.natoms == [8, 8]
    assert numpy.abs(poscar.structure.cart_coords - atoms.positions[order]).max() < 1e-6
    potentials = [(library / "potpaw_PBE" / name / "POTCAR").read_text() for name in ("Na_pv", "Cl")]
    assert (tmp_path / "run/POTCAR").read_text() == "".join(potentials)
    assert "ENCUT = 400" in incar(400) and settings["LWAVE"] is False
    VaspCode(VASP).write(atoms, tmp_path / "run", "", keep_state=True)
    assert Incar.from_file(tmp_path / "run/INCAR") == {**settings, "LWAVE": True}


def test_missing_potentials_are_named(tmp_path, library):
    with pytest.raises(StudyError, match="K_sv"):
        VaspCode(VASP).write(bulk("KCl", "rocksalt", a=6.3), tmp_path, "")


@pytest.fixture(scope="module")
def vasprun():
    """A vasprun.xml written by VASP, from the test data that ASE installs."""
    import ase.test

    path = Path(ase.test.__file__).parent / "testdata/vasp/vasprun_pstress.xml"
    if not path.exists():
        pytest.skip("this installation of ASE has no test data")
    return path


def test_vasprun_is_read_as_it_stands_in_the_file(vasprun, tmp_path):
    text = vasprun.read_text()
    last = text[text.rindex("<calculation>") :]
    rows = re.search(r'<varray name="forces" >(.*?)</varray>', last, re.S)[1]
    expected = numpy.array([[float(x) for x in row.split()] for row in re.findall(r"<v>(.*?)</v>", rows)])
    rows = re.search(r'<varray name="stress" >(.*?)</varray>', last, re.S)[1]
    kilobar = numpy.array([[float(x) for x in row.split()] for row in re.findall(r"<v>(.*?)</v>", rows)])
    energy_ev, forces, stress = read_vasprun(vasprun, len(expected))
    assert forces == pytest.approx(expected, abs=1e-8)
    # VASP writes -stress in kilobar; 1 eV/angstrom^3 = 1602.18 kilobar
    assert stress == pytest.approx(-kilobar / 1602.1766208, rel=1e-6, abs=1e-9)
    energies = [float(x) for x in re.findall(r'<i name="e_0_energy">\s*([-\d.]+)', last)]
    assert any(energy_ev == pytest.approx(x, abs=1e-6) for x in energies)
    with pytest.raises(StudyError, match="forces of shape"):
        read_vasprun(vasprun, len(expected) + 1)
    (tmp_path / "cut.xml").write_text(text[: len(text) // 3])
    with pytest.raises(StudyError, match="cannot be read"):
        read_vasprun(tmp_path / "cut.xml", len(expected))


def test_a_vasprun_that_is_not_converged_is_no_result(vasprun, tmp_path):
    text = vasprun.read_text()
    steps = text.count("<scstep>")
    path = tmp_path / "vasprun.xml"
    path.write_text(
        text.replace('name="NELM">    60<', f'name="NELM">    {steps}<').replace("0.00010000", "0.00000000")
    )
    with pytest.raises(StudyError, match=f"did not converge: it stopped at NELM = {steps}"):
        read_vasprun(path, 2)


def test_what_vasp_lacks_on_this_machine_is_no_fault_of_a_structure(tmp_path, monkeypatch, library, salt):
    engine = make_engine({**VASP, "command": "/nowhere/vasp_std"}, 1, tmp_path)
    with pytest.raises(MachineError, match="cannot be started"):
        engine.forces(salt, "nacl-225/0")
    monkeypatch.delenv("VASP_PP_PATH")
    with pytest.raises(MachineError, match="VASP_PP_PATH is not set"):
        engine.forces(salt, "nacl-225/0")


def test_a_dft_code_that_fails_is_an_error_with_its_folder(tmp_path, library, salt):
    engine = make_engine({**VASP, "command": "false"}, 1, tmp_path)
    with pytest.raises(StudyError, match=r"wrote no vasprun.xml[\s\S]*nacl-225/0"):
        engine.forces(salt, "nacl-225/0")


def write_output(path, atoms, forces, energy=-1.0):
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, forces=forces, energy=energy)
    path.parent.mkdir(parents=True, exist_ok=True)
    atoms.write(path, format="extxyz")


def test_collected_outputs_are_found_by_their_displacements_in_any_order_of_atoms(tmp_path, potential, salt):
    perfect = build_supercell(salt, (2, 2, 2))
    supercells = [displaced(perfect, seed) for seed in range(3)]
    truth = [potential.forces(atoms) for atoms in supercells]
    for number in (2, 0, 1):
        shuffle = numpy.random.default_rng(number).permutation(16)
        image = supercells[number][shuffle]
        image.positions[::3] += image.cell[0]
        energy, forces = truth[number]
        write_output(tmp_path / "nacl-225" / f"run{number}/out.extxyz", image, forces[shuffle], energy)
    engine = CollectedEngine(tmp_path)
    for number, atoms in enumerate(supercells):
        energy, forces = engine.forces(atoms, f"nacl-225/{number}")
        assert forces == pytest.approx(truth[number][1], abs=1e-7)
        assert energy == pytest.approx(truth[number][0], abs=1e-6)
    with pytest.raises(
        StudyError, match=r"none of 3 outputs belongs to this supercell; the nearest, .*, differs by 0\.0"
    ):
        engine.forces(displaced(perfect, 9), "nacl-225/9")
    with pytest.raises(StudyError, match="no outputs"):
        engine.forces(perfect, "kcl-225/0")


def test_outputs_of_another_cell_or_other_elements_never_match(salt):
    perfect = build_supercell(salt, (2, 2, 2))
    larger, swapped = perfect.copy(), perfect.copy()
    larger.set_cell(perfect.cell * 1.001, scale_atoms=True)
    swapped.numbers = swapped.numbers[::-1]
    swapped.numbers[0] = 19
    assert match_atoms(perfect, perfect)[1] < 1e-12
    assert match_atoms(perfect, larger)[1] == numpy.inf and match_atoms(perfect, swapped)[1] == numpy.inf


def changed(perfect, atoms, how):
    """Atoms of an output that is not the one wanted."""
    if how == "one atom less":
        return atoms[:-1]
    if how == "other elements":
        atoms.numbers[0] = 19
    elif how == "strained":
        atoms.set_cell(atoms.cell * 1.01, scale_atoms=True)
    elif how == "cell in bohr":
        atoms.set_cell(atoms.cell / Bohr, scale_atoms=True)
    elif how == "displacements in bohr":
        atoms.positions += (1 / Bohr - 1) * (atoms.positions - perfect.positions)
    elif how == "displacements reversed":
        atoms.positions -= 2 * (atoms.positions - perfect.positions)
    return atoms


@pytest.mark.parametrize(
    "how, words",
    [("one atom less", "has 15 atoms instead of 16"), ("other elements", "holds Cl8KNa7 instead of Cl8Na8"),
     ("strained", r"another cell \(lattice vectors differ by 0.\d+ angstrom, factor 1.0100\)"),
     ("cell in bohr", "factor 1.8897; it looks as if it were in bohr"),
     ("displacements in bohr", "displacements are 1.890 times those of this supercell, as if they were in bohr"),
     ("displacements reversed", "displacements are -1.000 times those")],
)  # fmt: skip
def test_outputs_that_do_not_belong_say_why(tmp_path, salt, how, words):
    perfect = build_supercell(salt, (2, 2, 2))
    atoms = displaced(perfect, 1)
    forces = numpy.random.default_rng(0).normal(size=(16, 3))
    wrong = changed(perfect, atoms.copy(), how)
    write_output(tmp_path / "nacl-225/perfect.extxyz", perfect, numpy.zeros((16, 3)))
    write_output(tmp_path / "nacl-225/0.extxyz", wrong, forces[: len(wrong)])
    engine = CollectedEngine(tmp_path)
    engine.forces(perfect, "nacl-225/perfect")
    (tmp_path / "nacl-225/perfect.extxyz").unlink()
    engine._read = {"nacl-225": [own for own in engine._read["nacl-225"] if "/0.extxyz" in own.info["source"]]}
    with pytest.raises(StudyError, match=f"none of 1 outputs belongs to this supercell; the nearest, .*{words}"):
        engine.forces(atoms, "nacl-225/0")


def test_two_outputs_of_one_supercell_must_agree(tmp_path, salt):
    atoms = displaced(build_supercell(salt, (2, 2, 2)), 1)
    forces = numpy.random.default_rng(0).normal(size=(16, 3))
    for number, change in enumerate((0, 1e-5)):
        write_output(tmp_path / f"nacl-225/{number}.extxyz", atoms, forces + change)
    assert CollectedEngine(tmp_path).forces(atoms, "nacl-225/0")[1] == pytest.approx(forces, abs=1e-7)
    write_output(tmp_path / "nacl-225/2.extxyz", atoms, -forces)
    with pytest.raises(StudyError, match="two outputs of this supercell differ by .*0.extxyz and .*2.extxyz"):
        CollectedEngine(tmp_path).forces(atoms, "nacl-225/0")


def test_an_output_that_did_not_converge_spoils_only_its_own_supercell(tmp_path, salt):
    perfect = build_supercell(salt, (2, 2, 2))
    for number in range(2):
        atoms = displaced(perfect, number)
        atoms.info["converged"] = number == 0
        write_output(tmp_path / f"nacl-225/{number}.extxyz", atoms, numpy.ones((16, 3)))
    engine = CollectedEngine(tmp_path)
    engine.forces(displaced(perfect, 0), "nacl-225/0")
    with pytest.raises(StudyError, match=r"did not converge[\s\S]*1.extxyz"):
        engine.forces(displaced(perfect, 1), "nacl-225/1")


@pytest.mark.parametrize("spoiled", ["nan 0 0 0 1.1 0 0 0 1.1", "5000 0 0 0 5000 0 0 0 5000"])
def test_born_charges_that_cannot_be_right_become_the_record_s_reason(tmp_path, salt, group, spoiled):
    folder = tmp_path / "nacl-225"
    folder.mkdir()
    (folder / "BORN").write_text(f"14.4\n2.5 0 0 0 2.5 0 0 0 2.5\n{spoiled}\n-1.1 0 0 0 -1.1 0 0 0 -1.1\n")
    with pytest.raises(StudyError) as failure:
        label_supercells(CollectedEngine(tmp_path), "nacl-225", group, [0])
    assert "BORN" in str(failure.value) and failure.value.fix


def test_outputs_are_found_by_any_name_and_backups_are_not(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("a.extxyz", "b.extxyz.gz", "vasprun.xml", "OUTCAR", "a.extxyz~", ".hidden.extxyz", "notes.txt"):
        (tmp_path / "run" / name).write_text("x")
    (tmp_path / "OUTCAR-3.xz").write_text("x")
    (tmp_path / "pw.out").write_text("     Program PWSCF v.7.2 starts\n")
    found = [path.name for path in output_files(tmp_path)]
    assert sorted(found) == ["OUTCAR-3.xz", "a.extxyz", "b.extxyz.gz", "pw.out", "vasprun.xml"]


def test_labels_are_the_forces_of_the_supercells_asked_for(potential, group, salt):
    outcome = label_supercells(potential, "nacl-225", group, [2, 0])
    assert outcome.arrays["forces"].shape == (2, 16, 3) and list(outcome.arrays["supercell_index"]) == [2, 0]
    moved = build_supercell(salt, (2, 2, 2))
    moved.positions += group["displacements"][2]
    assert outcome.arrays["forces"][0] == pytest.approx(potential.forces(moved)[1], abs=1e-5)
    assert numpy.abs(outcome.arrays["residual_forces"]).max() < 1e-4
    assert outcome.attrs == {"engine": "sevennet", "model": "7net-0 (SevenNet universal potential)"}
    with pytest.raises(StudyError, match="3 exist"):
        label_supercells(potential, "nacl-225", group, [3])


def test_force_errors():
    reference = numpy.random.default_rng(0).standard_normal((2, 5, 3))
    assert force_errors(reference, reference)["force_rmse_mev_per_angstrom"] == 0
    errors = force_errors(reference + 0.1, reference)
    assert errors["force_rmse_mev_per_angstrom"] == pytest.approx(100)
    assert errors["force_rmse_relative"] == pytest.approx(0.1 / numpy.sqrt((reference**2).mean()))
    assert force_errors(0 * reference, reference)["force_rmse_relative"] == pytest.approx(1)


def test_the_reference_as_its_own_baseline_has_no_error(potential, group, tmp_path):
    outcome = label_supercells(potential, "nacl-225", group, [0, 1])
    with h5py.File(tmp_path / "labels.h5", "w") as store:
        labels = store.create_group("nacl-225")
        for name, array in outcome.arrays.items():
            labels[name] = array
        labels.attrs.update(outcome.attrs)
        row, forces = evaluate_structure(potential, "nacl-225", group, labels)
        assert row["force_rmse_mev_per_angstrom"] < 0.01 and forces.shape == (2, 16, 3)
        assert row["reference"] == row["engine"] == potential.name
        broken = SimpleNamespace(name="broken", forces=lambda atoms, label: (_ for _ in ()).throw(StudyError("no")))
        row, forces = evaluate_structure(broken, "nacl-225", group, labels)
        assert row["status"] == "failed" and forces is None


def test_chgnet_is_available_as_a_baseline(potential, salt):
    pytest.importorskip("chgnet", reason="the package chgnet is not installed")
    from phonoscreen.reference.potentials import make_baseline

    engine = make_baseline("chgnet", 1)
    atoms = displaced(build_supercell(salt, (2, 2, 2)), 1)
    _, forces = engine.forces(atoms)
    assert engine.name == "chgnet-0.3.0 (CHGNet universal potential)" and forces.shape == (16, 3)
    # two potentials trained on the same PBE data agree roughly, but not exactly, on a displaced crystal
    assert 0.01 < force_errors(forces, potential.forces(atoms)[1])["force_rmse_relative"] < 0.8
