"""What a real Slurm gives to jobs that ask for GPUs and for MPI tasks."""

import copy
import subprocess
from pathlib import Path

from phonoscreen.workflow.resources import COSTS, Needs
from phonoscreen.workflow.settings.check import check_settings
from phonoscreen.workflow.slurm.partitions import read_partitions
from phonoscreen.workflow.slurm.site import Site
from phonoscreen.workflow.slurm.submission import request_of
from tests.cluster.slurm import GPUS
from tests.cluster.study import FAKE


def test_slurm_gives_gpus_to_every_rule_that_can_use_one(slurm):
    settings = copy.deepcopy(check_settings({}))
    settings["force_model"]["device"], settings["reference"]["engine"] = "cuda", "sevennet"
    settings["training"]["processes"] = GPUS
    needs = Needs(settings)
    limits = read_partitions(slurm.ask("sinfo", "--noheader", "--exact", "--format=%P|%c|%m|%l|%G"))
    assert limits["main"].gpus == GPUS
    asking = {rule: needs.gpus(rule) for rule in COSTS if needs.gpus(rule)}
    assert {"train_member", "predict_forces", "query_committee", "relax_structures", "label_forces"} <= set(asking)
    for rule, gpus in asking.items():
        options = request_of({"mem_mb": 100, "runtime": 1, "gpu": gpus}, 1, Site(), limits).options
        job = slurm.ask("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true", *options).strip()
        assert f"gres/gpu={gpus}" in slurm.ask("scontrol", "show", "job", job), rule
        slurm.change("scancel", job)


def test_a_job_with_a_gpu_runs_and_sees_it(slurm, tmp_path):
    options = request_of({"mem_mb": 100, "runtime": 1, "gpu": GPUS}, 1, Site(), None).options
    slurm.change("sbatch", "--wait", f"--output={tmp_path}/out", "--wrap=echo $SLURM_JOB_GPUS", *options)
    assert len((tmp_path / "out").read_text().split(",")) == GPUS


def test_calculations_of_a_study_use_their_mpi_tasks_with_mpirun_and_with_srun(make_study, tmp_path):
    """A job is no job step: within one, srun would wait for itself until the time of the job is over."""
    program, ranks = tmp_path / "sum_of_ranks", tmp_path / "ranks"
    source = Path(__file__).with_name("sum_of_ranks.c")
    subprocess.run(["mpicc", str(source), "-o", str(program)], check=True)
    code = tmp_path / "vasp_with_mpi"
    code.write_text(
        f"#!/bin/sh -e\nmpirun -np $1 {program} {ranks} mpirun\n"
        f"srun --mpi=pmix --ntasks=$1 {program} {ranks} srun\nexec python {FAKE}\n"
    )
    code.chmod(0o755)
    study = make_study(settings={"reference": {"vasp": {"tasks": 2}}}, command=f"{code} {{tasks}}")
    study.environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    study.run("results/relaxed/0000.extxyz")
    lines = ranks.read_text().splitlines()
    assert len(lines) >= 4 and set(lines) == {"mpirun 2 1", "srun 2 1"}
    comment = "relax_structures:shard=0000"
    (job,) = [number for number, _, text in study.jobs() if text.startswith(comment)]
    assert "NumCPUs=2" in study.slurm.ask("scontrol", "show", "job", job)
