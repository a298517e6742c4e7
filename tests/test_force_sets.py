"""Forces that others calculated: found, checked one by one, collected, and phonopy's frequencies from them."""

import io
import json
import shutil
import tarfile

import h5py
import numpy
import pandas
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.masses import standard_masses
from phonoscreen.force_constants.basis import build_basis, write_basis
from phonoscreen.force_constants.fit import FitterPool
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.formats.force_sets import find_force_sets, force_set_name, read_force_set
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from phonoscreen.reference.force_sets import ForceSetEngine
from phonoscreen.reference.registry import engines
from phonoscreen.stages.displaced_supercells import displace_structure
from phonoscreen.stages.force_constants import fit_structure
from phonoscreen.stages.labels import label_supercells
from phonoscreen.structures.force_sets import candidates_of_force_sets, check_settings, collect_force_sets
from phonoscreen.structures.relaxation import relax_structure
from tests.conftest import reference_folder
from tests.phonondb import archives, of_today, phonopy_of_compound, read_compound, their_points
from tests.supercell_files import make_model, write_dfset, write_tdep, write_vasprun

LIMITS = {"force_max_ev_per_angstrom": 0.001, "stress_max_gpa": 0.05, "steps_max": 10}


@pytest.fixture(scope="module")
def model():
    return make_model(n_supercells=5)


def write_espresso(path, atoms, converged=True, cutoff=60.0):
    """An output of pw.x as short as readers allow."""
    symbols, cell, bohr = atoms.get_chemical_symbols(), atoms.cell.array, 0.529177210903
    kinds = list(dict.fromkeys(symbols))
    rows = [f"{k + 1:10d}           {s:3s} tau({k + 1:4d}) = ( {x:14.9f} {y:14.9f} {z:14.9f} )"
            for k, (s, (x, y, z)) in enumerate(zip(symbols, atoms.positions / bohr))]  # fmt: skip
    rydberg = atoms.calc.results["forces"] * bohr / 13.605693122994
    forces = [f"     atom {k + 1:4d} type {kinds.index(s) + 1:2d}   force = {x:15.10f} {y:15.10f} {z:15.10f}"
              for k, (s, (x, y, z)) in enumerate(zip(symbols, rydberg))]  # fmt: skip
    axes = [f"               a({k + 1}) = ( {x:12.8f} {y:12.8f} {z:12.8f} )" for k, (x, y, z) in enumerate(cell / bohr)]
    species = [f"        {kind}             1.00    10.00000     {kind}( 1.00)" for kind in kinds]
    good, bad = "convergence has been achieved in   9 iterations", "convergence NOT achieved after 100 iterations"
    said = good if converged else bad
    path.write_text("\n".join([
        "     Program PWSCF v.7.2 starts on  1Jan2026 at  0: 0: 0", "",
        "     bravais-lattice index     =            0", "     lattice parameter (alat)  =       1.0000  a.u.",
        f"     number of atoms/cell      = {len(atoms):12d}", f"     number of atomic types    = {len(kinds):12d}",
        f"     kinetic-energy cutoff     = {cutoff:12.4f}  Ry", "     Exchange-correlation= PBESOL", "",
        "     celldm(1)=   1.000000  celldm(2)=   0.000000  celldm(3)=   0.000000", "",
        "     crystal axes: (cart. coord. in units of alat)", *axes, "",
        "     atomic species   valence    mass     pseudopotential", *species, "",
        "   Cartesian axes", "", "     site n.     atom                  positions (alat units)", *rows, "",
        "     number of k points=     1", "                       cart. coord. in units 2pi/alat",
        "        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   2.0000000", "",
        "!    total energy              =     -10.00000000 Ry", "", f"     {said}", "",
        "     Forces acting on atoms (cartesian axes, Ry/au):", "", *forces, "", "     Total force =     0.000000", "",
        "   JOB DONE.", "",
    ]))  # fmt: skip


WRITERS = {
    "vasp": lambda folder, number, atoms: write_vasprun(folder / "vasprun.xml", atoms),
    "espresso": lambda folder, number, atoms: write_espresso(folder / "scf.pwo", atoms),
    "extxyz": lambda folder, number, atoms: write(folder / "forces.extxyz", atoms),
}


