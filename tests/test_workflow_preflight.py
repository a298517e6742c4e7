"""What ``-n`` finds on a cluster before anything is submitted, with the answers of Slurm's commands given."""

import copy
from pathlib import Path

import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.resources import COSTS, INITIAL
from phonoscreen.workflow.settings.check import check_settings
from phonoscreen.workflow.slurm import preflight
from phonoscreen.workflow.slurm.partitions import read_partitions
from phonoscreen.workflow.slurm.preflight import check_planned, elements_of, findings, statement
from phonoscreen.workflow.slurm.site import Site

LARGE = read_partitions("main*|64|512000|infinite|(null)\ngpu|64|512000|infinite|gpu:4")
CALCULATING = {"relax_structures", "label_forces", "label_selected", "check_supercells"}

SHARED = {"calculate_relaxations", "calculate_supercells"}


@pytest.fixture
def find(tmp_path, monkeypatch, library):
    """A function that returns the findings of a study with changed settings, where nothing else is missing."""
    (tmp_path / "bin").mkdir()
    for name in ("vasp_std", "pw.x", "ShengBTE"):
        (tmp_path / "bin" / name).touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SBATCH_ACCOUNT", raising=False)
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    monkeypatch.setattr(preflight, "ask", lambda *_: "crystals\nphysics\n")

    def find(changes=None, site=None, partitions=LARGE):
        settings = copy.deepcopy(check_settings({}))
        settings["reference"]["vasp"]["command"] = "vasp_std"
        for key, value in (changes or {}).items():
            *path, last = key.split(".")
            section = settings
            for name in path:
                section = section[name]
            section[last] = value
        return findings(settings, site or Site(), partitions, COSTS)

    return find


def test_nothing_is_found_where_nothing_is_missing(find):
    assert find() == [] and statement([]) == ""


@pytest.mark.parametrize(
    "changes, words, rules",
    [
        ({"reference.vasp.command": "mpirun -n {tasks} vasp_std"}, "mpirun of reference.vasp.command is", CALCULATING),
        ({"reference.vasp.command": None}, "reference.vasp.command is not set", CALCULATING),
        ({"reference.engine": "espresso", "reference.espresso.command": "q"}, "q of reference.espresso", CALCULATING),
        ({"reference.engine": "espresso"}, "ESPRESSO_PSEUDO is not set", CALCULATING),
        ({"reference.engine": "gpaw", "reference.gpaw.command": "gpaw"}, "gpaw of reference.gpaw.command", CALCULATING),
        ({"transport.solver": "shengbte", "transport.command": "bte"}, "bte of transport.command", {"solve_bte"}),
        ({"reference.engine": "collected", "reference.collected.folder": "a"}, "no folder a", {"index_outputs"}),
        ({"bonding.outputs": "cohp"}, "bonding.outputs: there is no folder cohp", {"analyse_bonding"}),
        ({"reference.vasp.command": "x", "reference.jobs_per_shard": 4}, "x of reference.vasp", SHARED),
    ],
)  # fmt: skip
def test_a_program_or_folder_that_is_missing_stops_the_jobs_that_need_it(find, changes, words, rules):
    (found,) = [item for item in find(changes) if words in item.words]
    assert found.stops and rules <= found.rules
    assert "structures" not in found.rules and "fit_force_constants" not in found.rules
    with pytest.raises(StudyError, match=r"(?s)nothing was submitted.*then the same command again"):
        check_planned([found], rules)
    check_planned([found], {"fit_force_constants"})  # jobs that do not need it are submitted


def test_engines_that_start_nothing_here_need_no_program(find):
    assert find({"reference.vasp.command": "x", "reference.mode": "collect"}) == []
    assert find({"reference.vasp.command": "x", "reference.engine": "sevennet"}) == []
    relaxed_otherwise = find({"reference.vasp.command": "x", "relax.engine": "sevennet"})
    assert "relax_structures" not in relaxed_otherwise[0].rules


