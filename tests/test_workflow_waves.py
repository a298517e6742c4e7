"""A study made of waves, and of few jobs: what a shard waits for, what is joined, and how long a job of DFT lasts."""

from types import SimpleNamespace

import pytest
import yaml

from phonoscreen.workflow.plan import plan_study
from phonoscreen.workflow.resources import ATTEMPT_H, COSTS, Needs
from phonoscreen.workflow.settings.check import check_settings
from tests.conftest import ROOT

PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
OF_THE_STUDY = {"download_structures", "collect_structures", "filter_structures"}
"""What comes before there are shards."""
OF_A_SHARD_ALONE = {"predict_forces", "fit_force_constants", "check_stability", "solve_bte", "analyse_bonding"}
"""What follows from the model, or from the labels of a shard; no other shard may wait for it."""


@pytest.fixture(scope="module")
def needed(tmp_path_factory):
    """A function of a product: the jobs that it needs, however far before it, in a study of three shards with VASP."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("planned"))
        settings = ["shards=3", "reference={jobs_per_shard: 2}", "active_learning={rounds_max: 1}"]
        _, jobs = plan_study(["-s", str(ROOT / "Snakefile"), "--cores", "1", "--config", *settings, "--", "all"])
    maker = {path: job for job in jobs for path in job.outputs}

    def before(product):
        pending, found = [product], {}
        while pending:
            job = maker.get(pending.pop())
            if job is not None and job.outputs not in found:
                found[job.outputs] = job
                pending.extend(job.inputs)
        assert found, f"nothing makes {product}"
        return list(found.values())

    return before


@pytest.mark.parametrize(
    "product",
    ["supercells/0001.h5", "checked_labels/0001.h5", "transport/reference/0001.h5", "stability/reference/0001.parquet"],
)
def test_a_shard_waits_for_no_other_shard(needed, product):
    """From relaxation to transport with reference forces; bases too, which were a barrier once."""
    jobs = needed(f"results/{product}")
    assert {job.wildcards.shard for job in jobs if job.rule not in OF_THE_STUDY} == {"0001"}


def test_with_the_forces_of_the_model_it_waits_for_what_the_model_learns_from_and_for_nothing_else(needed):
    jobs = needed("results/transport/predicted/0001.h5")
    assert {"train_member", "label_forces"} <= {job.rule for job in jobs}
    late = {(job.rule, job.wildcards.shard) for job in jobs if job.rule in OF_A_SHARD_ALONE}
    assert {shard for _, shard in late} == {"0001"} and ("predict_forces", "0001") in late


def test_a_failed_shard_holds_up_only_what_needs_it():
    assert PROFILE["keep-going"] is True and PROFILE["retries"] == 2


def test_jobs_of_seconds_are_joined():
    """All tables, figures and the summary are one job; bases and supercells of a shard, fit and stability are one."""
    joined = PROFILE["groups"]
    assert set(joined) <= set(COSTS)
    experiment = {"tabulate_experiment", "tabulate_ablation"}
    gathering = {rule for rule in COSTS if rule.startswith("tabulate_")} - experiment
    gathering |= {"draw_figure", "write_summary", "find_outdated"}
    assert {rule for rule, group in joined.items() if group == "report"} == gathering
    needs = Needs(check_settings({}))
    seconds = sum(needs.seconds(rule, SimpleNamespace(shard="0000")) for rule in gathering)
    assert seconds < 3 * 3600, "with 80,273 structures"


def test_no_job_of_dft_is_longer_than_its_first_attempt():
    """Relaxations and supercells are shared by three jobs of each shard, a round is one job for each shard."""
    reference = {"jobs_per_shard": 16, "vasp": {"tasks": 16}}
    needs, one = Needs(check_settings({"reference": reference})), SimpleNamespace(shard="0000")
    calculating = {rule for rule in COSTS if needs.runs_dft(rule)} - {"check_supercells", "calculate_charges"}
    assert calculating == {"calculate_relaxations", "calculate_supercells", "label_selected"}
    hours = {
        rule: needs.seconds(rule, one, structures=needs.structures(rule, one)) / 3600 for rule in sorted(calculating)
    }
    assert max(hours.values()) < ATTEMPT_H and hours["label_selected"] < 4, hours
