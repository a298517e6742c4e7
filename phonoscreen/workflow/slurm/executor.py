"""The launcher's side of a job on Slurm: it submits, takes over what an earlier launcher has submitted, and watches.

It stands in the place of the executor of ``snakemake-executor-plugin-slurm``, whose options and logs it keeps, for four
reasons, all of them met on a real Slurm with version 2.8 of the plugin:

* a job that an earlier launcher has submitted, and that still waits or runs, is found and watched, not submitted twice;
* a cancelled job (``CANCELLED by 1000``) ends its wait, and the reason why a job ended is said;
* Snakemake starts once in a job instead of twice: nothing runs inside a job step, so that ``srun`` and ``mpirun`` find
  the whole allocation free (inside a step ``srun`` waits for itself);
* a controller that does not answer for a while costs no attempt.
"""

import subprocess
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from snakemake_executor_plugin_slurm import Executor as PluginExecutor
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.slurm.partitions import partitions
from phonoscreen.workflow.slurm.preflight import Finding, check_planned
from phonoscreen.workflow.slurm.queue import ALIVE, QueuedJob, queued_jobs, states_of, why_ended
from phonoscreen.workflow.slurm.site import read_site
from phonoscreen.workflow.slurm.submission import Request, identity_of, needs_of, request_of

PATIENCE_S = 900.0
"""So long a launcher tries again to submit a job when Slurm does not answer."""
FORGOTTEN = 10
"""So many answers without a job mean that Slurm has lost it."""
_PASSING = ("unable to contact", "timed out", "connect", "try again", "temporarily", "not respond")
"""Words in which sbatch says that Slurm does not answer now."""


def use_study_executor(found: Sequence[Finding]) -> None:
    """Let ``--executor slurm`` of this Snakemake process be the one of this module.

    Parameters
    ----------
    found : what the jobs lack on this cluster; those that cannot succeed are refused before the first one
    """
    plugin: Any = ExecutorPluginRegistry().get_plugin("slurm")
    StudyExecutor.found = list(found)
    plugin.executor = StudyExecutor


def refuse_arrays(settings: Any) -> None:
    """Refuse the option of the plugin that submits through another door than ``run_job``.

    The jobs of an array would be known by the work of the first, and could not ask for more at another attempt.

    Parameters
    ----------
    settings : of the executor, as the plugin reads them

    Raises
    ------
    StudyError
        If arrays are asked for.
    """
    if settings.array_jobs:
        raise StudyError(
            f"--slurm-array-jobs {settings.array_jobs}: a job of an array cannot be found again by a later launcher",
            where="before the first job: nothing was submitted",
            fix="leave the option out; jobs of several structures each are few (docs/operations.md)",
        )