def write_tree(folder, model, kind="extxyz", crystal=True, snapshots=None):
    """A folder of one crystal with a folder for each calculation."""
    folder.mkdir(parents=True, exist_ok=True)
    if crystal:
        write(folder / "POSCAR-unitcell", model.unit_cell, format="vasp", direct=True)
    for number, atoms in enumerate(model.snapshots() if snapshots is None else snapshots):
        place = folder / f"disp-{number:03d}"
        place.mkdir()
        WRITERS[kind](place, number, atoms)


def collect(folder, tmp_path, allowed=()):
    paths = [tmp_path / name for name in ("sets.h5", "calculations.parquet", "digests.json")]
    collect_force_sets(folder, *paths, tmp_path / "unpacked", allowed)
    return paths


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_of_outputs_gives_the_forces_with_their_own_supercell(kind, model, tmp_path):
    write_tree(tmp_path / "sets/nacl", model, kind)
    (place,) = find_force_sets(tmp_path / "sets")
    found = read_force_set(place, tmp_path)
    assert [one.status for one in found.calculations] == ["ok"] * 5
    assert force_set_name(place, tmp_path / "sets") == "nacl"
    assert found.data.repetitions == (2, 2, 2)
    shift = found.data.displacements - model.displacements  # a common shift of all atoms is taken off
    assert numpy.abs(shift - shift.mean(axis=1, keepdims=True)).max() < 2e-6
    assert numpy.allclose(found.data.forces, model.forces, atol=1e-6)
    if kind == "espresso":
        assert found.settings == {"functional": "PBESOL", "kinetic-energy cutoff (Ry)": "60"}


def test_every_calculation_has_a_verdict_of_its_own(model, tmp_path):
    folder, snapshots = tmp_path / "sets/nacl", model.snapshots()
    other, larger, far, repeated = (
        snapshots[1].copy(),
        snapshots[2].repeat((2, 1, 1)),
        snapshots[3].copy(),
        snapshots[0],
    )
    other.symbols[0] = "K"
    far.positions[5] += [1.6, 0.4, 0.2]
    for atoms in (other, larger, far):
        atoms.calc = SinglePointCalculator(atoms, forces=numpy.full((len(atoms), 3), 0.1), energy=-1.0)
    write_tree(folder, model, snapshots=[snapshots[0], other, larger, far, repeated, snapshots[4]])
    write_espresso(folder / "unconverged.pwo", snapshots[2], converged=False)
    (folder / "cut.extxyz").write_text((folder / "disp-000/forces.extxyz").read_text()[:500])
    found = read_force_set(folder, tmp_path)
    verdicts = {one.where.split("/")[0].split(",")[0]: (one.status, one.reason) for one in found.calculations}
    assert [verdicts[f"disp-{n:03d}"][0] for n in range(6)] == ["ok", "failed", "failed", "failed", "skipped", "ok"]
    assert "the same supercell as disp-000/forces.extxyz" in verdicts["disp-004"][1]
    assert verdicts["unconverged.pwo"][0] == "failed" and "did not converge" in verdicts["unconverged.pwo"][1]
    assert verdicts["cut.extxyz"][0] == "failed" and len(found.data.forces) == 2
    longest = [one.displacement_max_angstrom for one in found.calculations if one.status == "ok"]
    assert numpy.allclose(longest, numpy.linalg.norm(found.data.displacements, axis=2).max(axis=1))


def test_contradictions_and_unknown_crystals_are_refused(model, tmp_path):
    first, second = model.snapshots()[0], model.snapshots()[0]
    second.calc.results["forces"] = model.forces[0] + 0.01
    write_tree(tmp_path / "a", model, snapshots=[first, second])
    with pytest.raises(StudyError, match=r"differ by 0.0100 eV/angstrom: disp-000.* and disp-001"):
        read_force_set(tmp_path / "a", tmp_path)
    write_tree(tmp_path / "b", model, crystal=False)
    with pytest.raises(StudyError, match=r"not known which crystal[\s\S]*POSCAR-unitcell"):
        read_force_set(tmp_path / "b", tmp_path)
    perfect = model.supercell
    perfect.calc = SinglePointCalculator(perfect, forces=numpy.zeros((len(perfect), 3)), energy=-1.0)
    write_tree(tmp_path / "c", model, crystal=False, snapshots=[perfect, *model.snapshots()])
    found = read_force_set(tmp_path / "c", tmp_path)
    assert len(found.data.forces) == 5 and numpy.abs(found.data.residual_forces).max() == 0


