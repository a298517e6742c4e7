"""Every format that ``fit`` reads gives the force constants of a known crystal back."""

import bz2
import glob
import gzip
import json
import lzma
import shlex
from pathlib import Path

import numpy
import pytest
from ase.io import write

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.cutoffs import choose_cutoff
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.formats.fit_input import FitInput, read_fit_input
from tests.supercell_files import REPETITIONS, make_model, write_dfset, write_tdep, write_vasprun


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture
def poscar(model, tmp_path):
    write(tmp_path / "POSCAR", model.unit_cell, format="vasp", direct=True)
    return str(tmp_path / "POSCAR")


def misfit(model, data):
    """Relative difference of the forces' equation for the true parameters; zero if the data are the model's."""
    cutoff = choose_cutoff(data.crystal, data.repetitions, 5.0).value_angstrom
    basis = build_basis(data.crystal, data.repetitions, (None, cutoff))
    assert basis.n_free == model.basis.n_free
    fitter = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False))
    fitted = fitter.fit(data.crystal, data.displacements, data.forces, residual_forces=data.residual_forces)
    lengths = [numpy.sort(numpy.linalg.norm(b.expand_second(p).values, axis=(2, 3)).ravel())
               for b, p in ((basis, fitted.parameters), (model.basis, model.parameters))]  # fmt: skip
    return fitted.quality["force_error_relative"] + numpy.abs(lengths[0] - lengths[1]).max() / lengths[1].max()


def shuffled(atoms, rng, shift=0.0, wrap=True):
    """The same supercell with atoms in another order, moved together, wrapped into the cell."""
    order = rng.permutation(len(atoms))
    own = atoms[order]
    own.positions += shift
    if wrap:
        own.wrap()
    own.calc = type(atoms.calc)(own, forces=atoms.calc.results["forces"][order], energy=-1.0)
    return own


@pytest.mark.parametrize("shift", [0.0, (0.4, -3.1, 1.7)])
def test_atoms_in_any_order_at_any_origin(model, poscar, tmp_path, shift):
    rng = numpy.random.default_rng(1)
    write(tmp_path / "data.extxyz", [shuffled(atoms, rng, shift) for atoms in model.snapshots()])
    data = read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz")]))
    assert misfit(model, data) < 1e-5
    lengths = [numpy.sort(numpy.linalg.norm(own - numpy.median(own, axis=1, keepdims=True), axis=2))
               for own in (data.displacements, model.displacements)]  # fmt: skip
    assert numpy.allclose(*lengths, atol=1e-6)


@pytest.mark.parametrize("name", ["forces", "force", "REF_forces", "dft_forces", "MACE_forces", "dft-force"])
def test_forces_under_common_names(model, poscar, tmp_path, name):
    frames = []
    for atoms in model.snapshots():
        forces, atoms.calc = atoms.calc.results["forces"], None
        atoms.arrays[name] = forces
        frames.append(atoms)
    write(tmp_path / "data.extxyz", frames, columns=["symbols", "positions", name])
    assert misfit(model, read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz")]))) < 1e-5


def test_a_message_names_what_was_looked_for_and_found(model, poscar, tmp_path):
    atoms = model.snapshots()[0]
    atoms.arrays["push"], atoms.calc = atoms.calc.results["forces"], None
    write(tmp_path / "data.extxyz", atoms, columns=["symbols", "positions", "push"])
    with pytest.raises(StudyError, match="looked for .*REF_forces.*found .*push"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz")]))
    data = read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz")], forces_name="push"))
    assert data.forces.shape == (1, 16, 3)
    with pytest.raises(StudyError, match="array named other"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz")], forces_name="other"))
    atoms.arrays["MACE_forces"], atoms.arrays["REF_forces"] = atoms.arrays["push"], 1.1 * atoms.arrays["push"]
    write(tmp_path / "two.extxyz", atoms, columns=["symbols", "positions", "MACE_forces", "REF_forces"])
    with pytest.raises(StudyError, match="different forces under MACE_forces, REF_forces"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "two.extxyz")]))


@pytest.mark.parametrize("pack", [None, gzip.compress, lzma.compress, bz2.compress])
def test_many_outputs_of_vasp_with_any_names_and_a_folder_of_them(model, poscar, tmp_path, pack):
    folder = tmp_path / "runs"
    folder.mkdir()
    suffix = {None: "", gzip.compress: ".gz", lzma.compress: ".xz", bz2.compress: ".bz2"}[pack]
    names = []
    for number, atoms in enumerate(model.snapshots()):
        path = folder / f"vasprun-{number}.xml{suffix}"
        write_vasprun(folder / "plain", atoms)
        content = (folder / "plain").read_bytes()
        path.write_bytes(pack(content) if pack else content)
        names.append(str(path))
    (folder / "plain").unlink()
    assert misfit(model, read_fit_input(FitInput(poscar, names))) < 1e-5
    assert misfit(model, read_fit_input(FitInput(poscar, [str(folder)]))) < 1e-5


