"""What one job can have at most on the nodes of a partition, as Slurm says; jobs ask for no more than that."""

import math
import os
import re
from dataclasses import dataclass

from phonoscreen.workflow.slurm.queue import ask


@dataclass(frozen=True)
class Limits:
    """The largest node of a partition, each number for itself.

    Attributes
    ----------
    partition : its name
    cpus, memory_mb, gpus : of one node
    minutes : longest run time, infinity where there is no limit
    """

    partition: str
    cpus: int
    memory_mb: int
    minutes: float
    gpus: int


def partitions() -> dict[str, Limits] | None:
    """Return the limits of every partition by name, the default one also as ``""``; None if Slurm does not answer."""
    answer = ask("sinfo", "--noheader", "--exact", "--format=%P|%c|%m|%l|%G")
    return None if answer is None else read_partitions(answer)


def read_partitions(answer: str) -> dict[str, Limits]:
    """Return the limits of partitions from lines of sinfo with ``%P|%c|%m|%l|%G``."""
    found: dict[str, Limits] = {}
    for line in answer.splitlines():
        name, cpus, memory, time, gres = line.split("|")
        here = Limits(name.rstrip("*"), _number(cpus), _number(memory), _minutes(time), _gpus(gres))
        names = [here.partition, ""] if name.endswith("*") else [here.partition]
        for key in names:
            before = found.get(key, here)
            found[key] = Limits(
                here.partition,
                max(before.cpus, here.cpus),
                max(before.memory_mb, here.memory_mb),
                max(before.minutes, here.minutes),
                max(before.gpus, here.gpus),
            )
    return found


def chosen(name: str | None) -> str:
    """Return the partition a job goes to: the named one, that of ``SBATCH_PARTITION``, or ``""`` for the default."""
    return name or os.environ.get("SBATCH_PARTITION", "")


def _number(text):
    return int(text.rstrip("+"))


def _gpus(gres):
    """Return the GPUs in a list of generic resources, such as ``gpu:a100:4(S:0-1),shard:8``."""
    counts = [re.match(r"gpu(?::[\w.-]+)??(?::(\d+))?(?:\(|$)", item) for item in gres.split(",")]
    return sum(int(count.group(1) or 1) for count in counts if count)


def _minutes(text):
    """Return the minutes of a time such as ``2-00:00:00``, ``30:00`` or ``infinite``."""
    if not re.fullmatch(r"(\d+-)?[\d:]+", text):
        return math.inf
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        parts += [0] * (3 - len(parts))
    hours, minutes, seconds = ([0] * (3 - len(parts)) + parts)[-3:]
    return 1440 * int(days or 0) + 60 * hours + minutes + seconds / 60
