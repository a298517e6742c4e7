"""The simulated study on a DFT code: nothing calculated twice after kills, as the study's own store has it."""

import pytest

from tests.benchmarks.dft_at_scale import Finished, Simulation, Stored, planned_study, simulate

STUDY = ("active_learning={rounds_max: 1}", "filter={training_structures: 20, validation_structures: 5}")


@pytest.fixture(scope="module")
def small():
    """Plan of 96 structures in three shards, each shared by four jobs."""
    with planned_study(96, "{jobs_per_shard: 4, vasp: {tasks: 1}}", 3, STUDY) as (jobs, work):
        yield jobs, work


def shares(jobs, shard):
    return [job for job in jobs if job.rule == "calculate_relaxations" and job.wildcards.shard == shard]


def test_ten_kills_repeat_no_calculation_and_lose_none(small):
    jobs, work = small
    assert [len(shares(jobs, shard)) for shard in work.structures] == [4, 4, 4]
    undisturbed, disturbed = simulate(jobs, work, in_flight=5, kills=10)
    assert undisturbed.calculations == disturbed.calculations > 4 * len(work.parts) + 8 * 25
    assert undisturbed.repeated == disturbed.repeated == 0
    # A job whose time is over is tried again too; every other kill is one of the launcher.
    assert undisturbed.submitted == undisturbed.jobs + undisturbed.lost
    assert undisturbed.submitted < disturbed.submitted <= undisturbed.submitted + 10
    assert undisturbed.lost < disturbed.lost and undisturbed.wall_days < disturbed.wall_days


def test_the_store_of_the_study_says_after_kills_what_is_finished(small, tmp_path):
    jobs, work = small
    chosen, memory, stored = shares(jobs, "0001"), Finished(), Stored(tmp_path / "calculations")
    day = Simulation(chosen, work, memory, 2).run().wall_days * 86400
    told = Simulation(chosen, work, stored, 2).run([day * part / 11 for part in range(1, 11)], seed=3)
    assert stored.times == memory.times and told.repeated == 0 and told.lost >= 3


def test_a_calculation_that_nobody_keeps_is_repeated(small):
    """The simulation sees it."""

    class Forgetful(Finished):
        def names(self, writer):
            return lambda name: False

    jobs, work = small
    chosen = shares(jobs, "0001")
    day = Simulation(chosen, work, Finished(), 2).run().wall_days * 86400
    told = Simulation(chosen, work, Forgetful(), 2).run([day * part / 11 for part in range(1, 11)], seed=3)
    assert told.repeated > 0
