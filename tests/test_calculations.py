"""Calculations of DFT codes as units: none repeated, one remedy for each failure, shares, inputs for other machines."""

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy
import pytest
from ase import Atoms
from ase.build import bulk

from phonoscreen.audit.errors import ACCEPTED, MachineError, StudyError
from phonoscreen.reference import calculations
from phonoscreen.reference.calculations import Calculation, CalculationStore, read_calculations
from phonoscreen.reference.cost import divide, relative_cost
from phonoscreen.reference.programs import CalculationError, ProgramEngine, end_of_job
from phonoscreen.stages.calculations import Piece, calculate, refuse_failed_share, share_of, write_array
from phonoscreen.stages.supercell_size import not_possible

# A program of a few lines: its first word says what it does, the number of its runs is counted in a file.
PROGRAM = """
import json, os, signal, sys
given = json.load(open("input.json"))
open(given["count"], "a").write("x")
behaviour = given["behaviour"]
if behaviour == "killed": os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "memory": print("slave: Cannot allocate memory"); sys.exit(1)
if behaviour == "slow": import time; time.sleep(30)
if behaviour == "long":  # thirty steps, of which a state remembers those that are done
    import time
    done = int(open("state").read()) if os.path.exists("state") else 0
    while done < 30:
        time.sleep(0.1)
        done += 1
        if given["keep_state"] and os.path.exists("STOP"): open("state", "w").write(str(done)); sys.exit(0)
    given["positions"][0][0] = done
if behaviour != "silent":
    json.dump({"energy": 1.5, "forces": given["positions"]}, open("output.json", "w"))
"""


class FakeCode:
    """A code that obeys: ``behaviour`` by the remedy that its inputs were written for."""

    kind, name, log, stop_file = "fake", "fake DFT", "output.txt", ("STOP", "")

    def __init__(self, folder, first="fine", remedied="fine", failure="electrons"):
        self.settings = {"engine": "fake", "cutoff_ev": 400.0}
        self.command = self.command_elsewhere = [sys.executable, "-c", PROGRAM]
        self._count, self._behaviour, self._failure = folder / "count", {"": first}, failure
        self._other = remedied

    def identity(self, atoms):
        return self.settings

    def write(self, atoms, folder, remedy, keep_state=False):
        document = {
            "positions": atoms.positions.tolist(), "count": str(self._count), "remedy": remedy,
            "keep_state": keep_state, "behaviour": self._behaviour.get(remedy, self._other),
        }  # fmt: skip
        (folder / "input.json").write_text(json.dumps(document))

    def read(self, folder, atoms):
        if not (folder / "output.json").exists():
            raise CalculationError("no result", failure=self._failure, where=str(folder))
        found = json.loads((folder / "output.json").read_text())
        return {"energy_ev": found["energy"], "forces": numpy.array(found["forces"]), "stress": numpy.eye(3)}

    def about(self, folder):
        return {"version": "1"}

    @property
    def runs(self):
        return len(self._count.read_text()) if self._count.exists() else 0


@pytest.fixture
def crystal():
    return bulk("MgO", "rocksalt", 4.2)


def engine_of(code, folder, mode="run", **options):
    return ProgramEngine(code, folder / "calculations", CalculationStore(folder / "finished"), mode, **options)


def calculation(atoms, **changes):
    settings = {"engine": "fake", "cutoff_ev": 400.0}
    found = Calculation(
        "mgo/0", settings, atoms.numbers, atoms.cell.array, atoms.positions,
        {"energy_ev": -1.0, "forces": numpy.full((len(atoms), 3), 1 / 3)},
    )  # fmt: skip
    return replace(found, **changes)


def test_a_calculation_is_found_by_what_it_calculates_and_by_nothing_else(tmp_path, crystal):
    store = CalculationStore(tmp_path)
    store.add(calculation(crystal))
    same, other = {"engine": "fake", "cutoff_ev": 400.0}, {"engine": "fake", "cutoff_ev": 401.0}
    again = CalculationStore(tmp_path, "another_job")
    assert again.find(same, crystal).results["forces"] == pytest.approx(numpy.full((2, 3), 1 / 3), abs=1e-11)
    assert again.find(other, crystal) is None
    moved = crystal.copy()
    moved.positions[1, 0] += 5e-7
    assert again.find(same, moved) is not None  # another last digit
    wrapped = crystal.copy()
    wrapped.positions[1] -= crystal.cell[2]
    assert again.find(same, wrapped) is not None
    moved.positions[1, 0] += 1e-5
    assert again.find(same, moved) is None
    strained = crystal.copy()
    strained.set_cell(crystal.cell * 1.00001, scale_atoms=True)
    assert again.find(same, strained) is None
    exchanged = Atoms("OMg", positions=crystal.positions, cell=crystal.cell, pbc=True)
    assert again.find(same, exchanged) is None
    assert again.find(same, crystal, needs=("born_charges",)) is None


