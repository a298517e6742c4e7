"""Some mutated inputs of everything that reads what others wrote; ``make fuzz`` runs thousands.

Each is refused with the project's own error or accepted with finite values, within ten seconds and two GiB.
"""

import subprocess
import sys

import numpy
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from phonoscreen.audit.errors import StudyError
from tests.conftest import ROOT
from tests.fuzz.cases import TooSlow, judge, limits, not_finite, run_case, try_sound_files
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_are_accepted(name):
    try_sound_files(TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_refused_or_finite(name):
    @settings(
        derandomize=True, deadline=None, max_examples=20, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, 2**32 - 1))
    def mutated(seed):
        outcome = run_case(TARGETS[name], seed)
        assert not outcome.failed, f"python -m tests.fuzz {name} --cases 1 --show --first {seed}: {outcome}"

    mutated()


def test_the_harness_sees_what_it_is_made_for(tmp_path):
    def refuse(_):
        raise StudyError("no")

    def never_ends(_):
        while True:
            try:
                pass
            except Exception:
                pass

    def speak(_):
        raise StudyError("x" * 100_000)

    calls = {
        "refused": refuse,
        "accepted": lambda _: {"a": [1.0, numpy.ones(3)], "b": "text"},
        "accepted, not finite": lambda _: [{"a": numpy.array([1.0, numpy.nan])}],
        "ZeroDivisionError": lambda _: 1 / 0,
        "MemoryError": lambda _: numpy.ones(2**33),
        "SystemExit": lambda _: sys.exit(1),
        "message without end": speak,
    }
    for kind, call in calls.items():
        assert judge(call, tmp_path).kind.replace("_ArrayMemoryError", "MemoryError") == kind
    with pytest.raises(TooSlow), limits(seconds=0.2):
        never_ends(tmp_path)
    assert not_finite((1, float("inf"))) == "value[1]"


def test_the_command_runs_cases_in_a_process_of_their_own():
    command = [sys.executable, "-m", "tests.fuzz", "born", "--cases", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("born: 2 cases") and "2 mutated inputs, 0 failures" in done.stdout
    assert done.returncode == 0
    assert subprocess.run([*command[:3], "nonsense"], cwd=ROOT, capture_output=True).returncode == 2