def test_an_undisplaced_supercell_gives_the_residual_forces(model, poscar, tmp_path):
    rest = 0.01 * numpy.random.default_rng(2).normal(size=(16, 3))
    frames = model.snapshots()
    for atoms in frames:
        atoms.calc.results["forces"] = atoms.calc.results["forces"] + rest
    still = model.supercell
    still.calc = type(frames[0].calc)(still, forces=rest, energy=-1.0)
    write(tmp_path / "data.extxyz", [still, *frames])
    data = read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz")]))
    assert len(data.displacements) == len(frames)
    assert misfit(model, data) < 1e-5


@pytest.mark.parametrize("name", ["DFSET", "DFSET.xz", "DFSET_harmonic"])
@pytest.mark.parametrize("supercell", [[2, 2, 2], "file", "structure"])
def test_alamodes_dfset(model, poscar, tmp_path, name, supercell):
    write_dfset(tmp_path / name, model)
    write(tmp_path / "SPOSCAR", model.supercell, format="vasp", direct=True)
    structure, own = poscar, supercell
    if supercell == "file":
        own = [str(tmp_path / "SPOSCAR")]
    elif supercell == "structure":
        structure, own = str(tmp_path / "SPOSCAR"), None
    data = read_fit_input(FitInput(structure, [str(tmp_path / name)], supercell=own))
    assert misfit(model, data) < 1e-5


def test_six_columns_without_a_name_are_not_guessed(model, poscar, tmp_path):
    write_dfset(tmp_path / "data.txt", model, comments=False)
    with pytest.raises(StudyError, match="DFSET .*or phonopy's FORCE_SETS"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "data.txt")], supercell=[2, 2, 2]))
    write_dfset(tmp_path / "FORCE_SETS", model)
    with pytest.raises(StudyError, match="units differ"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "FORCE_SETS")], supercell=[2, 2, 2]))
    write_dfset(tmp_path / "DFSET", model)
    with pytest.raises(StudyError, match="16 atoms, the perfect supercell 2") as failure:
        read_fit_input(FitInput(poscar, [str(tmp_path / "DFSET")]))
    assert "--supercell" in failure.value.fix


def test_tdeps_infiles(model, tmp_path):
    write_tdep(tmp_path / "tdep", model)
    assert misfit(model, read_fit_input(FitInput(str(tmp_path / "tdep"), []))) < 1e-5
    structure = str(tmp_path / "tdep" / "infile.ucposcar")
    data = read_fit_input(FitInput(structure, [str(tmp_path / "tdep" / "infile.positions")]))
    assert misfit(model, data) < 1e-5
    (tmp_path / "tdep" / "infile.meta").write_text("16\n7\n1.0\n300.0\n")
    with pytest.raises(StudyError, match="7 steps, the files hold 16 and 6"):
        read_fit_input(FitInput(str(tmp_path / "tdep"), []))


def test_hiphives_container(model, poscar, tmp_path):
    from hiphive import ClusterSpace, StructureContainer
    from hiphive.structure_container import FitStructure

    structures = []
    for moves, forces in zip(model.displacements, model.forces):
        atoms = model.supercell
        atoms.arrays["displacements"], atoms.arrays["forces"] = moves, forces
        structures.append(FitStructure(atoms, numpy.zeros((48, 1))))  # its fit matrix is not read
    container = StructureContainer(ClusterSpace(model.unit_cell, [3.0]), structures)
    container.write(str(tmp_path / "container.sc"))
    assert misfit(model, read_fit_input(FitInput(poscar, [str(tmp_path / "container.sc")]))) < 1e-5


def test_a_container_that_names_other_code_is_not_unpickled(tmp_path, poscar):
    import io
    import pickle
    import tarfile

    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as own:
        content = pickle.dumps({"atoms": Harm(), "meta_data": {}})
        own.addfile(_member("items.pickle", content), io.BytesIO(content))
    with tarfile.open(tmp_path / "container.sc", "w") as outer:
        outer.addfile(_member("fit_structure_0", inner.getvalue()), io.BytesIO(inner.getvalue()))
    with pytest.raises(StudyError, match="open, which is not read"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "container.sc")]))
    assert not (tmp_path / "made").exists()


def _member(name, content):
    import tarfile

    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info


