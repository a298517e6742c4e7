"""Every stage that works structure by structure: failures say why, a whole shard of them is an error, classes repeat.

The scripts run as they are; what computes one structure is replaced by a function that fails as it is told.
"""

import contextlib
import json
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import pandas
import pytest
from ase.build import bulk
from ase.io import write

import phonoscreen.audit.job as job_module
from phonoscreen.audit.errors import ACCEPTED, StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.records import read_records, write_records
from phonoscreen.audit.retry import REQUEST
from phonoscreen.audit.sealed import write_sealed
from phonoscreen.audit.shard import Outcome
from phonoscreen.structures.store import structure_arrays
from phonoscreen.workflow.settings.check import check_settings
from tests.conftest import ROOT

NAMES = ("mgo", "nacl", "kbr")
STAGES = ("relax_structures", "label_forces", "fit_force_constants", "solve_bte", "analyse_bonding",
          "calculate_charges")  # fmt: skip


class Stage:
    """One stage with three structures before it, all of them ok."""

    def __init__(self, name, folder, monkeypatch, make_job):
        self.folder, self.faults, self.computed = folder, {}, []
        self._patch = monkeypatch.setattr
        self._files()
        inputs, params = getattr(self, f"_{name}")()
        output = {"records": "out/0000.parquet", "arrays": "out/0000.h5", "structures": "out/0000.extxyz"}
        self.job = make_job(input=inputs, output=output, params=params, rule=name, wildcards={"shard": "0000"})
        self.records = Path(self.job.output.records)
        self.records.parent.mkdir()
        caught = {}
        self._patch(job_module, "run_job", lambda _, main: caught.update(main=main))
        runpy.run_path(str(ROOT / f"scripts/{name}.py"), init_globals={"snakemake": None})
        self._main = caught["main"]

    def run(self, faults):
        """Run the script with structures that fail, and return what each is to blame on."""
        self.faults, self.computed = faults, []
        self._main(self.job)
        return read_records(self.records).set_index("structure_id")["failure"].to_dict()

    def ask_again(self, classes):
        """Leave the request of ``phonoscreen retry``, and remove the products as Snakemake does."""
        files = {}
        for path in (self.records, Path(self.job.output.arrays)):
            self.job.work.mkdir(parents=True, exist_ok=True)
            shutil.move(path, self.job.work / f"retry{path.suffix}")
            files[f"retry{path.suffix}"] = file_sha256(self.job.work / f"retry{path.suffix}")
        write_sealed({"classes": classes, "key": self.job.key, "files": files}, self.job.work / REQUEST)

    def _compute(self, name):
        self.computed.append(name)
        if name in self.faults:
            raise StudyError(f"{name}: it did not work", blame=self.faults[name])
        return Outcome(values={"n": 1}, arrays=structure_arrays(bulk("MgO", "rocksalt", 4.2)))

    def _files(self):
        rows = [{"structure_id": name, "stage": "before", "status": "ok", "reason": ""} for name in NAMES]
        write_records([{**row, "n_reference": 1} for row in rows], self.folder / "before.parquet")
        pandas.DataFrame({"structure_id": NAMES, "part": "training"}).to_parquet(self.folder / "manifest.parquet")
        crystals = [bulk("MgO", "rocksalt", 4.2) for _ in NAMES]
        with h5py.File(self.folder / "before.h5", "w") as store:
            for name, crystal in zip(NAMES, crystals):
                crystal.info["structure_id"] = name
                for key, array in structure_arrays(crystal).items():
                    store[f"{name}/{key}"] = array
        write(self.folder / "before.extxyz", crystals)
        self.h5, self.table = str(self.folder / "before.h5"), str(self.folder / "before.parquet")

    def _relax_structures(self):
        self._patch("phonoscreen.stages.relaxing.relaxing_engine", lambda *_: None)
        self._patch("phonoscreen.structures.relaxation.relax_structure", lambda a, e, name, *_: self._compute(name))
        params = {"reference": {}, "relax": {}, "symmetry_tolerance_angstrom": 0.01}
        return {"structures": str(self.folder / "before.extxyz")}, params

    def _label_forces(self):
        self._patch("phonoscreen.reference.registry.engine_of", lambda *_: None)
        self._patch("phonoscreen.stages.labels.label_supercells", lambda engine, name, *_: self._compute(name))
        self._patch("phonoscreen.stages.labels.inputs_of_labels", lambda *_: "the same")
        inputs = {"supercells": self.h5, "supercell_records": self.table, "assignment": self.table}
        return {**inputs, "manifest": str(self.folder / "manifest.parquet")}, {"parts": ["training"], "reference": {}}

    def _fit_force_constants(self):
        self._patch("phonoscreen.stages.force_constants.fit_structure",
                    lambda pool, row, *_: self._compute(row.name))  # fmt: skip
        inputs = {"forces_records": self.table, "forces": self.h5, "supercells": self.h5, "bases": self.h5}
        fit = check_settings({})["force_constants"]
        return {**inputs, "assignment": self.table}, {"fit": fit, "learning_curve": False}

    def _solve_bte(self):
        store = SimpleNamespace(second_order_alone=lambda name: False, task=lambda name, *_: name)
        self._patch("phonoscreen.stages.transport.transport_of", lambda job: {"committee": None})
        self._patch("phonoscreen.stages.solvers.choose_solver", lambda _: lambda name, transport: self._compute(name))
        self._patch("phonoscreen.stages.stored_force_constants.StoredForceConstants",
                    lambda *_: contextlib.nullcontext(store))  # fmt: skip
        return {"records": self.table, "relaxed": self.h5, "force_constants": self.h5, "bases": self.h5}, {}

    def _analyse_bonding(self):
        analyst = SimpleNamespace(analyse=lambda crystal, name, solved: self._compute(name))
        self._patch("phonoscreen.stages.bonding.Analyst", lambda *_: analyst)
        inputs = {"relaxed_records": self.table, "transport_records": self.table, "relaxed": self.h5}
        return {**inputs, "manifest": str(self.folder / "manifest.parquet")}, {}

    def _calculate_charges(self):
        self._patch("phonoscreen.stages.charges.find_charges", lambda source, name, crystal: self._compute(name))
        self._patch("phonoscreen.reference.registry.engine_of", lambda *_: None)
        self._patch("phonoscreen.stages.charges.CalculatedCharges", lambda *_: None)
        return {"relaxed": self.h5, "relaxed_records": self.table}, {"charges": {"source": "calculated"}}


