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

    def digests():
        for function in (code.code_of, code.modules_of, code._imports):
            function.cache_clear()
        return {path.name: code.code_of(f"scripts/{path.name}") for path in sorted((ROOT / "scripts").glob("*.py"))}

    yield tmp_path, digests
    for function in (code.code_of, code.modules_of, code._imports):
        function.cache_clear()


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
