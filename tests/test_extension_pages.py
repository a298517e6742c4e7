"""The pages on how to add a figure, an engine or a force model, and to change the broadening, are walked as written."""

import ast
import re
import subprocess
import sys

import pandas
import pytest

from tests.conftest import ROOT
from tests.small_study import copy_repository

PAGES = ["add_figure", "add_reference_engine", "add_force_model", "change_broadening"]
PYTHON = re.compile(r"```python\n(.*?)```", re.S)

FIGURE = """
import pandas
from phonoscreen.workflow.inputs import figure_names, tables_of_figure
from phonoscreen.figures import figureS7
assert "figureS7" in figure_names() and tables_of_figure("figureS7") == ["transport"]
figure, caption = figureS7.draw(pandas.read_parquet("transport.parquet"), reference="any")
assert "2 structures" in caption, caption
assert "No structure" in figureS7.draw(pandas.read_parquet("transport.parquet").iloc[:0], reference="any")[1]
"""
ENGINE = """
from ase.build import bulk
from phonoscreen.workflow import inputs
from phonoscreen.workflow.code import modules_of
from phonoscreen.workflow.settings.check import check_settings
from phonoscreen.workflow.settings.reference import page
from phonoscreen.workflow.settings.study import Study
from phonoscreen.reference.registry import make_engine
settings = check_settings({"reference": {"engine": "emt"}}, Study)["reference"]
engine = make_engine(inputs.engine_settings(settings, "supercell"), threads=1, folder="unused")
atoms = bulk("Cu").repeat(2)
atoms.positions[0] += 0.03
energy, forces = engine.forces(atoms, "cu/0")
assert engine.relaxes and abs(forces.sum(axis=0)).max() < 1e-10 < 0.1 < abs(forces).max()
assert "phonoscreen/reference/emt.py" in modules_of("scripts/label_forces.py")
assert inputs.engine_environment(settings) == "../envs/reference.yaml" and "Effective-medium theory" in page()
"""
MODEL = """
import numpy
import torch
from ase.build import bulk
from phonoscreen.forcefield.models.registry import create_model, kinds
from phonoscreen.forcefield.neighbourhoods import atoms_neighbourhoods
from phonoscreen.workflow import inputs
from phonoscreen.workflow.code import modules_of
from phonoscreen.workflow.settings.check import check_settings
from phonoscreen.workflow.settings.study import Study
section = check_settings({"force_model": {"kind": "pair_forces"}}, Study)["force_model"]
model = create_model(inputs.model_settings(section), seed=1)
assert "pair_forces" in kinds()
assert "phonoscreen/forcefield/models/pair_forces.py" in modules_of("scripts/train_member.py")
atoms, rng = bulk("NaCl", "rocksalt", a=5.6).repeat(2), numpy.random.default_rng(0)
samples = []
for _ in range(2):
    moved = atoms.copy()
    moved.positions += (moves := rng.normal(0, 0.03, (len(atoms), 3)))
    samples.append((atoms_neighbourhoods(moved, model.cutoff_angstrom), -2.0 * moves))
model.calibrate(samples, seed=1)
batch = model.collate([model.prepare(*sample, 1.0) for sample in samples])
optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for _ in range(40):
    optimiser.zero_grad()
    loss, _ = model.loss(batch)
    loss.backward()
    optimiser.step()
    losses.append(float(loss.detach()))
assert losses[-1] < 0.5 * losses[0], losses[:: len(losses) - 1]
forces = model.forces(samples[0][0])
assert numpy.abs(forces.sum(axis=0)).max() < 1e-4 * numpy.abs(forces).max()
"""


def read(page):
    return (ROOT / f"docs/{page}.md").read_text()


def files_to_open(page):
    section = read(page).split("## Files to open")[1].split("##")[0]
    return re.findall(r"^\* `([^`]+)`", section, flags=re.M)


@pytest.fixture
def copy(tmp_path):
    return copy_repository(tmp_path / "copy", leave_out=("tests/", "docs/", "resources/labels/"))


def run(folder, script):
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def write_settings(path, owner, choice, section, field, name):
    """Do what a page says about settings: a section above its owner, a value of the choice, a field below."""
    text = path.read_text()
    text = text.replace(f"class {owner}(Section):", f"{section}\n\nclass {owner}(Section):", 1)
    head, body = text.split(f"class {owner}(Section):", 1)
    body, marker, rest = body.partition("\n\n\nclass ")
    body = re.sub(rf"({choice}: Literal\[)", rf'\1"{name}", ', body, count=1)
    path.write_text(f"{head}class {owner}(Section):{body.rstrip()}\n{field}{marker}{rest}")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_at_most_two_files(page):
    paths = files_to_open(page)
    assert 1 <= len(paths) <= 2
    for path in paths:
        assert (ROOT / path).exists() or f"\n`{path}`\n\n```python\n" in read(page), path


def test_a_figure_is_added_as_its_page_says(copy):
    (module,) = PYTHON.findall(read("add_figure"))
    (copy / files_to_open("add_figure")[0]).write_text(module)
    rows = [("a", 1.0, 225), ("b", 20.0, 216)]
    table = [
        {"structure_id": name, "formula": "X", "space_group_number": group, "part": "training", "trained": True,
         "status": "ok", "source": source, "kappa_p_w_per_m_k": kappa}
        for name, kappa, group in rows for source in ("reference", "predicted")
    ]  # fmt: skip
    pandas.DataFrame(table).to_parquet(copy / "transport.parquet")
    run(copy, FIGURE)


def test_an_engine_is_added_as_its_page_says(copy):
    module, section, field = PYTHON.findall(read("add_reference_engine"))
    written, settings = files_to_open("add_reference_engine")
    (copy / written).write_text(module)
    write_settings(copy / settings, "Reference", "engine", section, field, "emt")
    run(copy, ENGINE)


def test_a_force_model_is_added_as_its_page_says(copy):
    module, section, field = PYTHON.findall(read("add_force_model"))
    written, settings = files_to_open("add_force_model")
    (copy / written).write_text(module)
    write_settings(copy / settings, "ForceModel", "kind", section, field, "pair_forces")
    run(copy, MODEL)


@pytest.mark.parametrize("number, name", [(0, "line_shape"), (1, "pair_widths")])
def test_what_the_page_on_broadening_replaces_is_there(number, name):
    shape_file, width_file = files_to_open("change_broadening")
    (shown,) = ast.parse(PYTHON.findall(read("change_broadening"))[number]).body
    there = {node.name: node for node in ast.parse((ROOT / shape_file).read_text()).body if hasattr(node, "args")}
    assert shown.name == name
    assert [one.arg for one in shown.args.args] == [one.arg for one in there[name].args.args]
    assert "def broadening_steps(" in (ROOT / width_file).read_text()