def test_a_line_cut_short_or_changed_is_calculated_again_and_harms_no_other(tmp_path, crystal):
    store = CalculationStore(tmp_path)
    for length in (4.0, 4.1, 4.2):
        store.add(calculation(bulk("MgO", "rocksalt", length)))
    path = tmp_path / "calculations.jsonl"
    text = path.read_bytes()
    path.write_bytes(text[:-40])
    assert len(CalculationStore(tmp_path)) == 2
    CalculationStore(tmp_path).add(calculation(crystal))  # behind the line that a killed job left
    assert len(read_calculations(path)) == 3
    path.write_bytes(text.replace(b"-1.0", b"-2.0", 1))
    assert len(read_calculations(path)) == 2


def test_lines_that_name_no_group_are_read_and_only_those_asked_for(tmp_path, crystal, monkeypatch):
    store = CalculationStore(tmp_path)
    other = Atoms("KBr", positions=crystal.positions, cell=crystal.cell, pbc=True)
    store.add(calculation(crystal))
    store.add(calculation(other))
    path = tmp_path / "calculations.jsonl"
    documents = [line.split(" ", 2)[2] for line in path.read_text().splitlines()]
    settings = {"engine": "fake", "cutoff_ev": 400.0}
    read = []
    original = calculations._calculation
    monkeypatch.setattr(calculations, "_calculation", lambda document: read.append(1) or original(document))
    again = CalculationStore(tmp_path)
    assert (len(again), len(read)) == (2, 0)
    assert again.find(settings, other) is not None and again.find(settings, other) is not None
    assert len(read) == 1
    path.write_text("".join(f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {text}\n" for text in documents))
    assert CalculationStore(tmp_path).find(settings, crystal) is not None  # as earlier versions wrote them


def test_a_success_is_preferred_to_a_failure(tmp_path, crystal):
    store = CalculationStore(tmp_path)
    store.add(calculation(crystal, results={}, failure="electrons"))
    store.add(calculation(crystal))
    assert CalculationStore(tmp_path).find({"engine": "fake", "cutoff_ev": 400.0}, crystal).failure == ""


def test_what_is_finished_is_never_calculated_again(tmp_path, crystal):
    code = FakeCode(tmp_path)
    first = engine_of(code, tmp_path).forces(crystal, "mgo/0")
    second = engine_of(code, tmp_path).forces(crystal, "mgo/7")  # another job, another name
    assert code.runs == 1
    assert first[1] == pytest.approx(second[1], abs=1e-9)
    assert not (tmp_path / "calculations/mgo").exists()  # one line instead of a folder


@pytest.mark.parametrize("failure", ["electrons", "symmetry", "k_points", "unfinished"])
def test_a_failure_is_tried_once_more_with_its_remedy_and_then_kept(tmp_path, crystal, failure):
    mended = FakeCode(tmp_path, "silent", "fine", failure)
    assert engine_of(mended, tmp_path).forces(crystal, "mgo/0")[0] == 1.5
    (kept,) = read_calculations(tmp_path / "finished/calculations.jsonl")
    assert (mended.runs, kept.about["remedy"], kept.failure) == (2, failure, "")
    other = bulk("MgO", "rocksalt", 4.3)
    hopeless = FakeCode(tmp_path, "silent", "silent", failure)
    for runs in (4, 4):  # the second time it is known
        with pytest.raises(CalculationError, match="no result") as caught:
            engine_of(hopeless, tmp_path).forces(other, "mgo/1")
        assert (caught.value.failure, hopeless.runs) == (failure, runs)
    mended = FakeCode(tmp_path, "fine")
    assert engine_of(mended, tmp_path, again=True).forces(other, "mgo/1")[0] == 1.5  # asked for by name


@pytest.mark.parametrize("behaviour", ["killed", "memory"])
def test_what_the_machine_is_to_blame_for_is_nobody_s_result(tmp_path, crystal, behaviour):
    code = FakeCode(tmp_path, behaviour, behaviour)
    with pytest.raises(MachineError):
        engine_of(code, tmp_path).forces(crystal, "mgo/0")
    assert code.runs == 2
    assert len(CalculationStore(tmp_path / "finished")) == 0
    assert engine_of(FakeCode(tmp_path), tmp_path).forces(crystal, "mgo/0")[0] == 1.5


def test_a_job_ends_before_its_limit_and_the_next_goes_on(tmp_path, crystal, monkeypatch):
    assert end_of_job({}) is None
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 122))
    with pytest.raises(MachineError, match="did not end before the time of this job is over"):
        engine_of(FakeCode(tmp_path, "slow"), tmp_path).forces(crystal, "mgo/0")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 60))
    with pytest.raises(MachineError, match="are left of this job"):
        engine_of(FakeCode(tmp_path), tmp_path).forces(crystal, "mgo/0")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 3600))
    assert engine_of(FakeCode(tmp_path), tmp_path).forces(crystal, "mgo/0")[0] == 1.5