def test_potentials_that_are_missing_are_named_as_soon_as_the_elements_are_known(find, monkeypatch, tmp_path):
    Path("pool.csv").write_text("structure_id,formula,prototype,part\na,NaCl,225-AB,training\nb,MgO,225-AB,training\n")
    pool = {"source.kind": "pool", "source.path": "pool.csv"}
    (found,) = find(pool)
    assert "no potential of Mg, O (*/POTCAR)" in found.words and found.rules >= CALCULATING
    initial = tmp_path / INITIAL
    initial.mkdir(parents=True)
    (initial / "0000.extxyz").write_text('2\nLattice="1 0 0 0 1 0 0 0 1" Properties=x\nNa 0 0 0\nCl 0.5 0.5 0.5\n')
    assert elements_of({"kind": "pool", "path": "pool.csv"}) == {"Na", "Cl"}
    assert find(pool) == []
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "nowhere"))
    assert "there is no folder" in find()[0].words and "potpaw_PBE" in find()[0].words
    monkeypatch.delenv("VASP_PP_PATH")
    assert "VASP_PP_PATH is not set" in find()[0].words
    library = tmp_path / "upf"
    library.mkdir()
    (library / "na_pbe_v1.5.uspp.F.UPF").touch()
    changes = {"reference.engine": "espresso", "reference.espresso.potentials": str(library)}
    assert "no potential of Cl" in find(pool | changes)[0].words


def test_partitions_accounts_and_gpus_that_do_not_exist_stop_jobs(find, monkeypatch):
    (found,) = find(partitions=None)
    assert "Slurm does not answer" in found.words and found.rules is None
    (found,) = find(site=Site(partition="mian"))
    assert "no partition 'mian': name one of gpu, main" in found.words and "solve_bte" in found.rules
    (found,) = find(partitions={key: value for key, value in LARGE.items() if key})
    assert "no partition is the default one" in found.words
    (found,) = find(site=Site(account="biology"))
    assert "may not use account biology: name one of crystals, physics" in found.words and found.rules is None
    monkeypatch.setenv("SBATCH_ACCOUNT", "biology")
    assert "biology" in find()[0].words
    assert find(site=Site(account="physics")) == []
    gpus = {"force_model.device": "cuda", "training.processes": 8}
    found = find(gpus, Site(account="physics"))
    assert "partition main has no GPUs per node than 0" in found[0].words and "predict_forces" in found[0].rules
    (found,) = find(gpus, Site(account="physics", gpu_partition="gpu"))
    assert "gpu has no more GPUs per node than 4" in found.words and found.rules == {"train_member"}


def test_memory_and_time_beyond_the_partition_are_said_and_stop_nothing(find):
    small = read_partitions("main*|64|3000|30:00|(null)")
    found = find(partitions=small)
    assert len(found) == 2 and not any(item.stops for item in found)
    assert "main has 3000 MB of memory" in found[0].words and "solve_bte" in found[0].rules
    assert "main has 30 minutes of run time" in found[1].words and "label_forces" in found[1].rules
    assert statement(found).startswith("On this cluster:\n  note : partition main")
    check_planned(found, COSTS)


def test_threads_beyond_a_node_or_the_site_are_said_and_stop_nothing(find):
    processes = {"training.processes": 65}
    assert find({"training.processes": 64}) == []
    (found,) = find(processes)
    assert "partition main has 64 CPUs at most" in found.words and "training.processes is 65" in found.words
    assert found.rules == {"train_member"} and not found.stops
    (found,) = find({"training.processes": 8}, Site(threads_max=4))
    assert "has 4 CPUs at most" in found.words


def test_weights_that_no_job_can_download_are_asked_for_where_there_is_a_network(find, monkeypatch, tmp_path):
    monkeypatch.setenv("PHONOSCREEN_WEIGHTS", str(tmp_path))
    (found,) = find({"relax.engine": "nequix"})
    assert found.stops and found.rules == {"relax_structures"}
    assert "python -m phonoscreen.formats.weights nequix-oam-1-pft" in found.words and str(tmp_path) in found.words
    (found,) = find({"reference.engine": "nequix"})
    assert found.rules == CALCULATING
    (tmp_path / "nequix-oam-1-pft.nqx").touch()
    assert find({"reference.engine": "nequix"}) == []
