"""What a site asks for besides what the rules ask for: account, partitions, limits; ``site.yaml`` beside the results.

Without the file (or without one of its keys) Slurm's own variables and defaults hold: ``SBATCH_ACCOUNT``,
``SBATCH_PARTITION``, ``SBATCH_QOS`` and so on. Memory, time, GPUs and tasks of the rules are never replaced.
"""

from pathlib import Path

import pydantic
import yaml

from phonoscreen.audit.errors import StudyError

FILE = Path("site.yaml")


class Site(pydantic.BaseModel):
    """The keys of ``site.yaml``, all optional.

    Attributes
    ----------
    account, qos, constraint, reservation : as sbatch takes them
    partition : of jobs without a GPU, and of all jobs where ``gpu_partition`` is not given
    gpu_partition : of jobs that ask for a GPU
    threads_max : CPUs that one job may have on one node of these partitions
    sbatch : further options, such as ``--mail-type=FAIL``
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    account: str | None = None
    partition: str | None = None
    gpu_partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    threads_max: int | None = pydantic.Field(default=None, ge=1)
    sbatch: list[str] = []

    def options(self, *, gpu: bool) -> list[str]:
        """Return the options of sbatch that this site adds to a job.

        Parameters
        ----------
        gpu : whether the job asks for a GPU
        """
        named = {
            "account": self.account,
            "partition": self.partition_of(gpu=gpu),
            "qos": self.qos,
            "constraint": self.constraint,
            "reservation": self.reservation,
        }
        return [f"--{name}={value}" for name, value in named.items() if value] + self.sbatch

    def partition_of(self, *, gpu: bool) -> str | None:
        """Return the partition of a job, None for Slurm's default."""
        return self.gpu_partition if gpu and self.gpu_partition else self.partition


def read_site(path: Path = FILE) -> Site:
    """Return what ``site.yaml`` says; without the file nothing.

    Raises
    ------
    StudyError
        Naming the keys that are unknown or have values of another kind.
    """
    if not path.exists():
        return Site()
    try:
        return Site.model_validate(yaml.safe_load(path.read_text()) or {})
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is no YAML: {str(error).splitlines()[0]}", where=str(path), fix="mend it") from error
    except pydantic.ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        keys = ", ".join(Site.model_fields)
        raise StudyError(faults, where=str(path), fix=f"its keys are {keys}") from error
