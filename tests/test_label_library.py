"""Labels of many compounds: proportions of every beginning, seeds, resumption, failures, and the packed file."""

import h5py
import numpy
import pandas
import pytest
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from phonoscreen.audit.errors import StudyError
from phonoscreen.stages import label_library, label_product
from phonoscreen.stages.label_library import (
    LabelSettings,
    class_and_composition,
    draw_order,
    excluded_classes,
    label_compound,
    plan_supercells,
    run,
    strained_cell,
    strains,
)
from phonoscreen.stages.label_product import quantise, read_chunks, read_product, write_product
from phonoscreen.structures.formulas import composition_key
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from tests.conftest import ROOT

ORIGIN = {"engine": "springs", "weights_sha256": "0", "seed": 61, "pool_sha256": "1", "settings": "{}", "code": "2",
          "packages": "{}"}  # fmt: skip
SETTINGS = LabelSettings(atoms=20, min_length_angstrom=4.0, test_min_length_angstrom=4.0, strained=2)
POOL = pandas.DataFrame(
    [(f"{f.lower()}-{t.split('-')[0]}", f, t) for t, formulas in {
        "216-AB": "GaAs ZnS AlP InSb CdTe BN", "225-AB": "NaCl KBr MgO CaS LiF RbI SrSe BaTe", "221-AB": "CsCl TlBr",
    }.items() for f in formulas.split()],
    columns=["structure_id", "formula", "prototype"],
)  # fmt: skip


class Springs:
    """A Morse potential between all pairs, its minimum at touching covalent radii; it refuses tellurium."""

    name = "springs"

    def evaluate(self, atoms, label=None):
        if "Te" in atoms.get_chemical_symbols():
            raise StudyError("springs does not know Te", where=label)
        i, j, d, vectors = neighbor_list("ijdD", atoms, 4.5)
        x = numpy.exp(-1.5 * (d - covalent_radii[atoms.numbers[i]] - covalent_radii[atoms.numbers[j]]))
        slope = 0.5 * 2 * -1.5 * (x**2 - x)
        pair = (slope / d)[:, None] * vectors
        forces = numpy.zeros((len(atoms), 3))
        numpy.add.at(forces, i, pair)
        numpy.add.at(forces, j, -pair)
        stress = numpy.einsum("n,ni,nj->ij", slope / d, vectors, vectors) / atoms.cell.volume
        return 0.5 * float((x**2 - 2 * x).sum()), forces, stress

    def evaluate_many(self, structures, label=None):
        return [self.evaluate(atoms, label) for atoms in structures]


@pytest.fixture(scope="module")
def structure_types():
    return read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]


