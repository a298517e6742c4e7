"""``python -m tests.fuzz``: thousands of mutated inputs of every target, in a process that may die.

The process that runs the cases reports each one. If it dies or hangs in code that no limit reaches, the case is a
failure and the next process goes on after it.
"""

import argparse
import json
import logging
import selectors
import subprocess
import sys
import time
from collections import Counter

from tests.fuzz.cases import SECONDS, run_case, try_sound_files
from tests.fuzz.targets import TARGETS

EXAMPLES = 3


def main():
    """Run the cases and print what failed; return 1 if anything did."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--cases", type=int, default=700, help="mutations of each target (default 700)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one; the number decides the mutation")
    parser.add_argument("--show", action="store_true", help="run the cases here and show what is raised")
    parser.add_argument("--report", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.targets or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"unknown targets {', '.join(unknown)}")
    if arguments.report:
        return report(names[0], arguments.first, arguments.cases)
    failures, total = 0, 0
    for name in names:
        begin = time.monotonic()
        cases = range(arguments.first, arguments.first + arguments.cases)
        outcomes = here(name, cases) if arguments.show else elsewhere(name, cases)
        failures += summarise(name, outcomes, time.monotonic() - begin)
        total += len(outcomes)
    print(f"{total} mutated inputs, {failures} failures")
    return 1 if failures else 0


def here(name, cases):
    """Run cases in this process; return (number, kind, detail) of each."""
    outcomes = []
    for number in cases:
        outcome = run_case(TARGETS[name], number)
        outcomes.append((number, outcome.kind, outcome.detail))
        print(number, outcome.kind, outcome.detail)
    return outcomes


def report(name, first, count):
    """Run cases and write a line before and after each."""
    logging.disable(logging.CRITICAL)
    out = sys.stdout
    sys.stdout = sys.stderr  # what the code under test prints is no report
    try_sound_files(TARGETS[name])
    for number in range(first, first + count):
        print(json.dumps([number]), file=out, flush=True)
        outcome = run_case(TARGETS[name], number)
        print(json.dumps([number, outcome.kind, outcome.detail]), file=out, flush=True)
    return 0


def elsewhere(name, cases):
    """Run cases in processes of their own; return (number, kind, detail) of each."""
    outcomes, following = [], cases.start
    while following < cases.stop:
        count = cases.stop - following
        words = [sys.executable, "-m", "tests.fuzz", name, "--report", "--first", str(following), "--cases", str(count)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            running = None
            for line in _lines(process):
                number, *outcome = json.loads(line)
                running = None if outcome else number
                if outcome:
                    outcomes.append((number, *outcome))
                    following = number + 1
            hung = process.poll() is None
            process.kill()
        if running is not None:
            outcomes.append((running, "hangs" if hung else "kills the process", ""))
            following = running + 1
        elif following < cases.stop:
            raise SystemExit(f"{name}: the seed inputs are refused; see python -m tests.fuzz {name} --show")
    return outcomes


def _lines(process):
    """Yield the lines a process writes until it ends or is silent for too long."""
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)
    patience = 900  # for the first line: imports, and the making of the seeds, on a machine with other work
    while selector.select(patience):
        line = process.stdout.readline()
        if not line:
            process.wait()
            return
        patience = 30 * SECONDS  # a case that waits for something uses no processor time
        yield line


def summarise(name, outcomes, seconds):
    """Print what became of the cases of a target; return the number of failures."""
    kinds = Counter(kind for _, kind, _ in outcomes)
    bad = [outcome for outcome in outcomes if outcome[1] not in ("refused", "accepted")]
    shares = f"{kinds['refused']} refused, {kinds['accepted']} accepted, {len(bad)} failures"
    print(f"{name}: {len(outcomes)} cases, {shares}, {seconds:.0f} s", flush=True)
    groups = {}
    for number, kind, detail in bad:
        groups.setdefault((kind, detail.partition(":")[0]), []).append((number, detail))
    for (kind, place), found in sorted(groups.items(), key=lambda item: -len(item[1])):
        examples = ", ".join(str(number) for number, _ in found[:EXAMPLES])
        print(f"  {len(found)} x {kind} {place} (--first {examples}) {found[0][1].partition(':')[2]}")
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
