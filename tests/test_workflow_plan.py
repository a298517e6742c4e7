"""The plan of the study: complete, cheap, and each rule with what it needs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from phonoscreen.structures.filters import assign_shards
from phonoscreen.workflow.code import modules_of
from phonoscreen.workflow.inputs import (
    engine_code,
    engine_environment,
    figure_names,
    relaxing_code,
    relaxing_environment,
)
from phonoscreen.workflow.shards import shard_names
from tests.benchmarks.scale import measure, write_structures
from tests.conftest import ROOT
from tests.environments import foreign_imports

SNAKEMAKE = [sys.executable, "-m", "snakemake"]
NAMES = {"yaml": "pyyaml", "sklearn": "scikit-learn", "torch": "pytorch", "matplotlib": "matplotlib-base"}
NAMES |= {"tblite": "tblite-python", "jinja2": "jinja2", "e3nn_jax": "e3nn-jax", "trainstation": "hiphive"}
ELSEWHERE = {  # imports inside functions that no rule of an environment without the package reaches
    # Rules that compare engines or compute transport too have environments without Nequix: they say what is missing.
    "phonoscreen/reference/nequix.py": {"nequix", "e3nn_jax", "equinox", "jax", "jraph", "matscipy"},
    "phonoscreen/formats/displacements.py": {"phono3py"},  # files of phono3py are read by the commands alone
    "phonoscreen/formats/phono3py_constants.py": {"phono3py"},
    "phonoscreen/formats/phonopy_yaml.py": {"phono3py"},
    "phonoscreen/formats/finite_differences.py": {"phono3py"},
    "phonoscreen/formats/hiphive.py": {"hiphive"},  # containers are read without it
}  # fmt: skip


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What a fresh clone holds: the files git knows, no results."""
    folder = tmp_path_factory.mktemp("clone") / "phonoscreen"
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in names.stdout.split("\n"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def rules():
    """Return the text of every rule that has a script, by name."""
    text = "\n\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    found = {m.group(1): m.group(0) for m in re.finditer(r"^rule (\w+):\n(?:[ \t].*\n|\n(?=[ \t]))*", text, re.M)}
    return {name: body for name, body in found.items() if "script:" in body}


def scripts_of(name, body):
    return re.findall(r"\.\./(scripts/\w+\.py)", body)


def test_every_rule_has_its_script_log_benchmark_environment_and_code_digest():
    assert len(rules()) > 25
    for name, body in rules().items():
        assert re.search(r"code=(unwatched\()?code_of", body), f"rule {name} has no digest of its code"
        for word in ('"""', "log:", "benchmark:", "conda:", "script:"):
            assert word in body, f"rule {name} lacks {word}"
        for script in scripts_of(name, body):
            assert (ROOT / script).exists(), f"rule {name} has no {script}"


@pytest.mark.parametrize("name", sorted(rules()))
def test_the_environment_of_a_rule_holds_every_package_its_code_imports(name):
    """A rule that computes reference forces takes the environment of the engine, whose file alone is then imported."""
    body = rules()[name]
    if "engine_environment(" in body or "relaxing_environment(" in body:
        for engine in engines():
            family = Path(engine_environment({"engine": engine})).stem
            file = engine_code({"reference": {"engine": engine}})
            check_environment(family, name, [modules_of(script, file) for script in scripts_of(name, body)])
        if "relaxing_environment(" in body:
            config = {"relax": {"engine": "published", "published_model": "resources/model"}}
            family, files = Path(relaxing_environment(config)).stem, relaxing_code(config)
            check_environment(family, name, [modules_of(script, *files) for script in scripts_of(name, body)])
    else:
        families = re.findall(r"envs/(\w+)\.yaml", body)
        assert families
        for family in families:
            check_environment(family, name, [modules_of(script) for script in scripts_of(name, body)])


def engines():
    """Return the names of the reference engines: the modules that make one."""
    found = sorted(
        path.stem for path in (ROOT / "phonoscreen/reference").glob("*.py") if "\ndef make(" in path.read_text()
    )
    assert {"sevennet", "vasp", "gpaw", "nequix", "collected"} <= set(found)
    return found


def check_environment(family, name, closures):
    environment = yaml.safe_load((ROOT / f"envs/{family}.yaml").read_text())
    packages = set()
    for entry in environment["dependencies"]:
        for item in entry["pip"] if isinstance(entry, dict) else [entry]:
            packages.add(re.split("[=<>]", item)[0].lower())
    for module in sorted(set().union(*closures)):
        for top, when_read in foreign_imports(module).items():
            package = NAMES.get(top, top).lower()
            known = package in packages or (not when_read and top in ELSEWHERE.get(module, set()))
            assert known, f"{module} of rule {name} imports {top}, absent from envs/{family}.yaml"


def test_planning_the_full_study_is_cheap_and_needs_nothing_but_the_clone(clone):
    """With the 80,273 structures of Table 1 in its shards; ``make benchmark-scale`` measures a finished study too."""
    write_structures(clone, 80273, yaml.safe_load((clone / "config.yaml").read_text())["shards"])
    cpu_seconds, gigabytes, n_lines, _ = measure(clone, *SNAKEMAKE, "--profile", "slurm", "-n")
    assert cpu_seconds < 15 and gigabytes < 0.5, f"planning took {cpu_seconds:.1f} CPU s and {gigabytes:.2f} GB"
    assert n_lines < 150, "a plan that nobody can read"


def test_the_full_study_is_divided_evenly():
    published = yaml.safe_load((ROOT / "resources/published/table1.yaml").read_text())
    atoms = {"AB": 2, "ABC": 3, "ABC2": 4, "ABCD": 4, "AB3": 4, "AB3C3": 7, "AB3C12": 16, "ABC3": 5, "ABC2D6": 10}
    atoms |= {"AB2": 6, "AB2C4": 14}
    costs = {
        f"{number}-{kind}-{n}": float(atoms[kind])
        for number, kind, _, _, unexplored, _ in published["classes"]
        for n in range(unexplored)
    }
    assert len(costs) == 77091
    shards = assign_shards(costs, shard_names(100))
    loads = dict.fromkeys(shard_names(100), 0.0)
    for structure_id, shard in shards.items():
        loads[shard] += costs[structure_id]
    assert set(shards) == set(costs)
    assert max(loads.values()) - min(loads.values()) <= max(atoms.values())


def test_the_report_of_snakemake_holds_every_figure_and_table_with_a_caption():
    marked = {name: re.findall(r'report\(\s*"([^"]+)",\s*caption="\.\./([^"]+)",\s*category="\w+"', body)
              for name, body in rules().items()}  # fmt: skip
    for name, body in rules().items():
        shown = [path for path in re.findall(r'"(results/[^"]+)"', body.partition("output:")[2].partition("log:")[0])]
        # Band structures are many thousand points, drawn in figure 3; lists of calculations and classes are no results.
        shown = [
            path
            for path in shown
            if path.endswith((".pdf", ".png", ".html", ".csv"))
            and "dispersions" not in path
            and not path.startswith(("results/calculations/", "results/structures/"))
        ]
        assert [path for path, _ in marked[name] if not path.endswith(".md")] == shown
        assert all((ROOT / caption).exists() for _, caption in marked[name])
    figures, tables = ((ROOT / f"report/{name}.rst").read_text() for name in ("figure", "table"))
    assert set(re.findall(r'"(\w+)": "', figures)) == {*figure_names(), "convergence"}
    csv = {name for name, paths in marked.items() if any(caption == "report/table.rst" for _, caption in paths)}
    assert set(re.findall(r'"(\w+)": "', tables)) == csv


def names_given(body, section):
    """Return the names a rule's section gives, from its text; None if it unpacks them from a function."""
    match = re.search(rf"^    {section}:\n((?:        .*\n|\n)+)", body, re.M)
    text = match.group(1) if match else ""
    return None if "unpack(" in text or "**" in text else set(re.findall(r"^        (\w+)=", text, re.M))


@pytest.mark.parametrize("name", sorted(rules()))
def test_a_script_reads_only_what_its_rule_gives(name):
    body = rules()[name]
    for script in scripts_of(name, body):
        code = (ROOT / script).read_text()
        for section in ("input", "output", "params"):
            given = names_given(body, section)
            used = set(re.findall(rf"job\.{section}\.(?!(?:get|items)\b)(\w+)", code))
            if given is not None:
                assert used <= given, f"{script} uses {section} {sorted(used - given)}, which rule {name} does not give"


def test_the_small_case_is_planned_in_a_folder_of_its_own(tmp_path):
    shutil.copytree(ROOT / ".test/config", tmp_path / "config")
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    command += ["--configfile", str(tmp_path / "config/config.yaml"), "--cores", "2", "-n", "--quiet", "rules"]
    command += ["--", "all", "convergence"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, flags=re.M))
    assert jobs["train_member"] == "4" and jobs["write_summary"] == jobs["converge_transport"] == "1"
