"""What a job asks Slurm for, and how a launcher recognises it later."""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from phonoscreen.workflow.slurm.partitions import Limits, chosen
from phonoscreen.workflow.slurm.site import Site


@dataclass
class Request:
    """Options of sbatch for one job.

    Attributes
    ----------
    cpus : of one task
    options : of sbatch
    capped : in words, what the partition has not enough of
    """

    cpus: int
    options: list[str] = field(default_factory=list)
    capped: list[str] = field(default_factory=list)


def request_of(resources: Any, threads: int, site: Site, partitions: Mapping[str, Limits] | None) -> Request:
    """Return what a job asks Slurm for: the numbers of its rule, at most what a node of the partition has.

    Parameters
    ----------
    resources : of the job: ``mem_mb, runtime`` (minutes) and, where they apply, ``gpu, tasks, nodes``; and what a user
        has set for a rule: ``slurm_account, slurm_partition, qos, constraint, slurm_extra``
    threads : of the job
    site : account, partitions and the like
    partitions : limits by name, as ``partitions.partitions`` gives them; None where they are not known
    """
    gpus, own = resources.get("gpu") or 0, resources.get("slurm_partition")
    limits = (partitions or {}).get(chosen(own or site.partition_of(gpu=bool(gpus))))
    request = Request(threads)

    def most(words, asked, limit):
        if limits is None or not asked or asked <= limit:
            return asked
        request.capped.append(f"asks for {asked} {words}; partition {limits.partition} has {limit:g}, which it gets")
        return int(limit)

    request.cpus = most("CPUs", min(threads, site.threads_max or threads), limits.cpus if limits else 0)
    memory = most("MB of memory", resources.get("mem_mb"), limits.memory_mb if limits else 0)
    minutes = most("minutes", resources.get("runtime"), limits.minutes if limits else 0)
    given = {
        "--ntasks": resources.get("tasks") or 1,
        "--cpus-per-task": request.cpus,
        "--mem": f"{memory}M" if memory else None,
        "--time": minutes,
        "--gpus": gpus,
        "--nodes": resources.get("nodes"),
    }
    request.options += [f"{name}={value}" for name, value in given.items() if value]
    request.options += site.options(gpu=bool(gpus))
    user = {"slurm_account": "account", "slurm_partition": "partition", "qos": "qos", "constraint": "constraint"}
    request.options += [f"--{name}={resources.get(key)}" for key, name in user.items() if resources.get(key)]
    request.options += shlex.split(resources.get("slurm_extra") or "")
    return request


def needs_of(job: Any) -> tuple[Mapping[str, Any], int]:
    """Return what a job asks for and its threads.

    The jobs of a group run one after another in one Slurm job: it asks for the most that one of them does, and for the
    time of all.
    """
    if not job.is_group():
        return job.resources, job.threads
    members = [dict(member.resources.items()) for member in job.jobs]
    largest: dict[str, Any] = {}
    for key in {key for member in members for key in member}:
        values = [member[key] for member in members if member.get(key) is not None]
        numbers = [value for value in values if isinstance(value, int | float)]
        largest[key] = max(numbers) if numbers else next(iter(values), None)
    minutes = sum(member.get("runtime") or 0 for member in members)
    return {**largest, "runtime": minutes}, max(member.threads for member in job.jobs)


def identity_of(job: Any, unwatched: Callable[[str], Iterable[str]]) -> tuple[str, str]:
    """Return what a job works on, and a digest of the settings and inputs that it works with.

    A group is known by the last of its products that nothing else in it reads: what is left of a group is still that
    group.

    Parameters
    ----------
    job : Snakemake's job, or group of jobs
    unwatched : function of a rule's name that returns the names of parameters whose change runs nothing again

    Returns
    -------
    rule and wildcards without a space, digest
    """
    members = sorted(job.jobs, key=str) if job.is_group() else [job]
    content = []
    for member in members:
        skip = set(unwatched(member.rule.name))
        params = {key: value for key, value in member.params._allitems() if key not in skip}
        content.append([member.rule.name, dict(member.wildcards_dict), params, _states(member.input)])
    if job.is_group():
        read = {str(path) for member in members for path in member.input}
        last = [member for member in members if not read & set(map(str, member.output))]
        return f"{job.groupid}:{max(map(_work_of, last))}", _digest(content)
    return _work_of(job), _digest(content)


def _work_of(job):
    wildcards = ",".join(f"{key}={value}" for key, value in sorted(job.wildcards_dict.items()))
    return f"{job.rule.name}:{wildcards or 'all'}"


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _states(paths):
    """Return size and time of the files that a job reads."""
    found = []
    for path in map(str, paths):
        try:
            state = os.stat(path)
            found.append([path, state.st_size, state.st_mtime_ns])
        except OSError:  # made by another job of the same group
            found.append([path, None, None])
    return found
