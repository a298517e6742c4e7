"""Code digests: an edit is seen by the rules that use it and by no others."""

import shutil

import pytest

from phonoscreen.workflow import code
from tests.conftest import ROOT


@pytest.fixture
def copy_of_code(tmp_path, monkeypatch):
    for folder in ("phonoscreen", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "ROOT", tmp_path)

    scripts = (
        "displace_supercells.py",
        "label_forces.py",
        "filter_structures.py",
        "tabulate_table1.py",
        "draw_figure.py",
    )

    def digests():
        code.forget()
        return {name: code.code_of(f"scripts/{name}") for name in scripts}

    yield tmp_path, digests
    code.forget()


FOR_A_TYPE_CHECKER = """from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from phonoscreen.transport.solve import Transport
"""


def test_editing_a_module_changes_exactly_the_scripts_that_import_it(copy_of_code):
    root, digests = copy_of_code
    before = digests()
    users = {name for name in before if "phonoscreen/structures/supercells.py" in code.modules_of(f"scripts/{name}")}
    assert "displace_supercells.py" in users
    assert users != set(before)
    with open(root / "phonoscreen/structures/supercells.py", "a") as stream:
        stream.write("\nEDITED = True\n")
    after = digests()
    assert {name for name in before if before[name] != after[name]} == users


@pytest.mark.parametrize(
    "path, old, new",
    [
        ("phonoscreen/audit/errors.py", "A problem of the input that a user can act on.", "Another sentence."),
        ("phonoscreen/audit/errors.py", "class StudyError", "# why\nclass StudyError"),
        ("phonoscreen/audit/errors.py", "where: str | None = None", "where=None"),
        ("phonoscreen/audit/shard.py", "import logging", "import logging\nfrom typing import Any"),
        ("phonoscreen/audit/shard.py", "import logging", f"import logging\n{FOR_A_TYPE_CHECKER}"),
        ("phonoscreen/audit/shard.py", "    blocked = _bl", "    count: int\n    blocked: dict[str, str] = _bl"),
        ("phonoscreen/audit/shard.py", "def _plain(value: Any) -> Any:", "def _plain(value):"),
        ("phonoscreen/audit/shard.py", "status: str", "status: object"),
        ("phonoscreen/audit/job.py", '"rule %s failed"', '"the rule %s did not end well"'),
        ("phonoscreen/__init__.py", "__version__ = ", "__version__ = 'new' + "),
    ],
)
def test_words_change_no_digest(copy_of_code, path, old, new):
    root, digests = copy_of_code
    before, text = digests(), (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new))
    assert digests() == before


@pytest.mark.parametrize(
    "file, old, new", [("shard", 'status: str = "ok"', 'status: str = "failed"'), ("pieces", "[:24]", "[:25]")]
)
def test_what_changes_a_result_changes_the_digests_of_its_users(copy_of_code, file, old, new):
    root, digests = copy_of_code
    before, path = digests(), root / f"phonoscreen/audit/{file}.py"
    users = {name for name in before if f"phonoscreen/audit/{file}.py" in code.modules_of(f"scripts/{name}")}
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    after = digests()
    assert {name for name in before if before[name] != after[name]} == users
    assert users != set(before)


def test_touching_files_changes_nothing(copy_of_code):
    root, digests = copy_of_code
    before = digests()
    for path in root.rglob("*.py"):
        path.touch()
    assert digests() == before


def test_the_closure_follows_imports_of_imports():
    modules = code.modules_of("scripts/displace_supercells.py")
    assert "phonoscreen/audit/shard.py" in modules
    assert "phonoscreen/audit/records.py" in modules
    assert "phonoscreen/__init__.py" in modules


def test_a_module_chosen_at_run_time_counts_unless_the_rule_names_it(copy_of_code):
    root, digests = copy_of_code
    figure = ("scripts/draw_figure.py", "phonoscreen/figures/figure4.py")
    digests()
    before = code.code_of("scripts/label_forces.py"), code.code_of("scripts/draw_figure.py"), code.code_of(*figure)
    for path in ("phonoscreen/reference/sevennet.py", "phonoscreen/figures/figure3.py"):
        with open(root / path, "a") as stream:
            stream.write("\nEDITED = True\n")
    digests()
    after = code.code_of("scripts/label_forces.py"), code.code_of("scripts/draw_figure.py"), code.code_of(*figure)
    assert [old != new for old, new in zip(before, after)] == [True, True, False]


def test_of_engines_and_force_models_the_chosen_one_counts_alone():
    chosen, other = "phonoscreen/reference/sevennet.py", "phonoscreen/reference/vasp.py"
    assert {chosen, other} <= set(code.modules_of("scripts/label_forces.py"))
    modules = code.modules_of("scripts/label_forces.py", chosen)
    assert chosen in modules and other not in modules and "phonoscreen/reference/registry.py" in modules