@pytest.fixture(params=STAGES)
def stage(request, tmp_path, monkeypatch, make_job):
    """One stage after the other."""
    monkeypatch.setenv(ACCEPTED, "[]")
    return Stage(request.param, tmp_path, monkeypatch, make_job)


def test_a_shard_that_failed_for_one_reason_ends_as_an_error_and_is_tried_again(stage, monkeypatch):
    for kind in ("engine", "settings"):
        with pytest.raises(StudyError, match="all 3 structures that were tried failed for one reason") as caught:
            stage.run(dict.fromkeys(NAMES, kind))
        assert caught.value.blame == kind and f"accept_failed_shards: [{stage.job.rule}]" in str(caught.value)
        assert not stage.records.exists() and len(stage.computed) == 3
    assert set(stage.run({}).values()) == {""} and len(stage.computed) == 3


def test_failures_carry_a_class_and_those_of_the_chosen_classes_alone_are_repeated(stage, monkeypatch):
    faults = {"mgo": "engine", "nacl": "structure"}
    assert stage.run(faults) == {**faults, "kbr": ""} and sorted(stage.computed) == sorted(NAMES)
    stage.ask_again(["engine", "machine"])
    assert stage.run({}) == {"mgo": "", "nacl": "structure", "kbr": ""} and stage.computed == ["mgo"]
    stage.ask_again(["structure"])
    assert set(stage.run({}).values()) == {""} and stage.computed == ["nacl"]
    with h5py.File(stage.job.output.arrays) as store:
        assert set(store) == set(NAMES)


def test_a_shard_may_fail_as_a_whole_where_the_settings_say_so(stage, monkeypatch):
    monkeypatch.setenv(ACCEPTED, json.dumps([stage.job.rule]))
    assert set(stage.run(dict.fromkeys(NAMES, "engine")).values()) == {"engine"}