def test_what_lies_where(model, tmp_path):
    root = tmp_path / "sets"
    write_tree(root / "group/nacl", model)
    write_tree(root / "loose", model, crystal=False)
    (root / "alamode").mkdir()
    write(root / "alamode/POSCAR", model.supercell, format="vasp", direct=True)
    write_dfset(root / "alamode/DFSET", model)
    write_tdep(root / "tdep", model)
    write(root / "single.extxyz", model.snapshots())
    (root / ".hidden").mkdir()
    shutil.copy(root / "single.extxyz", root / ".hidden")
    with tarfile.open(root / "packed.tar.lzma", "w:xz") as packed:
        packed.add(root / "group/nacl", arcname="nacl-2018")
    names = {force_set_name(path, root) for path in find_force_sets(root)}
    assert names == {"group/nacl", "loose", "alamode", "tdep", "single", "packed"}
    for name in ("alamode", "tdep", "packed.tar.lzma"):
        found = read_force_set(root / name, tmp_path / "unpacked")
        assert len(found.data.forces) == 5 and found.data.repetitions == (2, 2, 2), name
    assert [path.name for path in find_force_sets(root / "group/nacl")] == ["nacl"]


def test_hostile_and_damaged_archives_touch_nothing_outside(tmp_path):
    for name, member in (("up", "../../outside"), ("absolute", "/outside")):
        with tarfile.open(tmp_path / f"{name}.tar.xz", "w:xz") as packed:
            entry = tarfile.TarInfo(member)
            entry.size = 3
            packed.addfile(entry, io.BytesIO(b"bad"))
        with pytest.raises(StudyError):
            read_force_set(tmp_path / f"{name}.tar.xz", tmp_path / "deep/unpacked")
    assert not list(tmp_path.rglob("outside*")) or not (tmp_path.parent / "outside").exists()
    sound = (tmp_path / "up.tar.xz").read_bytes()
    (tmp_path / "cut.tar.xz").write_bytes(sound[: len(sound) // 2])
    (tmp_path / "none.tar.lzma").write_bytes(b"no archive")
    for name in ("cut.tar.xz", "none.tar.lzma"):
        with pytest.raises(StudyError, match="archive"):
            read_force_set(tmp_path / name, tmp_path / "unpacked")


def test_mixtures_are_refused_by_name_and_allowed_by_name(model, tmp_path):
    one, other = {"GGA": "PE", "ENCUT": "520"}, {"GGA": "PS", "ENCUT": "400"}
    with pytest.raises(StudyError, match=r"differ in GGA: PE \(1, such as a\), PS[\s\S]*allow_mixed: \[GGA\]"):
        check_settings([("a", one), ("b", other)])
    with pytest.raises(StudyError, match="differ in ENCUT"):
        check_settings([("a", one), ("b", other)], ["GGA"])
    check_settings([("a", one), ("b", other), ("c", {})], ["GGA", "ENCUT"])
    potentials = [
        ("a", {"potentials": "PAW_PBE Na 2002 + PAW_PBE Cl 2000"}),
        ("b", {"potentials": "PAW_PBE Na_pv 2002"}),
    ]
    with pytest.raises(StudyError, match=r"potentials of Na[\s\S]*allow_mixed: \[potentials\]"):
        check_settings(potentials)
    check_settings(potentials, ["potentials"])
    folder = tmp_path / "sets/nacl"
    write_tree(folder, model, snapshots=[])
    for number, atoms in enumerate(model.snapshots()[:2]):
        write_espresso(folder / f"{number}.pwo", atoms, cutoff=60.0 + number)
    with pytest.raises(StudyError, match="differ in kinetic-energy cutoff"):
        read_force_set(folder, tmp_path)
    assert len(read_force_set(folder, tmp_path, ("kinetic-energy cutoff (Ry)",)).data.forces) == 2


def test_a_study_takes_crystal_supercell_and_labels_as_they_are(model, tmp_path):
    write_tree(tmp_path / "sets/good", model)
    (tmp_path / "sets/bad").mkdir()
    write(tmp_path / "sets/bad/POSCAR", model.unit_cell, format="vasp")
    store, table, digests = collect(tmp_path / "sets", tmp_path)
    good, bad = sorted(candidates_of_force_sets(store, table), key=lambda one: one.atoms is None)
    assert good.structure_id == "good" and good.formula == "NaCl" and "none of 0" in bad.problem
    rows = pandas.read_parquet(table)
    assert rows["status"].value_counts().to_dict() == {"ok": 5, "failed": 1}
    assert set(json.loads(digests.read_text())) == {"good"}
    engine = ForceSetEngine(tmp_path, "PBE")
    relaxed = relax_structure(good.atoms, engine, "good", LIMITS, 0.01)
    assigned = {"repetitions": "2 2 2", "n_supercell_atoms": 16, "n_network": 3}
    displaced = displace_structure("good", relaxed.arrays, assigned, 0.03, 1)
    assert displaced.arrays["displacements"].shape == (8, 16, 3)
    labels = label_supercells(engine, "good", displaced.arrays, [0])
    assert numpy.array_equal(labels.arrays["supercell_index"], numpy.arange(5))
    assert numpy.allclose(labels.arrays["forces"], model.forces)
    assert numpy.array_equal(displaced.arrays["displacements"][:5], relaxed.arrays["displacements"])
    displaced.arrays["displacements"][0] += 1e-6
    with pytest.raises(StudyError, match="has changed"):
        label_supercells(engine, "good", displaced.arrays, [0])
    with pytest.raises(StudyError, match="no force set"):
        engine.own_supercells("bad")
    assert "force_sets" in engines()


@pytest.mark.parametrize("name", ["1000-bate-fm-3m-225", "10175-kcdf3-pm-3m-221", "10182-liznp-f-43m-216"])
def test_frequencies_of_phonondb_through_this_route_are_phonopys(name, tmp_path):
    reference = reference_folder()
    if reference is None or name not in archives(reference):
        pytest.skip("phonondb is not there (PHONOSCREEN_REFERENCE)")
    archive = archives(reference)[name]
    assert study_against_phonopy(archive, tmp_path) < 1e-4


def study_against_phonopy(archive, tmp_path):
    """Largest difference in THz between the study's frequencies and phonopy's, from one archive."""
    (tmp_path / "sets").mkdir(parents=True)
    shutil.copy(archive, tmp_path / "sets")
    store, _, _ = collect(tmp_path / "sets", tmp_path, ["ENCUT"])
    with h5py.File(store) as sets:
        (structure_id,) = sets
    engine = ForceSetEngine(tmp_path, "PBEsol")
    own = engine.own_supercells(structure_id)
    crystal = Crystal(own["cell"], own["scaled_positions"], own["numbers"], standard_masses(own["numbers"]))
    repetitions = tuple(int(n) for n in own["repetitions"])
    basis = build_basis(crystal, repetitions, (None,))
    assigned = {"repetitions": " ".join(map(str, repetitions)), "n_supercell_atoms": own["forces"].shape[1],
                "n_network": 2, "basis_key": basis.key, "third_cutoff_angstrom": numpy.nan, "third_shell": 0,
                "third_cutoff_to_shell_angstrom": numpy.nan}  # fmt: skip
    displaced = displace_structure(structure_id, own, assigned, 0.03, 1)
    labels = label_supercells(engine, structure_id, displaced.arrays, [0])
    with h5py.File(tmp_path / "work.h5", "w") as work:
        for name, outcome in (("supercells", displaced), ("labels", labels)):
            for key, array in outcome.arrays.items():
                if key not in ("born_charges", "dielectric"):
                    work[f"{name}/{key}"] = array
        write_basis(work.create_group("bases"), basis)
        fitted = fit_structure(FitterPool(work["bases"], FitSettings()), assigned, work["labels"], work["supercells"])
    assert fitted.attrs["second_order_alone"]
    second = basis.expand_second(fitted.arrays["parameters"])
    (tmp_path / "compound").mkdir()
    phonon = phonopy_of_compound(read_compound(archive, tmp_path / "compound"))
    qpoints = numpy.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    phonon.run_qpoints(their_points(qpoints, crystal, phonon))
    ours = frequencies_thz(DynamicalMatrix(crystal, second), qpoints)
    return numpy.abs(ours - of_today(phonon.qpoints.frequencies)).max()