def test_a_calculation_longer_than_its_job_goes_on_in_the_next(tmp_path, crystal, monkeypatch):
    """It is noticed once, then keeps its state, with the remedy that is in force; another calculation begins anew."""

    def attempt(seconds, behaviour="long", remedied="long"):
        monkeypatch.setattr("phonoscreen.reference.programs.end_of_job", lambda: time.time() + 120 + seconds)
        return engine_of(FakeCode(tmp_path, behaviour, remedied), tmp_path).evaluate(crystal, "mgo/0")

    folder = tmp_path / "calculations/mgo/0"
    with pytest.raises(MachineError, match="did not end before the time"):
        attempt(1.5, "silent")  # fails at once; its remedy takes longer than the job
    assert not (folder / "state").exists(), "states of ordinary calculations would be terabytes"
    with pytest.raises(MachineError, match="its state is kept"):
        attempt(2.0, "silent")
    assert 5 < int((folder / "state").read_text()) < 30
    begin = time.monotonic()
    assert attempt(60, "silent")[1][0, 0] == 30
    assert time.monotonic() - begin < 2.9, "it went on"
    (found,) = read_calculations(tmp_path / "finished/calculations.jsonl")
    assert found.about["remedy"] == "electrons" and found.about["seconds"] > 3.0 and not folder.exists()
    with pytest.raises(MachineError, match="did not end before the time"):
        monkeypatch.setattr(FakeCode, "identity", lambda self, atoms: {"engine": "fake", "cutoff_ev": 500.0})
        attempt(1.0)
    monkeypatch.setattr(FakeCode, "identity", lambda self, atoms: {"engine": "fake", "cutoff_ev": 600.0})
    (folder / "state").write_text("29")
    with pytest.raises(MachineError, match="did not end before the time"):
        attempt(1.0)
    assert not (folder / "state").exists(), "a state of other settings is not taken"


def test_the_check_of_the_supercell_is_for_codes_that_run_here(tmp_path):
    """One input of it was written in every cycle, where no array of jobs looks for it."""
    engines = [engine_of(FakeCode(tmp_path), tmp_path, mode) for mode in ("run", "write_inputs", "collect")]
    assert [not_possible(engine) is None for engine in engines] == [True, False, False]


def test_inputs_are_written_carried_run_by_an_array_and_collected_in_parts(tmp_path, monkeypatch):
    crystals = {f"mgo-{i}": bulk("MgO", "rocksalt", 4.0 + 0.1 * i) for i in range(3)}
    code = FakeCode(tmp_path)
    monkeypatch.delenv("SLURM_SUBMIT_DIR", raising=False)

    def pieces(mode):
        engine = engine_of(code, tmp_path, mode)
        return [
            Piece(name, "0", 2, 1.0, lambda a=atoms, label=f"{name}/0": engine.forces(a, label))
            for name, atoms in crystals.items()
        ]

    assert list(calculate(pieces("write_inputs"))["status"]) == ["missing"] * 3
    assert code.runs == 0
    inputs = tmp_path / "calculations"
    (inputs / "program.py").write_text(PROGRAM)
    assert write_array(inputs, [sys.executable, "../../program.py"], code.log) == 3
    elsewhere = tmp_path / "elsewhere"
    inputs.rename(elsewhere)
    for task in ("1", "3", "3"):  # task 2 has not been run; a finished one is not repeated
        subprocess.run(["bash", str(elsewhere / "array.sh"), task], check=True)
    assert code.runs == 2
    elsewhere.rename(inputs)
    table = calculate(pieces("collect"))
    assert list(table["status"]) == ["ok", "missing", "ok"]
    assert "no outputs yet" in table["reason"][1]
    subprocess.run(["bash", str(inputs / "array.sh"), "2"], check=True)
    assert list(calculate(pieces("collect"))["status"]) == ["ok"] * 3
    assert list(calculate(pieces("run"))["status"]) == ["ok"] * 3
    assert code.runs == 3