@pytest.mark.parametrize("kind", ["all_atoms", "single_atoms"])
def test_phonopys_force_sets_of_both_types(model, poscar, tmp_path, kind):
    from phonopy import Phonopy
    from phonopy.file_IO import write_FORCE_SETS

    from phonoscreen.crystal.constants import full_second_order
    from phonoscreen.formats.born import phonopy_atoms
    from phonoscreen.formats.force_constants import phonopy_order

    order = phonopy_order(2, REPETITIONS)
    program = Phonopy(phonopy_atoms(model.crystal), numpy.diag(REPETITIONS), primitive_matrix=numpy.eye(3), log_level=0)
    if kind == "all_atoms":
        dataset = {"displacements": model.displacements[:, order], "forces": model.forces[:, order]}
    else:
        program.generate_displacements(distance=0.01)
        dataset = program.dataset
        full = full_second_order(model.basis.expand_second(model.parameters))[order][:, order]
        for first in dataset["first_atoms"]:
            first["forces"] = -numpy.einsum("axy,y->ax", full[:, first["number"]], first["displacement"])
    write_FORCE_SETS(dataset, filename=tmp_path / "FORCE_SETS")
    (tmp_path / "FORCE_SETS.xz").write_bytes(lzma.compress((tmp_path / "FORCE_SETS").read_bytes()))
    for name in ("FORCE_SETS", "FORCE_SETS.xz"):
        data = read_fit_input(FitInput(poscar, [str(tmp_path / name)], supercell=["2", "2", "2"]))
        if kind == "all_atoms":
            assert misfit(model, data) < 1e-5
        else:
            from phonoscreen.stages.one_crystal import Choices, determine

            found = determine(data, Choices())
            expected = model.basis.expand_second(model.parameters).values
            assert numpy.abs(found.second.values - expected).max() < 1e-7 * numpy.abs(expected).max()
    own, given = model.supercell[order], [str(tmp_path / "FORCE_SETS")]
    write(tmp_path / "SPOSCAR", own, format="vasp", direct=True)
    read_fit_input(FitInput(poscar, given, supercell=[str(tmp_path / "SPOSCAR")]))
    swapped = [1, 0, *range(2, len(own))]  # two equal atoms, which no formula shows
    for atoms, words in ((own[swapped], "same order"), (stretched(own), "no lattice vectors|not lattice vectors")):
        write(tmp_path / "SPOSCAR", atoms, format="vasp", direct=True)
        with pytest.raises(StudyError, match=words) as refused:
            read_fit_input(FitInput(poscar, given, supercell=[str(tmp_path / "SPOSCAR")]))
        assert "DIM" in refused.value.fix


def stretched(atoms):
    """The supercell of a crystal that is 7 % larger."""
    larger = atoms.copy()
    larger.set_cell(1.07 * atoms.cell.array, scale_atoms=True)
    return larger


def test_a_file_given_twice_counts_once(model, poscar, tmp_path, capsys):
    """Else a supercell would stand among those fitted and those held out."""
    write(tmp_path / "data.extxyz", model.snapshots())
    reports = []
    for files in (["data.extxyz"], ["data.extxyz", "data.extxyz"]):
        words = ["fit", poscar, *(str(tmp_path / name) for name in files), "--output", str(tmp_path / "out")]
        assert main([*words, "--third-cutoff", "0"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    n = len(model.snapshots())
    numbers = ", ".join(map(str, range(n, 2 * n))) if n <= 10 else f"{n}, "
    assert any(f"supercells {numbers}" in words for words in reports[1]["warnings"]), reports[1]["warnings"]
    assert not any("earlier ones" in words for words in reports[0]["warnings"])
    for name in ("force_error_relative", "frequency_max_thz"):
        assert reports[1][name] == pytest.approx(reports[0][name], rel=1e-6, abs=1e-12)


def test_forces_of_a_cluster_are_none_of_a_crystal(model, poscar, tmp_path):
    write(tmp_path / "data.extxyz", model.snapshots())
    text = (tmp_path / "data.extxyz").read_text()
    (tmp_path / "data.extxyz").write_text(text.replace('pbc="T T T"', 'pbc="F F F"', 1))
    with pytest.raises(StudyError, match="repeats in 0 directions"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz")]))


def test_files_that_do_not_belong_together_are_refused(model, poscar, tmp_path):
    write(tmp_path / "data.extxyz", model.snapshots())
    write_dfset(tmp_path / "DFSET", model)
    with pytest.raises(StudyError, match="several kinds"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz"), str(tmp_path / "DFSET")]))
    with pytest.raises(StudyError, match="the data have"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "data.extxyz")], supercell=["3", "3", "3"]))
    with pytest.raises(StudyError, match="give the crystal first|does not say which crystal"):
        read_fit_input(FitInput(str(tmp_path / "data.extxyz"), []))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="looked for .*DFSET.*found nothing"):
        read_fit_input(FitInput(poscar, [str(tmp_path / "empty")]))