@pytest.fixture(scope="module")
def order():
    tests = {"216-AB": 2, "225-AB": 2, "221-AB": 1}
    return draw_order(POOL, {"216-AB": 6, "225-AB": 8, "221-AB": 2}, tests, set(), 61)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, order, structure_types):
    """Chunks of twelve compounds, four in each."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_library, "CHUNK", 4)
        run(Springs(), order.iloc[:12], folder, structure_types, SETTINGS, 61, ORIGIN)
    return folder


def large_pool(counts):
    symbols = ["Li", "Na", "K", "Rb", "Cs", "Ag", "Tl"]
    rows = [(f"x{n}-{name}", f"{symbols[n % 7]}F{n + 1}", name) for name, size in counts.items() for n in range(size)]
    return pandas.DataFrame(rows, columns=["structure_id", "formula", "prototype"])


def test_every_beginning_has_the_proportions_of_the_classes_and_test_compounds():
    shares = {"225-ABC2": 581, "216-ABC": 452, "227-ABC2": 40}
    order = draw_order(large_pool({name: 600 for name in shares}), shares, dict.fromkeys(shares, 40), set(), 61)
    training = order[order["role"] == "training"]
    for length in (20, 100, 500):
        counts = training.iloc[:length]["prototype"].value_counts()
        for name, share in shares.items():
            assert abs(counts.get(name, 0) - length * share / sum(shares.values())) <= 1.5
    assert (order.iloc[:300]["role"] == "test").sum() == 60
    assert (order["role"] == "test").sum() == 120


def test_each_compound_is_drawn_once_and_the_excluded_never(order):
    assert sorted(order["structure_id"]) == sorted(POOL["structure_id"])
    excluded = {("225-AB", composition_key("ClNa")), ("216-AB", composition_key("NB"))}
    left = draw_order(POOL, {"216-AB": 6, "225-AB": 8}, {"216-AB": 1, "225-AB": 1}, excluded, 61)
    assert not set(left["structure_id"]) & {"nacl-225", "bn-216"} and len(left) == 12


def test_a_compound_keeps_its_role_when_others_join():
    pool = large_pool({"225-AB": 60})
    small, large = (
        draw_order(pool.iloc[:size], {"225-AB": 1}, {"225-AB": 0}, set(), 61)["structure_id"].tolist()
        for size in (40, 60)
    )
    assert [one for one in large if one in set(small)] == small


def test_every_atom_moves_by_the_amplitude_and_a_strain_is_symmetric(order, structure_types):
    row = next(order.itertuples(index=False))
    arrays, record = label_compound(Springs(), row, structure_types, SETTINGS, 61)
    assert record["status"] == "ok"
    assert numpy.linalg.norm(arrays["displacements"], axis=2) == pytest.approx(0.03, abs=1e-8)
    assert arrays["strained/strains"] == pytest.approx(arrays["strained/strains"].swapaxes(1, 2))
    assert len(arrays["forces"]) == len(arrays["displacements"]) == len(arrays["energies_ev"])
    assert numpy.abs(arrays["forces"].sum(axis=1)).max() < 1e-5
    assert abs(record["pressure_gpa"]) < SETTINGS.stress_max_gpa


def test_a_strain_moves_the_cell_and_keeps_fractional_coordinates(structure_types):
    atoms = build_structure("GaAs", "216-AB", structure_types)
    strain = strains(SETTINGS, numpy.random.default_rng(1))[0]
    moved = strained_cell(atoms, strain)
    assert moved.get_scaled_positions() == pytest.approx(atoms.get_scaled_positions())
    assert moved.cell.array == pytest.approx(atoms.cell.array @ (numpy.eye(3) + strain))


def test_small_supercells_are_displaced_more_often(structure_types):
    counts = {}
    for formula, name in (("NaCl", "225-AB"), ("MgAl2O4", "227-AB2C4")):
        atoms = build_structure(formula, name, structure_types)
        repetitions, number = plan_supercells(atoms, "training", LabelSettings())
        counts[name] = number
        assert min(repetitions) >= 2
        assert plan_supercells(atoms, "test", LabelSettings())[1] == LabelSettings().test_supercells
    assert counts["227-AB2C4"] < counts["225-AB"]


def test_a_compound_that_fails_is_recorded_with_its_reason(folder):
    found = {record["structure_id"]: record for record, _, _ in read_chunks(folder)}
    failed = [record for record in found.values() if "te-" in record["structure_id"]]
    assert failed and all(record["status"] == "failed" and "Te" in record["reason"] for record in failed)
    assert sum(record["status"] == "ok" for record in found.values()) >= 8


def test_a_run_that_was_stopped_makes_the_same_files(folder, order, structure_types, tmp_path, monkeypatch):
    monkeypatch.setattr(label_library, "CHUNK", 4)
    stopped = tmp_path / "stopped"

    class Killed(Springs):
        calls = 0

        def evaluate(self, atoms, label=None):
            Killed.calls += 1
            if Killed.calls == 60:
                raise KeyboardInterrupt
            return super().evaluate(atoms, label)

    with pytest.raises(KeyboardInterrupt):
        run(Killed(), order.iloc[:12], stopped, structure_types, SETTINGS, 61, ORIGIN)
    assert 0 < len(list(stopped.glob("labels-*.h5"))) < 3
    run(Springs(), order.iloc[:12], stopped, structure_types, SETTINGS, 61, ORIGIN)
    for one in sorted(folder.glob("labels-*.h5")):
        assert one.read_bytes() == (stopped / one.name).read_bytes()


def test_the_packed_file_gives_back_what_was_labelled(folder, tmp_path):
    chunks = list(read_chunks(folder))
    write_product(chunks, tmp_path / "labels.h5")
    origin, labelled = read_product(tmp_path / "labels.h5")
    assert origin["engine"] == "springs" and len(labelled) == len(chunks) == 12
    for (record, arrays, _), (packed_record, packed) in zip(chunks, labelled, strict=True):
        assert {key: packed_record[key] for key in record} == record
        assert set(arrays) == set(packed)
        for name, values in arrays.items():
            if name in ("forces", "strained/forces"):
                limit = numpy.abs(values).max(axis=(1, 2), keepdims=True) * 1.6e-5 + 1e-9
                assert (numpy.abs(packed[name] - values) <= limit).all()
            elif name == "displacements":
                assert packed[name] == pytest.approx(values, abs=0.51e-6)
            else:
                assert packed[name] == pytest.approx(values, abs=0), name


def test_compounds_that_judge_are_left_out_of_a_packed_file(folder, tmp_path, monkeypatch):
    """Whatever the order of the elements in their formulas, and in their class alone."""
    (tmp_path / "judging.csv").write_text("structure_id,formula,prototype\na,PAl,216-AB\nb,SbIn,225-AB\n")
    monkeypatch.setattr("sys.argv", ["label_product", str(folder), str(tmp_path / "kept.h5"), "--exclude",
                                     str(tmp_path / "judging.csv")])  # fmt: skip
    label_product.main()
    before = {record["structure_id"] for record, _, _ in read_chunks(folder)}
    assert {"alp-216", "insb-216"} <= before
    assert {record["structure_id"] for record, _ in read_product(tmp_path / "kept.h5")[1]} == before - {"alp-216"}


def test_a_listed_order_is_labelled_from_any_place_on(folder, order, structure_types, tmp_path, monkeypatch):
    """The chunks before it are not made, those after it are the same."""
    monkeypatch.setattr(label_library, "CHUNK", 4)
    run(Springs(), order.iloc[:12], tmp_path, structure_types, SETTINGS, 61, ORIGIN, first=8)
    made = sorted(path.name for path in tmp_path.glob("labels-*.h5"))
    assert made == ["labels-00002.h5"]
    again, whole = ({r["structure_id"]: a for r, a, _ in read_chunks(one)} for one in (tmp_path, folder))
    for name, arrays in again.items():
        assert all(numpy.array_equal(arrays[key], whole[name][key]) for key in arrays)


def test_forces_of_zero_stay_zero():
    integers, steps = quantise(numpy.zeros((2, 3, 3)))
    assert not integers.any() and not steps.any()


def test_chunks_of_two_origins_are_not_mixed(folder, tmp_path):
    for one in folder.glob("labels-*.h5"):
        (tmp_path / one.name).write_bytes(one.read_bytes())
    with h5py.File(tmp_path / "labels-00001.h5", "a") as store:
        store.attrs["seed"] = 62
    with pytest.raises(StudyError, match="origin"):
        list(read_chunks(tmp_path))


def test_a_folder_without_chunks_is_refused(tmp_path):
    with pytest.raises(StudyError, match="label_library"):
        list(read_chunks(tmp_path))


def test_the_labels_in_the_repository_are_whole():
    """Roles, proportions and numbers as their page says; forces without net force, nothing that is not finite."""
    origin, labelled = read_product(ROOT / "resources/labels/teacher_labels.h5")
    assert "nequix" in origin["engine"] and len(labelled) == 3650
    roles = [record["role"] for record, _ in labelled]
    assert roles.count("test") == 419 and roles.count("training") == 3231
    assert len({record["structure_id"] for record, _ in labelled}) == 3650
    for record, arrays in labelled[:200]:
        assert record["status"] == "ok"
        forces, displacements = arrays["forces"], arrays["displacements"]
        assert forces.shape == displacements.shape and numpy.isfinite(forces).all()
        assert numpy.linalg.norm(displacements, axis=2) == pytest.approx(0.03, abs=2e-6)
        assert numpy.abs(forces.sum(axis=1)).max() < 1e-3 * numpy.abs(forces).sum(axis=1).max()


@pytest.mark.parametrize(("name", "count"), [("queried", 1500), ("drawn", 1998)])
def test_further_labels_in_the_repository_hold_no_compound_that_judges(name, count):
    """Nor one that the labels before have: by class and composition, whatever the order of the elements."""
    origin, labelled = read_product(ROOT / f"resources/labels/{name}_labels.h5")
    first, before = read_product(ROOT / "resources/labels/teacher_labels.h5")
    assert origin["weights_sha256"] == first["weights_sha256"] and origin["settings"] == first["settings"]
    assert len(labelled) == count
    own = {class_and_composition(record) for record, _ in labelled}
    assert len(own) == count and not own & {class_and_composition(record) for record, _ in before}
    pools = [ROOT / f"resources/{pool}.csv" for pool in ("pool", "laptop_pool", "dft_pool")]
    assert not own & excluded_classes(pools)
    assert {record["role"] for record, _ in labelled} == {"training"}
    for record, arrays in labelled[:50]:
        assert record["status"] == "ok" and numpy.isfinite(arrays["forces"]).all()
        assert numpy.linalg.norm(arrays["displacements"], axis=2) == pytest.approx(0.03, abs=2e-6)


def test_the_queried_labels_are_of_screened_compounds_that_had_none():
    """Their order was that of the query of an earlier table: resources/labels/README.md."""
    _, queried = read_product(ROOT / "resources/labels/queried_labels.h5")
    labelled = [record for record, _ in queried]
    before = {class_and_composition(one) for one, _ in read_product(ROOT / "resources/labels/teacher_labels.h5")[1]}
    screened = pandas.read_parquet(ROOT / "resources/screening/screening.parquet").set_index("structure_id")
    assert {record["structure_id"] for record in labelled} <= set(screened.index)
    assert not before & {class_and_composition(one) for one in labelled} and len(labelled) == 1500
