"""Expensive products are used again until new ones are asked for by name, and what is out of date is said."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy
import pytest

from phonoscreen.audit import kept, protected
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.outdated import find_outdated, footnote, state, statement
from phonoscreen.audit.provenance import write_provenance
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.workflow.protection import current_settings, forced_names, unwatched
from tests.conftest import Named

SETTINGS = {"code": "c1", "reference": {"engine": "sevennet", "model": "7net-0"}}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with the labels of one shard: what is asked, and which structures were computed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(protected.VARIABLE, raising=False)
    Path("results/labels").mkdir(parents=True)
    study = SimpleNamespace(inputs={"a": 1.0, "b": 2.0, "c": 3.0}, computed=[], broken=set(), skipped=set())

    def run(ids="abc", asked=False, interrupted_at=None, **settings):
        study.computed.clear()
        output = Named(arrays="results/labels/0000.h5", records="results/labels/0000.parquet")
        for path in output.values():  # as Snakemake does before a job
            Path(path).unlink(missing_ok=True)
        job = SimpleNamespace(
            rule="label_forces", output=output, params=Named({**SETTINGS, **settings}), wildcards={"shard": "0000"},
            key=str(settings), work=Path("results/work/label_forces/shard=0000"), asked=asked, made_with=None,
            inputs={},
        )  # fmt: skip

        def compute(name):
            if name == interrupted_at:
                raise KeyboardInterrupt
            if name in study.skipped:
                return Outcome(status="skipped", reason="gets no labels")
            study.computed.append(name)
            if name in study.broken:
                raise StudyError("broken")
            value = study.inputs[name]
            return Outcome(values={"n": 2, "x": value}, arrays={"x": numpy.full(3, value)}, attrs={"engine": "e"})

        def own_inputs(name):
            return None if name in study.skipped else kept.digest_of_arrays(study.inputs[name])

        run_shard(job, list(ids), compute, stage="label_forces", own_inputs=own_inputs)
        write_provenance(job, output.values(), started=time.time())
        return job

    study.run = run
    return study


def content():
    records = read_records("results/labels/0000.parquet")
    with h5py.File("results/labels/0000.h5") as store:
        return records.to_dict("records"), {
            name: (store[name]["x"][:].tolist(), dict(store[name].attrs)) for name in store
        }


@pytest.mark.parametrize("settings", [{}, {"code": "c2"}, {"reference": {"engine": "sevennet", "model": "7net-l3i5"}}])
def test_the_same_inputs_are_not_computed_again_whatever_has_changed(study, settings):
    first = study.run()
    assert study.computed == ["a", "b", "c"] and first.made_with[0]["settings"] == SETTINGS
    before = content()
    again = study.run(**settings)
    assert study.computed == [] and content() == before
    assert [(part["settings"], part["structures"]) for part in again.made_with] == [(SETTINGS, 3)]


def test_what_is_asked_for_by_name_is_computed_again_where_it_is_out_of_date(study):
    study.run()
    study.run(asked=True)
    assert study.computed == []
    job = study.run(asked=True, code="c2")
    assert study.computed == ["a", "b", "c"]
    assert [part["settings"]["code"] for part in job.made_with] == ["c2"]


def test_a_changed_structure_alone_is_computed_and_the_mixture_is_recorded(study):
    study.run()
    study.inputs["b"] = 5.0
    job = study.run(code="c2")
    assert study.computed == ["b"]
    assert [(part["settings"]["code"], part["structures"]) for part in job.made_with] == [("c1", 2), ("c2", 1)]
    assert content()[1]["b"] == ([5.0] * 3, {"engine": "e"}) and content()[1]["a"][0] == [1.0] * 3


def test_a_failed_structure_is_tried_again(study):
    study.broken.add("b")
    study.run()
    study.broken.clear()
    study.run()
    assert study.computed == ["b"] and set(content()[1]) == {"a", "b", "c"}


def test_a_structure_that_left_and_returns_is_not_computed_again(study):
    study.run()
    study.run(ids="ac")
    assert set(content()[1]) == {"a", "c"}
    study.skipped.add("c")
    study.run()
    assert study.computed == [] and set(content()[1]) == {"a", "b"}
    study.skipped.clear()
    study.run()
    assert study.computed == [] and set(content()[1]) == {"a", "b", "c"}


def test_an_interrupted_run_goes_on_after_an_edit_of_code(study):
    with pytest.raises(KeyboardInterrupt):
        study.run(interrupted_at="c")
    job = study.run(code="c2")
    assert study.computed == ["c"]
    assert [(part["settings"]["code"], part["structures"]) for part in job.made_with] == [("c1", 2), ("c2", 1)]


@pytest.mark.parametrize("file", ["kept.json", "kept.*.h5"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damaged_outcomes_are_computed_again(study, file, damage):
    study.run()
    (path,) = Path("results/work/label_forces/shard=0000").glob(file)
    data = path.read_bytes()
    flipped = data[:200] + bytes([data[200] ^ 1]) + data[201:]
    path.write_bytes({"flip": flipped, "cut": data[:-5], "empty": b""}[damage])
    study.run()
    assert study.computed == ["a", "b", "c"]


def test_the_work_folder_holds_no_single_outcomes_when_the_shard_is_complete(study):
    study.run()
    names = {path.name.partition(".")[0] for path in Path("results/work/label_forces/shard=0000").iterdir()}
    assert names == {"kept", "settings"}


def whole_job(inputs, asked=False, **settings):
    Path("results/rounds").mkdir(parents=True, exist_ok=True)
    params = Named({"code": "c1", "training": {"epochs": 3}, "force_model": {}, "seed": 1, **settings})
    return SimpleNamespace(
        rule="train_member", inputs=inputs, params=params, asked=asked, made_with=None, wildcards={"member": "0"},
        output=["results/rounds/model.safetensors", "results/rounds/model.json"],
        work=Path("results/work/train_member/member=0"), key="k",
    )  # fmt: skip


def test_a_member_is_taken_from_the_same_data_and_trained_on_other_data(study):
    job = whole_job({"data.h5": "1"})
    assert not kept.restore_whole(job)
    for path in job.output:
        Path(path).write_text(f"trained {path}")
    kept.keep_whole(job, seconds=90.0)
    for path in job.output:
        Path(path).unlink()
    again = whole_job({"moved.h5": "1"}, code="c2")
    assert kept.restore_whole(again) and again.made_with[0]["settings"]["code"] == "c1"
    assert [Path(path).read_text() for path in job.output] == [f"trained {path}" for path in job.output]
    assert not kept.restore_whole(whole_job({"data.h5": "2"}))
    assert kept.restore_whole(whole_job({"data.h5": "1"}, asked=True))
    assert not kept.restore_whole(whole_job({"data.h5": "1"}, asked=True, training={"epochs": 4}))
    next(again.work.glob("kept.0*")).write_text("damaged")
    assert not kept.restore_whole(whole_job({"data.h5": "1"}))


def test_the_statement_says_what_why_how_much_and_how(study, monkeypatch):
    monkeypatch.setenv("PHONOSCREEN_CALL", "snakemake\n--profile laptop")
    study.run()
    assert statement(find_outdated({"label_forces": SETTINGS})) == ""
    now = {"label_forces": {"code": "c1", "reference": {"engine": "sevennet", "model": "7net-l3i5"}}}
    text = statement(find_outdated(now))
    assert 'reference.model ("7net-0" -> "7net-l3i5")' in text and "3 structure(s)" in text and "labels" in text
    assert "snakemake --profile laptop --forcerun label_forces" in text and "about 0 s" in text
    study.inputs["b"] = 5.0
    study.run(**now["label_forces"])  # mixed: two of three are old
    assert "2 structure(s)" in statement(find_outdated(now)) and "the code" not in statement(find_outdated(now))
    assert find_outdated(now, planned={"results/labels/0001.h5"}) == []
    os.unlink("results/labels/0000.h5")
    os.unlink("results/labels/0000.parquet")
    assert find_outdated(now) == []


def test_a_figure_says_what_below_it_is_out_of_date(study):
    study.run()
    read = SimpleNamespace(
        rule="tabulate", params={}, wildcards={}, key="k", inputs={"results/labels/0000.h5": "1", "settings.txt": "2"}
    )
    for name in ("table", "other"):
        Path(f"results/{name}.parquet").write_text(name)
    write_provenance(read, ["results/table.parquet"], started=time.time())
    Path("state.json").write_text(json.dumps(state(find_outdated({"label_forces": {**SETTINGS, "code": "c2"}}))))
    assert footnote("state.json", ["results/table.parquet"]) == (
        "Out of date below this: labels (code), made with other settings or code than the study has now."
    )
    assert footnote("state.json", ["results/other.parquet"]) == ""
    Path("state.json").write_text("{}")
    assert footnote("state.json", ["results/table.parquet"]) == ""


def test_the_rules_leave_unwatched_what_the_products_keep():
    """The two lists agree: in the Snakefile by ``unwatched``, in the job by ``UNWATCHED``."""
    from tests.test_workflow_plan import rules

    for name, names in protected.UNWATCHED.items():
        marked = {line.partition("=")[0].strip() for line in rules()[name].splitlines() if "=unwatched(" in line}
        assert marked - {"outputs", "how"} == set(names)  # where calculations come from decides no number
    assert set(protected.UNWATCHED) == set(protected.PROTECTED)


def test_what_is_forced_by_name_is_known_to_the_jobs(monkeypatch):
    monkeypatch.delenv(protected.VARIABLE, raising=False)
    assert not protected.is_asked("label_forces", ["x.h5"])
    call = SimpleNamespace(forcerun=["label_forces", "y.h5"], forceall=False)
    protected.announce_asked(forced_names(call))
    assert protected.is_asked("label_forces", ["x.h5"]) and protected.is_asked("train_member", ["y.h5"])
    assert not protected.is_asked("train_member", ["x.h5"])
    protected.announce_asked(forced_names(SimpleNamespace(**{**vars(call), "forceall": True})))
    assert protected.is_asked("train_member", ["x.h5"])


def test_parameters_that_are_not_watched_are_known():
    params = SimpleNamespace(_allitems=lambda: [("code", unwatched("c1")), ("parts", ["training"])])
    workflow = SimpleNamespace(get_rule=lambda name: SimpleNamespace(params=params))
    assert current_settings(workflow, {"label_forces": ("code",)}) == {"label_forces": {"code": "c1"}}