def test_a_run_that_ends_in_an_error_writes_nothing_and_no_input_is_overwritten(model, poscar, tmp_path, capsys):
    frames = model.snapshots()
    for atoms in frames:
        atoms.calc.results["forces"] = atoms.calc.results["forces"][::-1].copy()
    write(tmp_path / "wrong.extxyz", frames)
    assert main(["fit", poscar, str(tmp_path / "wrong.extxyz"), "--output", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    write(tmp_path / "data.extxyz", model.snapshots())
    before = (tmp_path / "POSCAR").read_text()
    assert main(["fit", poscar, str(tmp_path / "data.extxyz"), "--output", str(tmp_path)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "POSCAR").read_text() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "FORCE_CONSTANTS_3RD").write_text("of somebody")
    arguments = ["fit", poscar, str(tmp_path / "data.extxyz"), "--third-cutoff", "0"]
    assert main([*arguments, "--output", str(tmp_path / "other")]) == 2
    assert "would stay among the new files" in capsys.readouterr().err


def test_bte_runs_in_the_folder_that_fit_wrote(model, poscar, tmp_path, capsys):
    write(tmp_path / "data.extxyz", model.snapshots())
    out = str(tmp_path / "out")
    assert main(["fit", poscar, str(tmp_path / "data.extxyz"), "--output", out]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["files_read"] == ["data.extxyz"]
    assert {"CONTROL", "FORCE_CONSTANTS_3RD", "fc3.hdf5", "phono3py.yaml"} <= set(report["files_written"])
    assert json.loads((tmp_path / "out" / "fit.json").read_text()) == report


def test_the_commands_of_the_page_run_as_they_are_copied(model, tmp_path, monkeypatch, capsys):
    page = Path(__file__).resolve().parents[1] / "docs" / "force_constants.md"
    commands = page.read_text().split("## Your own forces")[1].split("```")[1].strip().splitlines()
    _files_of_the_page(model, tmp_path)
    capsys.readouterr()  # what the programs that wrote them say
    monkeypatch.chdir(tmp_path)
    assert len(commands) == 8
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "phonoscreen"
        words = [match for word in words for match in (sorted(glob.glob(word)) if "*" in word else [word])]
        assert main(words) == 0, command
        report = json.loads(capsys.readouterr().out)
        assert report["files_written"] and (tmp_path / "force_constants" / "CONTROL").is_file()


def _files_of_the_page(model, folder):
    """Files with the names that the page's commands have."""
    from hiphive import ClusterSpace, StructureContainer
    from hiphive.structure_container import FitStructure
    from phono3py import Phono3py
    from phonopy.file_IO import write_FORCE_SETS

    from phonoscreen.formats.born import phonopy_atoms
    from phonoscreen.formats.force_constants import phonopy_order

    order = phonopy_order(2, REPETITIONS)
    write(folder / "POSCAR", model.unit_cell, format="vasp", direct=True)
    write(folder / "SPOSCAR", model.supercell, format="vasp", direct=True)
    (folder / "runs").mkdir()
    structures = []
    for number, atoms in enumerate(model.snapshots()):
        write_vasprun(folder / f"vasprun-{number}.xml", atoms)
        write_vasprun(folder / "runs" / f"vasprun-{number}.xml", atoms)
        still = model.supercell
        still.arrays |= {"displacements": model.displacements[number], "forces": model.forces[number]}
        structures.append(FitStructure(still, numpy.zeros((48, 1))))
    StructureContainer(ClusterSpace(model.unit_cell, [3.0]), structures).write(str(folder / "container.sc"))
    frames = model.snapshots()
    for atoms in frames:
        atoms.arrays["REF_forces"], atoms.calc = atoms.calc.results["forces"], None
    write(folder / "supercells.extxyz", frames, columns=["symbols", "positions", "REF_forces"])
    dataset = {"displacements": model.displacements[:, order], "forces": model.forces[:, order]}
    write_FORCE_SETS(dataset, filename=folder / "FORCE_SETS")
    program = Phono3py(phonopy_atoms(model.crystal), REPETITIONS, primitive_matrix=numpy.eye(3), log_level=0)
    program.dataset = dataset
    program.save(folder / "params", settings={"force_sets": True})
    (folder / "phono3py_params.yaml.xz").write_bytes(lzma.compress((folder / "params").read_bytes()))
    charges = [2.5 * numpy.eye(3), 1.1 * numpy.eye(3), -1.1 * numpy.eye(3)]
    (folder / "BORN").write_text("14.4\n" + "".join(" ".join(f"{x}" for x in own.ravel()) + "\n" for own in charges))
    write_dfset(folder / "DFSET", model)
    write_tdep(folder / "tdep", model)
