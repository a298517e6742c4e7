"""What jobs that have ended used, beside what they were expected to need with the settings that they had."""

import csv
import json
from pathlib import Path
from typing import Any

from phonoscreen.audit.provenance import FOLDER as PROVENANCE
from phonoscreen.audit.work import name_of
from phonoscreen.workflow.plan import PlannedJob
from phonoscreen.workflow.resources import Needs


class PastJobs:
    """The jobs of a study that have ended once, whether or not they are to run again.

    Parameters
    ----------
    config : settings of the study now
    needs : what its jobs need with them
    folder : of the study
    """

    def __init__(self, config: dict[str, Any], needs: Needs, folder: Path) -> None:
        self._config, self._needs, self._folder = config, needs, folder
        self._others: dict[str, Needs] = {}

    def core_hours(self, job: PlannedJob) -> tuple[float, float]:
        """Return the core hours that a job was expected to need when it ran, and those that it used.

        Both are 0 for a job that has not ended or has left no benchmark file. What a job took along from an earlier one
        counts with the time that it took then.
        """
        used = read_benchmark(self._folder / job.benchmark) if job.benchmark else None
        needs, seconds_kept = self._then(job) if used else (None, 0.0)
        if used is None or needs is None:
            return 0.0, 0.0
        n_structures, cores = needs.structures(job.rule, job.wildcards), max(job.threads, needs.tasks(job.rule))
        expected = needs.seconds(job.rule, job.wildcards, structures=n_structures)
        return expected * cores / 3600, max(used[0], seconds_kept) * cores / 3600

    def _then(self, job: PlannedJob) -> tuple[Needs | None, float]:
        """Return the needs with the settings that a job had, and the seconds of structures and members that it kept.

        No needs where another engine gave the forces: that says nothing about the engine of now.
        """
        path = self._folder / PROVENANCE / job.rule / f"{name_of(dict(job.wildcards.items()))}.json"
        try:
            document = json.loads(path.read_text())
            settings = dict(document["settings"])
            seconds = sum(float(one["seconds"]) for one in document["made_with"] or [])
        except (OSError, ValueError, LookupError, TypeError):
            return self._needs, 0.0
        reference = settings.pop("reference", None)
        engine = reference.get("engine") if isinstance(reference, dict) else None
        if engine not in (None, self._config["reference"]["engine"], self._config["relax"]["engine"]):
            return None, 0.0
        changed = {name: self._section_then(name, section) for name, section in settings.items()}
        changed = {name: section for name, section in changed.items() if section is not None}
        key = json.dumps(changed, sort_keys=True, default=str)
        if changed and key not in self._others:
            self._others[key] = Needs({**self._config, **changed}, self._folder)
        return self._others.get(key, self._needs), seconds

    def _section_then(self, name: str, section: Any) -> dict[str, Any] | None:
        """Return a section of the settings as it was, None where it is the same or no section."""
        now = self._config.get(name)
        if not isinstance(now, dict) or not isinstance(section, dict):
            return None
        then = {**now, **{key: value for key, value in section.items() if key in now}}
        return then if then != now else None


def read_benchmark(path: Path) -> tuple[float, float] | None:
    """Return wall time (s) and largest memory (MB) in a benchmark file of Snakemake; None if there is none."""
    try:
        with open(path, newline="") as stream:
            row = list(csv.DictReader(stream, delimiter="\t"))[-1]
        return float(row["s"]), float(row["max_rss"]) if row["max_rss"] not in ("NA", "-") else 0.0
    except (OSError, LookupError, ValueError, TypeError):
        return None
