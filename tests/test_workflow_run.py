"""A whole study, small but real: faults are recorded, a kill loses nothing, equal seeds give equal tables.

Three copies of the repository run a study of eight compounds with a universal potential as the reference: one is killed
again and again, one meets a corrupted structure at every stage, one is left alone.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy
import pandas
import pytest
from ase.io import read, write

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.integrity import check_inputs
from phonoscreen.audit.lineage import Lineage, describe
from phonoscreen.audit.protected import PROTECTED
from phonoscreen.audit.verify import verify_study
from phonoscreen.stages.other_solvers import read_conductivity
from tests.conftest import ROOT
from tests.files_of_study import files_of_a_job, study_of_the_paper
from tests.small_run import Study
from tests.test_contracts import departures

TABLES = [
    f"results/tables/{name}.csv"
    for name in ("status", "table1", "rounds", "force_errors", "phonons", "transport", "bonding")
]

LAST_DIGITS = 1e-12
"""A sum may end in another last digit (seen once, in one kappa of sixteen); a lost or doubled part is larger."""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """The study with one structure spoilt before each stage."""
    study = Study(tmp_path_factory.mktemp("faulty"))
    study.run("--until", "filter_structures")
    initial = study.folder / "results/structures/initial/0000.extxyz"
    structures = read(initial, index=":")
    crushed = next(atoms for atoms in structures if atoms.info["structure_id"] == "znte")
    crushed.set_cell(0.1 * crushed.cell, scale_atoms=True)
    write(initial, structures)
    study.record_again("results/structures/initial/0000.extxyz")
    study.run("--until", "displace_supercells")
    manifest = study.records("structures/manifest.parquet")
    left = [name for part in ("unexplored", "validation") for name in sorted(manifest.index[manifest["part"] == part])]
    study.spoilt = dict(zip(("label", "fit", "solve"), [name for name in left if name != "znte"]), relax="znte")

    def spoil(path, dataset):
        with h5py.File(study.folder / "results" / path, "r+") as store:
            store[dataset][...] = numpy.nan
        study.record_again(f"results/{path}")

    spoil("supercells/0000.h5", f"{study.spoilt['label']}/displacements")
    study.run("--until", "label_forces")
    spoil("labels/0000.h5", f"{study.spoilt['fit']}/forces")
    study.run("results/stability/reference/0000.parquet")
    with h5py.File(study.folder / "results/force_constants/reference/0000.h5", "r+") as store:
        store[study.spoilt["solve"]]["parameters"][-1] = numpy.nan
    study.record_again("results/force_constants/reference/0000.h5")
    study.run("results/tables/status.csv")
    return study


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The study, killed with all its jobs every few seconds until it is done."""
    study = Study(tmp_path_factory.mktemp("killed"))
    study.kills = 0
    for patience in (12, 25, 40):
        process = subprocess.Popen(
            study.command("--quiet", "all", "--", *TABLES), cwd=study.folder, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(timeout=patience)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            study.kills += 1
            time.sleep(0.5)
            subprocess.run(study.command("--unlock"), cwd=study.folder, capture_output=True)
    study.run(*TABLES)
    return study


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """The study, run once without any disturbance."""
    study = Study(tmp_path_factory.mktemp("untouched"))
    study.run()
    return study


def test_each_spoilt_structure_is_recorded_with_its_reason_and_the_run_goes_on(faulty):
    relaxed = faulty.records("relaxed/0000.parquet")
    assert relaxed.loc["znte", "status"] == "failed" and "apart" in relaxed.loc["znte", "reason"]
    labels = faulty.records("labels/0000.parquet")
    assert labels.loc[faulty.spoilt["label"], "status"] == "failed"
    fits = faulty.records("force_constants/reference/0000.parquet")
    assert fits.loc[faulty.spoilt["fit"], "status"] == "failed"
    solved = faulty.records("transport/reference/0000.parquet")
    assert solved.loc[faulty.spoilt["solve"], "status"] == "failed"
    for table in (relaxed, labels, fits, solved):
        assert (table["status"] == "ok").sum() >= 3
        assert (table.loc[table["status"] != "ok", "reason"] != "").all()


def test_statuses_of_every_stage_sum_to_the_manifest(faulty):
    status = pandas.read_csv(faulty.folder / "results/tables/status.csv")
    n = len(faulty.records("structures/manifest.parquet"))
    assert set(status.groupby(["stage", "source"], dropna=False)["n_structures"].sum()) == {n}
    filtered = faulty.records("structures/filter_records.parquet")
    assert (filtered["status"] == "ok").sum() == n
    assert filtered.loc[["crushed", "hexagonal"], "status"].tolist() == ["failed", "skipped"]


def test_a_spoilt_file_is_named_by_the_lineage(faulty):
    lines, wrong = describe(Lineage(faulty.folder).trace("results/transport/reference/0000.parquet"))
    assert wrong and any("force_constants/reference/0000.h5  [changed]" in line for line in lines)


def test_a_killed_study_ends_in_the_same_tables(killed, untouched):
    assert killed.kills >= 2
    mine, other = killed.tables(), untouched.tables()
    assert len(mine) >= 12 and set(mine) <= set(other)
    for name in mine:
        if name != "timings.csv":  # seconds
            drop = [c for c in ("seconds",) if c in mine[name].split("\n")[0].split(",")]
            one, two = (
                pandas.read_csv(s.folder / f"results/tables/{name}").drop(columns=drop) for s in (killed, untouched)
            )
            pandas.testing.assert_frame_equal(one, two, rtol=LAST_DIGITS, atol=0, obj=name)


def test_a_finished_study_keeps_the_contracts(untouched):
    assert departures(untouched.folder / "results") == []


def test_the_study_of_the_paper_submits_few_jobs_and_keeps_few_files(untouched):
    """At most 1,500 jobs, and 10,000 files of each stage; those beside the products are counted in a finished study."""
    jobs, products = study_of_the_paper(ROOT)
    kept = files_of_a_job(untouched.folder)
    assert set(jobs) - set(kept) <= {"download_structures"}
    assert sum(jobs.values()) <= 1500
    assert max(products[rule] + n * kept.get(rule, 3) for rule, n in jobs.items()) <= 10_000
    structures = len(untouched.records("structures/manifest.parquet"))
    assert kept["label_forces"] <= 3 + structures / 2, "nothing is kept in a file for each structure"


def test_a_finished_study_has_nothing_to_do(untouched):
    assert "Nothing to be done" in untouched.run()
    for path in untouched.folder.rglob("*.py"):
        path.touch()
    (untouched.folder / "resources/prototypes.yaml").touch()
    assert untouched.planned() == {}


def test_editing_adding_or_removing_a_structure_file_in_place_is_seen(untouched):
    salt = untouched.folder / "compounds/nacl.cif"
    text = salt.read_text()
    try:
        salt.touch()
        assert untouched.planned("structures") == {}
        salt.write_text(text.replace("NaCl", "KCl"))
        assert untouched.planned("structures")["collect_structures"] == 1
    finally:
        salt.write_text(text)
    (untouched.folder / "compounds/nacl.cif~").write_text(text)
    assert untouched.planned("structures") == {}
    (untouched.folder / "compounds/more.cif").write_text(text)
    try:
        assert untouched.planned("structures")["collect_structures"] == 1
    finally:
        (untouched.folder / "compounds/more.cif").unlink()


def test_deleting_one_figure_rebuilds_one_figure(untouched):
    (untouched.folder / "results/figures/figure4.pdf").unlink()
    assert untouched.planned("figure4") == {"draw_figure": 1, "figure4": 1}
    untouched.run("figure4")


def test_the_temperature_reruns_transport_and_what_follows_never_training(untouched):
    (untouched.folder / "hot.yaml").write_text("transport: {temperature_k: 400}\n")
    planned = untouched.planned("--configfile", "study.yaml", "hot.yaml")
    assert planned["solve_bte"] == 2 and planned["tabulate_transport"] == 1
    assert not {"train_member", "label_forces", "predict_forces", "fit_force_constants", "check_stability"} & set(
        planned
    )


def test_editing_a_module_reruns_the_rules_that_use_it_and_other_words_rerun_none(untouched):
    module = untouched.folder / "phonoscreen/figures/figure4.py"
    text = module.read_text()
    try:
        module.write_text(text + "\nEDITED = True\n")
        assert untouched.planned("figure4", "figure3") == {"draw_figure": 1, "figure4": 1}
    finally:
        module.write_text(text)
    deep = untouched.folder / "phonoscreen/audit/errors.py"
    text = deep.read_text()
    try:
        deep.write_text("# edited\n" + text.replace("A problem of the input", "Another sentence on the input"))
        assert deep.read_text() != "# edited\n" + text
        assert untouched.planned() == {}
    finally:
        deep.write_text(text)


def test_an_edit_of_the_relaxation_recomputes_nothing_expensive_and_every_figure_says_so(untouched):
    module = untouched.folder / "phonoscreen/structures/relaxation.py"
    text, old = module.read_text(), "_STEP_ANGSTROM = 0.25"
    caption = untouched.folder / "results/figures/figure4.md"
    assert "Out of date" not in caption.read_text() and old in text
    try:
        module.write_text(text.replace(old, "_STEP_ANGSTROM = 0.24"))
        planned = untouched.planned()
        assert not PROTECTED.keys() & planned.keys() and {"find_outdated", "draw_figure"} <= planned.keys()
        said = untouched.run("figure4")
        assert "relaxed structures: 1 job(s), 8 structure(s) of rule relax_structures; changed since: the code" in said
        assert "--configfile study.yaml" in said and "--forcerun relax_structures" in said
        assert "relaxed structures (code)" in caption.read_text() and "labels" not in caption.read_text()
        assert untouched.planned("--forcerun", "relax_structures")["relax_structures"] == 1
    finally:
        module.write_text(text)
    untouched.run("figure4")
    assert "Out of date" not in caption.read_text() and untouched.planned() == {}


def test_another_member_of_the_committee_is_one_training(untouched):
    more = ("--config", "force_model={committee: 3}")
    assert untouched.planned("results/rounds/0/uncertainty/0000.parquet", *more)["train_member"] == 1


def test_nothing_is_written_outside_the_declared_places(untouched):
    """Outputs, logs, benchmarks, provenance, and one work folder for each job (``phonoscreen.audit.work``)."""
    sound, faults, unknown, damaged = verify_study(untouched.folder)
    assert sound > 60 and not faults and not unknown and not damaged
    new = {path.name for path in untouched.folder.iterdir()} - untouched.places
    assert new <= {"results", "logs", "benchmarks", ".snakemake", "hot.yaml", "report.zip"}
    work = untouched.folder / "results/work"
    assert {path.name for path in work.iterdir()} <= {*PROTECTED, *(path.stem for path in (ROOT / "scripts").glob("*"))}
    kinds = {path.name.partition(".")[0] for job in work.glob("*/*") for path in job.iterdir()}
    assert kinds <= {"kept", "settings", "calculations", "division"}


def test_the_report_of_snakemake_is_built_offline_and_holds_the_results(untouched):
    untouched.run("--report", "report.zip")
    with zipfile.ZipFile(untouched.folder / "report.zip") as report:
        names = {Path(name).name for name in report.namelist()}
        page = report.read("report/report.html").decode()
    assert {"figure4.png", "figureS6.pdf", "status.csv", "headline.csv", "summary.html", "card.md"} <= names
    assert "Thermal conductivity against the largest mean square displacement" in page


def test_the_lineage_of_a_result_reaches_the_compounds_and_matches(untouched):
    node = Lineage(untouched.folder).trace("results/figures/figure4.pdf")
    lines, wrong = describe(node)
    assert not wrong
    text = "\n".join(lines)
    for rule in ("draw_figure", "solve_bte", "fit_force_constants", "train_member", "relax_structures"):
        assert rule in text
    assert any(line.strip().startswith("compounds") and "[source]" in line for line in lines)


def flip(content, other):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


DAMAGES = {
    "flipped": flip,
    "cut": lambda content, other: content[: len(content) // 2],
    "emptied": lambda content, other: b"",
    "swapped": lambda content, other: other,
}


def products(folder):
    """Return one product of every kind (rule, and name without numbers): its path and the document of its job."""
    kinds = {}
    for path, document in Lineage(folder).jobs.items():
        if (folder / path).exists():
            kinds.setdefault((document["rule"], re.sub(r"\d+", "", Path(path).name)), (path, document))
    assert len(kinds) > 60
    return dict(kinds.values())


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_kind_of_product_is_known_when_it_is_damaged(untouched, monkeypatch, damage):
    """By the next job that reads it, or, where none does, by ``phonoscreen verify``; with rule and command."""
    monkeypatch.chdir(untouched.folder)
    kinds = products(Path())
    readers = {path: document for document in Lineage().jobs.values() for path in document["inputs"]}
    contents = {path: Path(path).read_bytes() for path in kinds}
    for path, document in kinds.items():
        other = next(content for content in contents.values() if content != contents[path])
        Path(path).write_bytes(DAMAGES[damage](contents[path], other))
        try:
            reader = readers.get(path, {"rule": "verify", "inputs": [path]})
            with pytest.raises(StudyError) as error:
                check_inputs(reader["inputs"], where=reader["rule"])
            text = str(error.value)
            assert f"{path}: " in text and f"rule {document['rule']}" in text and "1 file(s)" in text
            assert re.search(rf"--configfile study.yaml .*--force -- {re.escape(path)}$", text)
        finally:
            Path(path).write_bytes(contents[path])


REMADE = [
    "results/structures/manifest.parquet", "results/bases/0000.h5", "results/rounds/0/dataset.h5",
    "results/stability/predicted/0000.h5", "results/tables/transport.parquet",
]  # fmt: skip


def test_a_run_refuses_every_kind_of_damaged_product_and_the_command_it_prints_makes_that_one_again(untouched):
    """And nothing else: byte for byte what it was, so that no table changes and nothing is left to do."""
    tables, kinds = untouched.tables(), products(untouched.folder)
    read_by_some = {path for document in Lineage(untouched.folder).jobs.values() for path in document["inputs"]}
    program = [sys.executable, str(ROOT / "tests/planned_jobs.py")]
    done = subprocess.run([*program, *(path for path in kinds if path not in REMADE), "--again", *REMADE],
                          cwd=untouched.folder, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(kinds) <= set(found)
    for path, outcome in found.items():
        rule = Lineage(untouched.folder).jobs[path]["rule"]
        assert outcome["planned"] == [rule], path
        if path in read_by_some:
            assert "nothing was started and nothing deleted" in outcome["refused"], path
            assert re.search(rf"{path}: its content has changed since it was written \(rule {rule}", outcome["refused"])
            assert re.search(
                rf"snakemake --configfile study.yaml --cores 2 --force -- {path}$", outcome["refused"], re.M
            )
    assert all(found[path]["same"] for path in REMADE), {path: found[path] for path in REMADE}
    assert len(read_by_some & set(kinds)) > 35
    assert untouched.planned() == {} and untouched.tables() == tables


def test_the_summary_reads_by_itself(untouched):
    page = (untouched.folder / "results/summary.html").read_text()
    assert "<html" in page and 'src="http' not in page and "7net-0" in page
    for words in ("Structures left out", "crushed", "class 186-AB is not among those of the study"):
        assert words in page
    assert "not attempted" in (untouched.folder / "results/summary.md").read_text().lower()
    assert Path(untouched.folder / "results/model/card.md").exists()


def test_an_exported_structure_solved_alone_gives_the_conductivity_of_the_study(untouched, tmp_path, capsys):
    """Through ShengBTE's files and through phono3py's."""
    solved = untouched.records("transport/reference/0000.parquet")
    row = solved[solved["status"] == "ok"].iloc[0]
    folders = {"shengbte": tmp_path / "shengbte", "phono3py": tmp_path / "phono3py"}
    grid = ["--grid", *row["mesh"].split()]
    words = ["export", row.name, "--results", untouched.folder / "results", "--out", folders["shengbte"], *grid]
    assert main([str(word) for word in words]) == 0
    folders["phono3py"].mkdir()
    for name in ("phono3py.yaml", "fc2.hdf5", "fc3.hdf5"):
        (folders["shengbte"] / name).rename(folders["phono3py"] / name)
    for folder in folders.values():
        assert main(["bte", str(folder), *grid, "--isotopes", "--threads", "1", "--quiet"]) == 0
        kappa = read_conductivity(folder / "BTE.KappaTensorVsT_CONV")[0, 0]
        assert kappa == pytest.approx(row["kappa_p_w_per_m_k"], rel=1e-4)
    assert main(["export", "unobtainium", "--results", str(untouched.folder / "results")]) == 2
    assert "unobtainium is not in" in capsys.readouterr().err


def test_labels_are_taken_along_when_the_supercells_are_made_again(faulty):
    """An edit of the code of the supercells runs the labels again, which are computed for the one spoilt structure."""
    module = faulty.folder / "phonoscreen/structures/supercells.py"
    module.write_text(module.read_text() + "\nEDITED = True\n")
    assert faulty.planned("results/labels/0000.h5")["label_forces"] == 1
    before = faulty.records("labels/0000.parquet")
    said = faulty.run("results/labels/0000.h5")
    assert "6 of 8 structures were computed before and taken along" in said
    after = faulty.records("labels/0000.parquet")
    assert after.loc[faulty.spoilt["label"], "status"] == "ok"
    others = [name for name in before.index if name != faulty.spoilt["label"]]
    pandas.testing.assert_frame_equal(before.loc[others], after.loc[others], check_dtype=False)


def refused(study, path, rule):
    """Run the study, which must refuse a product, and return the command it prints."""
    done = subprocess.run(study.command(), cwd=study.folder, capture_output=True, text=True)
    text = done.stdout + done.stderr
    assert done.returncode == 1 and "nothing was started and nothing deleted" in text, text[-3000:]
    assert re.search(rf"{path}: its content has changed since it was written \(rule {rule}, ", text)
    return next(line for line in text.splitlines() if "--force" in line)


def flip_a_bit(path, name):
    """Change one bit of the first number of an array, as a disk may."""
    with h5py.File(path, "r+") as store:
        values = store[name][:]
        values.view(numpy.uint64).flat[0] ^= 1 << 51
        store[name][...] = values


def test_force_constants_with_a_flipped_bit_are_made_again_and_nothing_else(untouched):
    tables, path = untouched.tables(), "results/force_constants/reference/0000.h5"
    sound = (untouched.folder / path).read_bytes()
    flip_a_bit(untouched.folder / path, "nacl/parameters")
    command = refused(untouched, path, "fit_force_constants")
    subprocess.run(command, shell=True, cwd=untouched.folder, check=True, capture_output=True)
    assert (untouched.folder / path).read_bytes() == sound
    assert untouched.planned() == {} and untouched.tables() == tables


def test_a_label_with_a_flipped_bit_is_made_again(untouched):
    """The last test: its record holds new times, so that the next run would solve what reads it again."""
    tables, path = untouched.tables(), "results/labels/0000.h5"
    with h5py.File(untouched.folder / path) as store:
        sound = {name: store[name]["forces"][:] for name in store}
    flip_a_bit(untouched.folder / path, "nacl/forces")
    command = refused(untouched, path, "label_forces")
    assert untouched.tables() == tables
    subprocess.run(command, shell=True, cwd=untouched.folder, check=True, capture_output=True)
    with h5py.File(untouched.folder / path) as store:
        assert set(store) == set(sound) and all((store[name]["forces"][:] == sound[name]).all() for name in sound)