def test_an_array_has_no_more_tasks_than_slurm_takes_and_each_goes_on_behind_what_fails(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_SUBMIT_DIR", raising=False)
    names = [f"mgo/{i:04d}" for i in range(1, 2003)]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    assert write_array(tmp_path, ["[", "${PWD##*/}", "!=", "1002", "]"], "log") == len(names)
    assert "#SBATCH --array=1-1000%200" in (tmp_path / "array.sh").read_text()
    for folder in ("mgo/1001", "mgo/2001"):  # collected
        (tmp_path / folder).rmdir()
    run = ["bash", str(tmp_path / "array.sh")]
    assert [subprocess.run([*run, task]).returncode for task in ("1", "2", "1000")] == [0, 1, 0]
    finished = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.glob("*/*/finished")}
    assert finished == {"mgo/0001", "mgo/0002", "mgo/2002", "mgo/1000", "mgo/2000"}
    assert subprocess.run(run, capture_output=True).returncode


def test_one_bad_structure_does_not_stop_the_others(tmp_path, crystal):
    code, closed = FakeCode(tmp_path), Atoms("H2", positions=[[0, 0, 0], [0.1, 0, 0]], cell=[5, 5, 5], pbc=True)
    engine = engine_of(code, tmp_path)
    table = calculate(
        Piece(name, "0", len(atoms), 1.0, lambda a=atoms, n=name: engine.forces(a, n))
        for name, atoms in (("h2", closed), ("mgo", crystal))
    )
    assert list(table["status"]) == ["failed", "ok"]


def test_a_share_in_which_everything_failed_for_one_reason_is_an_error(tmp_path, crystal, monkeypatch):
    monkeypatch.setenv(ACCEPTED, "[]")
    names = ("mgo-1", "mgo-2", "mgo-3")

    def share(behaviour, names):
        engine = engine_of(FakeCode(tmp_path, *behaviour), tmp_path / behaviour[0])
        crystals = {name: bulk("MgO", "rocksalt", 4.2 + n / 9) for n, name in enumerate(names)}
        return calculate(
            Piece(name, "0", 2, 1.0, lambda name=name: engine.forces(crystals[name], name)) for name in crystals
        )

    failed = share(("silent", "silent"), names)
    assert set(failed["status"]) == {"failed"} and set(failed["failure"]) == {"electrons"}
    with pytest.raises(StudyError, match="all 3 structures that were tried failed for one reason") as caught:
        refuse_failed_share(failed, "calculate_supercells")
    assert "accept_failed_shards: [calculate_supercells]" in str(caught.value) and caught.value.blame == "engine"
    refuse_failed_share(failed[:1], "calculate_supercells")  # one structure may fail
    refuse_failed_share(share(("fine",), names), "calculate_supercells")
    waiting = failed.assign(status="missing")
    refuse_failed_share(waiting, "calculate_supercells")


def test_an_error_that_nobody_foresaw_is_that_of_one_calculation(crystal):
    def divide_by_zero():
        return 1 / 0

    pieces = [Piece("a", "0", 2, 1.0, divide_by_zero), Piece("b", "0", 2, 1.0, lambda: None)]
    table = calculate(pieces)
    assert list(table["status"]) == ["failed", "ok"] and list(table["failure"]) == ["engine", ""]


@pytest.mark.parametrize("jobs", [1, 3, 16, 200])
def test_calculations_are_shared_evenly_and_completely(jobs):
    rng = numpy.random.default_rng(1)
    pieces = [Piece(f"s{i}", "0", 1, float(cost), None) for i, cost in enumerate(rng.lognormal(0, 1, 150))]
    shares = [share_of(pieces, batch, jobs) for batch in range(jobs)]
    assert sorted(piece.structure_id for share in shares for piece in share) == sorted(p.structure_id for p in pieces)
    loads = [sum(piece.cost for piece in share) for share in shares]
    best = max(max(piece.cost for piece in pieces), sum(loads) / jobs)
    assert max(loads) <= 4 / 3 * best + 1e-9
    assert divide([p.cost for p in pieces], jobs) == divide([p.cost for p in pieces], jobs)


def test_the_cost_grows_with_atoms_and_falls_with_the_volume_of_the_zone(crystal):
    assert relative_cost(crystal.repeat(2), 0.3) > relative_cost(crystal, 0.3)
    assert relative_cost(crystal, 0.15) > 4 * relative_cost(crystal, 0.3)
    assert relative_cost(crystal, 0.15, operations=48) < relative_cost(crystal, 0.15)
