"""Force constants fitted again by hiphive and by symfc."""

import dataclasses

import h5py
import numpy
import pandas
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import read_records, write_records
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.phonons.dipoles import dipole_constants, dipole_forces
from phonoscreen.stages.independent_fits import PROGRAMS, Problem, compare, smallest_structures
from tests import prototype_crystals as prototypes
from tests.small_study import run_script
from tests.test_lattice_fit import model_forces, random_displacements

CUTOFFS = {"third_cutoff_angstrom": 4.3}
SALT = prototypes.rocksalt()
CHARGES = (numpy.array([1.1 * numpy.eye(3), -1.1 * numpy.eye(3)]), 2.3 * numpy.eye(3))


def samples_of(crystal, repetitions, noise=0.01, charges=None):
    """Forces that no basis describes fully: least squares has to weigh them."""
    basis = build_basis(crystal, repetitions, (None, 4.3))
    moves = random_displacements(basis, 4)
    rng = numpy.random.default_rng(3)
    forces = model_forces(basis, rng.normal(size=basis.n_free), moves)
    forces += noise * numpy.sqrt((forces**2).mean()) * rng.normal(size=forces.shape)
    forces -= forces.mean(axis=1, keepdims=True)
    residual = 1e-3 * rng.normal(size=forces.shape[1:])
    if charges is not None:
        forces += dipole_forces(dipole_constants(crystal, repetitions, *charges), moves)
    return {"displacements": moves, "forces": forces + residual, "residual_forces": residual, "charges": charges}


@pytest.fixture(scope="module")
def samples():
    return samples_of(SALT, (3, 3, 3), charges=CHARGES)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_find_the_same_constants_as_this_project(samples, program):
    found = compare(SALT, (3, 3, 3), samples, CUTOFFS, program)
    assert found["second_relative_difference"] < 1e-8 and found["third_relative_difference"] < 1e-8
    assert found["frequency_difference_max_thz"] < 1e-4
    assert numpy.isnan(found["second_cutoff_angstrom"]) == (program == "symfc")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_order_of_atoms_would_show(samples, program, monkeypatch):
    """The other program gets two atoms exchanged: the comparison can fail."""
    exchange = numpy.arange(samples["forces"].shape[1])
    exchange[[0, 3]] = [3, 0]
    true = Problem.from_samples.__func__

    def spoilt(cls, *arguments):
        problem = true(cls, *arguments)
        import phonoscreen.stages.independent_fits as module

        name = f"fit_with_{program}"
        fit = getattr(module, name)
        monkeypatch.setattr(module, name, lambda p, *rest: fit(
            dataclasses.replace(p, displacements=p.displacements[:, exchange]), *rest
        ))  # fmt: skip
        return problem

    monkeypatch.setattr(Problem, "from_samples", classmethod(spoilt))
    assert compare(SALT, (3, 3, 3), samples, CUTOFFS, program)["second_relative_difference"] > 0.01


def test_smallest_supercells_of_the_fitted_structures_are_chosen():
    fitted = pandas.DataFrame({"structure_id": ["a", "b", "c", "d"], "status": ["ok", "failed", "ok", "ok"]})
    assignment = pandas.DataFrame({"structure_id": ["d", "c", "b", "a"], "n_supercell_atoms": [54, 32, 8, 54]})
    assert smallest_structures(fitted, assignment, 2) == ["c", "a"]
    assert smallest_structures(fitted, assignment, 0) == []


def test_a_missing_third_order_and_another_program_are_refused(samples):
    with pytest.raises(StudyError, match="third order"):
        compare(SALT, (3, 3, 3), samples, {"third_cutoff_angstrom": 0}, "symfc")
    with pytest.raises(StudyError, match="hiphive, symfc"):
        compare(SALT, (3, 3, 3), samples, CUTOFFS, "magic")


def test_script_records_every_program_for_the_chosen_structures(samples, tmp_path):
    files = {name: tmp_path / name for name in ("labels.h5", "supercells.h5")}
    with h5py.File(files["labels.h5"], "w") as labels, h5py.File(files["supercells.h5"], "w") as supercells:
        for name, data in (("cell", SALT.cell), ("scaled_positions", SALT.scaled_positions),
                           ("numbers", SALT.numbers), ("repetitions", (3, 3, 3)),
                           ("displacements", samples["displacements"])):  # fmt: skip
            supercells[f"salt/{name}"] = data
        labels["salt/forces"], labels["salt/residual_forces"] = samples["forces"], samples["residual_forces"]
        labels["salt/born_charges"], labels["salt/dielectric"] = CHARGES
    record = {"structure_id": "salt", "stage": "fit", "status": "ok", "reason": "", "n_supercell_atoms": 54}
    for name in ("records", "assignment"):
        write_records([record | ({"third_shell": 1} if name == "assignment" else {})], tmp_path / f"{name}.parquet")
    one, none = [files["labels.h5"]], tmp_path / "records.parquet"
    run_script(
        "cross_check_force_constants",
        input={"forces_reference": one, "records_reference": none, "supercells": [files["supercells.h5"]],
               "assignment": tmp_path / "assignment.parquet"},
        output={"records": tmp_path / "checks.parquet"},
        params={"sources": ["reference"], "structures_per_source": 1, "force_constants": CUTOFFS},
    )  # fmt: skip
    table = read_records(tmp_path / "checks.parquet")
    assert table["program"].tolist() == list(PROGRAMS) and (table["status"] == "ok").all()
    assert table["third_relative_difference"].max() < 1e-8