class StudyExecutor(PluginExecutor):
    """Executor of the jobs of a study, see the module."""

    found: ClassVar[list[Finding]] = []

    def __post_init__(self, test_mode: bool = False) -> None:
        super().__post_init__(test_mode)
        refuse_arrays(self.workflow.executor_settings)
        check_planned(self.found, (job.rule.name for job in self.workflow.dag.needrun_jobs() if not job.is_local))
        self._site, self._partitions = read_site(), partitions()
        self._seen_to_end: set[str] = set()
        self._missing: dict[str, int] = {}
        self._queue: list[QueuedJob] = []
        self._queue_lock, self._queue_time = threading.Lock(), -float("inf")

    def additional_general_args(self) -> str:
        """The job's own Snakemake runs the rule itself: no job step."""
        return ""

    def get_job_args(self, job: Any) -> str:
        """The job's own Snakemake uses the CPUs that the job was given, however many the node has."""
        return f"{super().get_job_args(job)} --cores {self._request(job).cpus}"

    def _request(self, job: Any) -> Request:
        return request_of(*needs_of(job), self._site, self._partitions)

    def run_job(self, job: Any) -> None:
        """Take over the job that does this work already, or submit one."""
        try:
            log = self._log_pattern(job)
            number, words = self._find_or_submit(job, log)
        except Exception as error:
            self.logger.error(f"{job.name}: the job could not be submitted: {error}")
            self._report_job_error_threadsafe(SubmittedJobInfo(job), "")
            return
        log = log.with_name(log.name.replace("%j", number))
        self.logger.info(f"Job {job.jobid} {words} {number} (log: {log}).")
        self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=number, aux={"slurm_logfile": log}))

    def _log_pattern(self, job):
        name = f"group_{job.groupid}" if job.is_group() else f"rule_{job.name}"
        wildcards = "" if job.is_group() else "_".join(map(str, job.wildcards)).replace("/", "_")
        folder = self.slurm_logdir / name / wildcards
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "%j.log"

    def _find_or_submit(self, job, log):
        """Return the number of the Slurm job that does this work, and how the launcher came by it."""
        work, digest = identity_of(job, self._unwatched)
        comment, started = f"{work} {digest}", time.monotonic()
        while True:
            for found in self._alike(work, fresh=time.monotonic() > started + 1):
                if found.comment == comment:
                    return found.number, f"is the work of an earlier launcher's SLURM job ({found.state.lower()})"
                self.logger.info(f"SLURM job {found.number} has other settings or inputs than {work} now: cancelled.")
                self._cancel([found.number])
            done = self._sbatch(job, comment, log)
            if done.returncode == 0:
                return done.stdout.strip().split(";")[0], "has been submitted with SLURM jobid"
            passing = any(word in done.stderr.lower() for word in _PASSING)
            if not passing or time.monotonic() > started + PATIENCE_S:
                raise RuntimeError(f"sbatch says: {done.stderr.strip()}")
            self.logger.info(f"Slurm does not answer ({done.stderr.strip()}): submitting {work} again in 10 s.")
            time.sleep(10)

    def _sbatch(self, job, comment, log):
        command = ["sbatch", "--parsable", f"--job-name={self.run_uuid}", f"--output={log}", "--export=ALL"]
        command += [f"--comment={comment}", f"--chdir={self.workflow.workdir_init}"]
        request = self._request(job)
        command += request.options
        for words in request.capped:
            self.logger.info(f"Job {job.jobid} {words}.")
        script = f"#!/bin/sh\n{self.format_job_exec(job)}\n"
        return subprocess.run(command, input=script, capture_output=True, text=True)

    def _alike(self, work, fresh):
        """Return the jobs in the queue that do this work and have not ended under the eyes of this launcher."""
        return [
            found
            for found in self._jobs_in_queue(fresh)
            if found.comment.split(" ")[0] == work and found.number not in self._seen_to_end and found.state in ALIVE
        ]

    def _jobs_in_queue(self, fresh: bool) -> Iterable[QueuedJob]:
        with self._queue_lock:
            if fresh or time.monotonic() > self._queue_time + 5:
                found = queued_jobs(self.workflow.workdir_init)
                if found is None:
                    return []  # the submission will not succeed either, and is tried again
                self._queue, self._queue_time = found, time.monotonic()
            return self._queue

    def _unwatched(self, rule):
        items = self.workflow.get_rule(rule).params._allitems()
        return [key for key, value in items if hasattr(value, "unwatched")]

    def _cancel(self, numbers):
        subprocess.run(["scancel", *numbers], capture_output=True)
        self._seen_to_end.update(numbers)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended, and yield the others."""
        if not active_jobs:
            return
        async with self.status_rate_limiter:
            states = states_of(str(info.external_jobid) for info in active_jobs)
        for info in active_jobs:
            number = str(info.external_jobid)
            state = None if states is None else states.get(number)
            if state == "COMPLETED":
                self._seen_to_end.add(number)
                self.report_job_success(info)
                self._drop_log(info)
            elif state is None and states is not None and self._is_forgotten(number):
                self._seen_to_end.add(number)
                self._report_end(info, f"Slurm does not know job {number} any more. ")
            elif state is None or state in ALIVE:
                yield info
            else:
                self._seen_to_end.add(number)
                log = (info.aux or {}).get("slurm_logfile")
                msg = f"SLURM job {number} ended: {why_ended(number, state, log)}. {self._what_next(info.job)}"
                self._report_end(info, f"{msg}(log: {log})")

    def _report_end(self, info, words):
        """Say why a job ended, and report its error; of that the profile's ``quiet: rules`` shows nothing."""
        work, _ = identity_of(info.job, self._unwatched)
        self.logger.error(f"{work}: {words}")
        self.report_job_error(info)

    def _is_forgotten(self, number):
        self._missing[number] = self._missing.get(number, 0) + 1
        return self._missing[number] > FORGOTTEN

    @staticmethod
    def _what_next(job):
        if job.restart_times > job.attempt - 1:
            return f"Attempt {job.attempt + 1} of {job.restart_times + 1} asks for more and goes on from what is kept. "
        return "What it had finished is kept: the same command goes on from there. "

    def _drop_log(self, info):
        log: Path | None = (info.aux or {}).get("slurm_logfile")
        if log and not self.workflow.executor_settings.keep_successful_logs:
            log.unlink(missing_ok=True)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel the jobs of this launcher, when a user interrupts it."""
        self._cancel([str(info.external_jobid) for info in active_jobs if info.external_jobid])
