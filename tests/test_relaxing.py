"""The engine that relaxes, apart from the engine of the reference forces."""

from types import SimpleNamespace

import pytest
import yaml
from ase.build import bulk

from phonoscreen.audit.errors import StudyError
from phonoscreen.stages.relaxing import relaxing_engine
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.workflow.inputs import (
    engine_settings,
    relaxation_limits,
    relaxing_code,
    relaxing_environment,
    relaxing_files,
    relaxing_settings,
)
from phonoscreen.workflow.settings.check import check_settings
from tests.conftest import ROOT


def settings(**changes):
    return check_settings({"relax": changes, "reference": {"engine": "gpaw"}, "source": {"kind": "oqmd"}})


def test_the_reference_relaxes_where_nothing_else_is_said():
    config = settings()
    assert relaxing_settings(config)["engine"] == "gpaw"
    assert relaxing_settings(config)["k_spacing_per_angstrom"] == 0.2
    assert relaxing_files(config) == []
    assert relaxing_code(config) == ["phonoscreen/reference/gpaw.py"]


def test_a_universal_potential_relaxes_for_a_study_on_dft():
    config = settings(engine="nequix")
    assert relaxing_settings(config) == {"engine": "nequix", "model": "nequix-oam-1-pft"}
    assert relaxing_environment(config) == "../envs/nequix.yaml"
    assert set(relaxation_limits(config)) == {"force_max_ev_per_angstrom", "stress_max_gpa", "steps_max"}


def test_the_published_model_relaxes_and_its_files_are_inputs():
    config = settings(engine="published")
    files = relaxing_files(config)
    assert {name.rpartition("/")[2] for name in files} >= {"model.json", "member0.safetensors"}
    engine = relaxing_engine(SimpleNamespace(), relaxing_settings(config))
    outcome = relax_structure(bulk("MgO", "rocksalt", 4.0), engine, "mgo", config["relax"], 1e-3)
    assert outcome.status == "ok"
    assert "published" in outcome.values["reference"]
    length = outcome.values["lattice_constant_angstrom"]
    energies = [engine.evaluate(bulk("MgO", "rocksalt", length * factor))[0] for factor in (0.99, 1.0, 1.01)]
    assert energies[1] == min(energies)
    assert energies[1] == pytest.approx(2 * outcome.values["energy_ev_per_atom"], abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"relax": {"engine": "published", "published_model": "nowhere"}}, "holds no model.json"),
        (
            {"relax": {"engine": "nequix"}, "reference": {"engine": "collected", "collected": {"folder": str(ROOT)}}},
            "away from those whose forces exist",
        ),
        ({"reference": {"calculations": "nowhere.jsonl"}}, "does not exist"),
    ],
)
def test_a_contradiction_is_refused(changes, words):
    with pytest.raises(StudyError, match=words):
        check_settings(changes)


def test_gpaw_relaxes_with_more_plane_waves_and_the_study_on_dft_as_its_labels_were_made():
    default = check_settings({"reference": {"engine": "gpaw"}})["reference"]
    cutoffs = [engine_settings(default, purpose)["cutoff_ev"] for purpose in ("relax", "supercell")]
    assert cutoffs == [800, 520] and "cutoff_relax_ev" not in engine_settings(default, "relax")
    profile = yaml.safe_load((ROOT / "profiles/dft/study.yaml").read_text())["reference"]
    chosen = check_settings({"reference": {**profile, "calculations": None}})["reference"]
    assert {engine_settings(chosen, purpose)["cutoff_ev"] for purpose in ("relax", "supercell")} == {400}
