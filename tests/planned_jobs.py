"""What Snakemake does about each product of a finished study, one by one, after reading the workflow once.

Run in the folder of the study with the paths of products as arguments; each is tried in a process of its own that is
forked from one which has read the Snakefile, because reading takes much longer than planning. One bit of the product is
changed. Prints a JSON object by path: ``refused``, what a run then says (empty if it did not stop); ``planned``, the
rules of the jobs that Snakemake plans when this product alone is forced; ``same``, after that was done, whether it
is byte for byte what it was (only for paths after ``--again``; the others are put back).
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    DeploymentSettings,
    OutputSettings,
    RerunTrigger,
    ResourceSettings,
    StorageSettings,
    WorkflowSettings,
)

RULE = re.compile(r"^(?:local)?rule (\w+):", re.M)
TRIGGERS = {RerunTrigger.MTIME, RerunTrigger.PARAMS, RerunTrigger.INPUT, RerunTrigger.SOFTWARE_ENV}


def in_a_fork(act):
    """Return what a function writes to stdout and stderr in a forked process, and whether it raised."""
    with tempfile.TemporaryFile("w+") as stream:
        child = os.fork()
        if child == 0:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            try:
                act()
                status = 0
            except BaseException as error:
                print(error, flush=True)
                status = 1
            sys.stdout.flush()
            os._exit(status)
        _, status = os.waitpid(child, 0)
        stream.seek(0)
        return stream.read(), status != 0


def main(paths, again):
    """Try every path and print the findings."""
    sys.argv = ["snakemake", "--configfile", "study.yaml", "--cores", "2"]  # what the products' commands shall say
    found = {}
    with SnakemakeApi(OutputSettings(dryrun=True)) as api:
        study = api.workflow(
            resource_settings=ResourceSettings(cores=2), storage_settings=StorageSettings(),
            config_settings=ConfigSettings(configfiles=[Path("study.yaml")]), workflow_settings=WorkflowSettings(),
            deployment_settings=DeploymentSettings(), snakefile=Path("Snakefile"),
        )  # fmt: skip
        assert study._workflow  # read here, once

        def start(executor, **targets):
            dag = study.dag(DAGSettings(rerun_triggers=TRIGGERS, max_checksum_file_size=10**9, **targets))
            dag.execute_workflow(executor=executor)

        def make(path, executor):
            return in_a_fork(lambda: start(executor, targets={path}, forcetargets=True))

        for path in paths + again:
            sound = Path(path).read_bytes()
            middle = len(sound) // 2
            try:
                Path(path).write_bytes(sound[:middle] + bytes([sound[middle] ^ 4]) + sound[middle + 1 :])
                said, stopped = in_a_fork(lambda: start("local"))
                planned, _ = make(path, "dryrun")
                found[path] = {"refused": said if stopped else "", "planned": RULE.findall(planned)}
                if path in again:
                    said, failed = make(path, "local")
                    found[path]["same"] = not failed and Path(path).read_bytes() == sound
            finally:
                if not found.get(path, {}).get("same"):
                    Path(path).write_bytes(sound)
    print(json.dumps(found))


if __name__ == "__main__":
    place = sys.argv.index("--again")
    main(sys.argv[1:place], sys.argv[place + 1 :])
