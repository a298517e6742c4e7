"""Where the tests find real reference data, and how scripts are run without Snakemake."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


class Named(dict):
    """Names that can be read as attributes, as in the object Snakemake gives to a script."""

    __getattr__ = dict.__getitem__


def reference_folder():
    """Folder of real data made by others, whether it exists or not."""
    return Path(os.environ.get("PHONOSCREEN_REFERENCE", ROOT.parent / "shared" / "reference"))


@pytest.fixture(scope="session")
def reference():
    """Folder of real data made by others, or a skip that says how to get it."""
    folder = reference_folder()
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}: set PHONOSCREEN_REFERENCE to its folder")
    return folder


@pytest.fixture
def make_job(tmp_path):
    """Return a function that makes the job of a script: input, output, params, wildcards by name."""

    def make(*, input=None, output=None, params=None, wildcards=None, key="test", threads=1, rule="test", asked=False):
        return SimpleNamespace(
            input=Named(input or {}),
            output=Named({name: str(tmp_path / path) for name, path in (output or {}).items()}),
            params=Named(params or {}),
            wildcards=Named(wildcards or {}),
            key=key,
            work=tmp_path / "work",
            asked=asked,
            threads=threads,
            rule=rule,
        )

    return make


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of VASP's potentials of Na and Cl with the first lines of theirs."""
    for name in ("Na_pv", "Cl"):
        (tmp_path / "pp/potpaw_PBE" / name).mkdir(parents=True)
        (tmp_path / "pp/potpaw_PBE" / name / "POTCAR").write_text(f"  PAW_PBE {name} 19Sep2006\n secret numbers\n")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "pp"))
    return tmp_path / "pp"
