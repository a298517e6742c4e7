"""CONTROL is read as a Fortran program reads it: every legal form, and nothing else."""

import f90nml
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.control import read_control
from phonoscreen.formats.control_entries import ENTRIES
from phonoscreen.formats.namelists import read_assignments, read_values
from tests.shengbte_files import TARGETS, all_finite, write_examples

TEXT = """&allocations
  nelements=2, natoms=2, ngrid(:)=4 5 6
&end
&crystal
  lfactor=0.1
  lattvec(:,1)=0 2.8 2.8
  lattvec(:,2)=2.8 0 2.8
  lattvec(:,3)=2.8 2.8 0
  elements="Mg" "O"
  types=1 2
  positions(:,1)=0 0 0
  positions(:,2)=0.5 0.5 0.5
  epsilon(:,1)=3 0 0
  epsilon(:,2)=0 3 0
  epsilon(:,3)=0 0 3
  born(:,1,1)=2 0 0
  born(:,2,1)=0 2 0
  born(:,3,1)=0 0 2
  born(:,1,2)=-2 0 0
  born(:,2,2)=0 -2 0
  born(:,3,2)=0 0 -2
  scell(:)=3 3 3
/
&parameters
  T=300
/
&flags
  nonanalytic=.TRUE.
/
"""


def read(tmp_path, *changes):
    """Control of TEXT with some parts replaced."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "CONTROL"
    path.write_text(text)
    return read_control(path)


def values(control):
    """Everything that a CONTROL file decides, as one list of numbers."""
    parts = [control.mesh, control.crystal.cell, control.crystal.scaled_positions, control.crystal.numbers,
             control.repetitions, control.temperatures_k, control.epsilon, control.born, control.scalebroad,
             list(control.flags.values())]  # fmt: skip
    return numpy.concatenate([numpy.ravel(numpy.asarray(part, float)) for part in parts])


@pytest.mark.parametrize(
    "changes",
    [
        [("lattvec(:,1)=", "lattvec(1:3,1)=")],
        [("born(:,1,1)=2 0 0\n  born(:,2,1)=0 2 0\n  born(:,3,1)=0 0 2", "born(1:3,1:3,1)=2 0 0 0 2 0 0 0 2")],
        [("born(:,1,1)=2 0 0\n  born(:,2,1)=0 2 0\n  born(:,3,1)=0 0 2", "born(1,1,1)=2 born(2,2,1)=2 born(3,3,1)=2")],
        [("born(:,1,1)=2 0 0\n  born(:,2,1)=0 2 0\n  born(:,3,1)=0 0 2", "born(1,1,1)=2,3*0,2,3*0,2")],
        [("ngrid(:)=4 5 6", "ngrid(1)=4 5 6")],
        [("ngrid(:)=4 5 6", "ngrid=4,5,6")],
        [("ngrid(:)=4 5 6", "ngrid(3:3)=6 ngrid(1:2)=4 5")],
        [("ngrid(:)=4 5 6", "ngrid(1:3:2)=4 6, ngrid(2)=5")],
        [("ngrid(:)=4 5 6", "ngrid=4 , , 6\n ngrid(2) = 5")],
        [("ngrid(:)=4 5 6", "ngrid(2:)=5 6 ngrid(:1)=4")],
        [("scell(:)=3 3 3", "scell=3*3")],
        [("scell(:)=3 3 3", "SCELL ( : ) =\n 2*3\n 3")],
        [("positions(:,1)=0 0 0\n  positions(:,2)=0.5 0.5 0.5", "positions=3*0. 3*5d-1")],
        [("positions(:,2)=0.5 0.5 0.5", "positions(:,2)=.5, +0.5 5.0D-1")],
        [("types=1 2", "types(1)=1 types(2)=2")],
        [('"Mg" "O"', "'Mg','O' ! the oxide")],
        [("&allocations", "$allocations"), ("6\n&end", "6\n$end")],
        [("&crystal", "&CRYSTAL"), ("T=300", "t = 3.0E+02,")],
        [(".TRUE.", ".true."), (".true.\n/", "T /")],
        [(".TRUE.", "t"), ("T=300\n/", "T=300/")],
        [("&parameters", "! T=500\n&parameters ! T=400")],
        [("\n", "\r\n")],
        [("lfactor=0.1", "lfactor=1"), ("2.8", "0.28")],
        [("&allocations", "Magnesium oxide, made by hand\n# once with T=500\n\n&allocations")],
    ],
)  # fmt: skip
def test_legal_fortran_is_read(tmp_path, changes):
    assert values(read(tmp_path, *changes)) == pytest.approx(values(read(tmp_path)), abs=1e-12)


def test_namelists_may_stand_in_any_order(tmp_path):
    parts = TEXT.replace("&end", "/").split("/\n")[:4]
    (tmp_path / "other").write_text("".join(f"{part}/\n" for part in parts[::-1]))
    assert values(read_control(tmp_path / "other")) == pytest.approx(values(read(tmp_path)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("T=300", "T=300 400", "t is one value"),
        ("T=300", "T=300 T=400", "given twice"),
        ("scell(:)=3 3 3", "scell(:)=3 3 3\n scell(2)=4", "given twice"),
        ("T=300", "T=300 omegamax=40", "unknown entry omegamax (is omega_max meant?)"),
        ("T=300", "T=300 isotopes=.false.", "belongs to namelist &flags"),
        ("T=300", "T=hot", "not a value of type float"),
        ("T=300", "T=NaN", "not a value of type float"),
        ("T=300", "T=1e999", "not a value of type float"),
        ("T=300", "T='300'", "not a value of type float"),
        ("T=300", "T=", "T is missing"),
        ("T=300", "T=300 eps=0", "above 0"),
        ("T=300", "T=300 maxiter=0", "1 or more"),
        ("T=300", "T=300 maxiter=10.5", "not a value of type int"),
        ("T=300", "T=300; nticks=5", "not a value of type float"),
        ("T=300", "T_min=300 T_max=400", "t_step is missing"),
        ("T=300", "T_min=300 T_max=200 T_step=10", "temperatures 300 to 200"),
        ("T=300", "T_min=1 T_max=1e6 T_step=1e-3", "more than 1000"),
        ("T=300", "T=300 rmin=-1", "radii"),
        (".TRUE.", "1", "not a value of type bool"),
        (".TRUE.", ".TRUE. four_phonon=.true.", "four-phonon scattering is not computed"),
        (".TRUE.", ".TRUE. tdep=T", "not computed"),
        (".TRUE.", ".TRUE. nanowires=T", "norientations is 0"),
        ("T=300", "T=300 num_sample_process_3ph=1000", "not computed"),
        ("&flags", "&flag", "unknown namelist &flag (is flags meant?)"),
        ("&flags\n  nonanalytic=.TRUE.\n/\n", "", "namelist &flags is missing"),
        ("&flags", "T=300\n&flags", "outside every namelist"),
        ("&flags", "&parameters\n/\n&flags", "given twice"),
        ("/\n&flags", "\n&flags", "begins before &parameters is not closed"),
        ("types=1 2", "types=1 2 3", "3 values where 2 fit"),
        ("types=1 2", "types(0)=1 2", "outside of 1 to 2"),
        ("types=1 2", "types(3)=1", "outside of 1 to 2"),
        ("types=1 2", "types(1,1)=1 2", "2 indices, not 1"),
        ("types=1 2", "types(a)=1 2", "neither an integer nor a range"),
        ("lattvec(:,1)=0 2.8 2.8", "lattvec(1:2,1)=0 2.8 2.8", "3 values where 2 fit"),
        ("lattvec(:,1)=0 2.8 2.8", "lattvec(:,1)=0 2.8", "lacks 1 of 9"),
        ("lattvec(:,1)=0 2.8 2.8", "lattvec(:,1)=2.8 0 2.8", "volume"),
        ('"Mg" "O"', "Mg O", "not a value of type str"),
        ('"Mg" "O"', '"Mg" "D"', "unknown element"),
        ('"Mg" "O"', '"Mg "O"', "not expected"),
        ("epsilon(:,1)=3 0 0", "epsilon(:,1)=3 1 0", "not symmetric"),
        ("epsilon(:,1)=3 0 0", "epsilon(:,1)=-3 0 0", "not positive"),
        ("  epsilon(:,1)=3 0 0\n", "", "not the diagonal"),
        ("born(:,1,1)=2 0 0", "born(:,1,1)=2000 0 0", "Born charge of 2e+03"),
        ("nelements=2", "nelements=3", "more than natoms"),
        (".TRUE.", ".TRUE. autoisotopes=F", "masses or gfactors are missing"),
    ],
)  # fmt: skip
def test_what_fortran_or_shengbte_would_refuse_is_refused_with_its_place(tmp_path, old, new, message):
    with pytest.raises(StudyError) as error:
        read(tmp_path, (old, new))
    assert message in str(error.value) and "CONTROL" in str(error.value) and error.value.fix


@pytest.mark.parametrize("change", ["ngrid(:)=3*1000000000", "natoms=1000000000", "nelements=1000000000"])
def test_sizes_of_no_computer_are_refused_before_anything_is_allocated(tmp_path, change):
    name = change.split("=")[0]
    old = {"ngrid(:)": "ngrid(:)=4 5 6", "natoms": "natoms=2", "nelements": "nelements=2"}[name]
    with pytest.raises(StudyError, match="GiB are allowed|more than natoms"):
        read(tmp_path, (old, change))


@pytest.mark.parametrize("change", ["scell=3*1000000000", "scell=3*300"])
def test_supercells_and_ticks_of_no_computer_are_refused_too(tmp_path, change):
    with pytest.raises(StudyError, match="--memory-gib"):
        read(tmp_path, ("scell(:)=3 3 3", change))
    with pytest.raises(StudyError, match="--memory-gib"):
        read(tmp_path, ("T=300", "T=300 nticks=1000000000"))


def test_entries_without_effect_are_named(tmp_path):
    control = read(tmp_path, ("types=1 2", "types=1 2 masses=24 16"), (".TRUE.", ".FALSE."), ("T=300", "T=300 T_min=9"))
    assert [note.split(" of ")[0] for note in control.notes] == [
        "T_min, T_max and T_step", "masses", "epsilon and born"
    ]  # fmt: skip


def test_temperatures_are_those_of_shengbte(tmp_path):
    """Steps from T_min; one beyond T_max by more than 1 K is cut at it, by less is left out."""
    for text, expected in {
        "T_min=300 T_max=400 T_step=50": (300, 350, 400), "T_min=300 T_max=420 T_step=50": (300, 350, 400, 420),
        "T_min=300 T_max=399.5 T_step=50": (300, 350), "T=100 T_min=300 T_max=400 T_step=50": (100,),
    }.items():  # fmt: skip
        assert read(tmp_path, ("T=300", text)).temperatures_k == pytest.approx(expected)


def test_f90nml_reads_the_same_where_it_keeps_every_value(tmp_path):
    path = tmp_path / "CONTROL"
    path.write_text(TEXT)
    theirs, ours = f90nml.read(path), read_assignments(path)
    sizes = {"natoms": 2, "nelements": 2, "norientations": 0}
    for group, assignments in ours.items():
        for name in {item.name for item in assignments}:
            kind, axes = ENTRIES[group][name]
            mine = read_values(assignments, name, tuple(sizes.get(axis, axis) for axis in axes), kind)
            assert mine.T.tolist() == theirs[group][name], name  # the last Fortran index is the outermost list


@given(st.text(alphabet="&$/=(),:*'\"! \n\t.-+aeTtd129é", max_size=60), st.integers(0, len(TEXT)))
@settings(max_examples=60, deadline=None)
def test_any_insertion_is_read_or_refused(tmp_path_factory, inserted, place):
    path = tmp_path_factory.mktemp("control") / "CONTROL"
    path.write_text(TEXT[:place] + inserted + TEXT[place:])
    try:
        assert all_finite(read_control(path))
    except StudyError as error:
        assert error.fix


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_examples(folder)
    return folder


WORDS = [
    b"nan",
    b"inf",
    b"1e999",
    b"-1",
    b"0",
    b"1000000000",
    b"1d400",
    b"3*6",
    b"",
    b"'",
    b"/",
    b"\x00",
    b"\xff",
    b"1_0",
]


@pytest.mark.parametrize("name", TARGETS)
@given(
    st.sampled_from(["flip", "cut", "double", "delete", "word"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(WORDS),
)
@settings(max_examples=40, deadline=None)
def test_damaged_files_are_read_or_refused(examples, name, how, first, second, word):
    data, path = (examples / name).read_bytes(), examples / f"damaged {name}"
    at = int(first * (len(data) - 1))
    end = min(len(data), at + 1 + int(second * 80))
    path.write_bytes({
        "flip": data[:at] + bytes([data[at] ^ 1 << int(second * 7)]) + data[at + 1 :], "cut": data[:at],
        "double": data[:end] + data[at:], "delete": data[:at] + data[end:], "word": data[:at] + word + data[end:],
    }[how])  # fmt: skip
    try:
        assert all_finite(TARGETS[name](path))
    except StudyError as error:
        assert name in str(error) and error.fix
