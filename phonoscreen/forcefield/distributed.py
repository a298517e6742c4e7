"""Several processes that share the batches of one training: one per GPU, or on the cores of a CPU.

Every process sees the same order of the data and takes its share of each batch; the gradients are averaged
(``torch.nn.parallel.DistributedDataParallel``), so the result is that of one process up to rounding. Everything here
also works in a single process, where it does nothing.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

import phonoscreen
from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.models.base import choose_device


def _active():
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    """Number of this process."""
    return torch.distributed.get_rank() if _active() else 0


def count() -> int:
    """How many processes share the work."""
    return torch.distributed.get_world_size() if _active() else 1


def is_first() -> bool:
    """Whether this process writes files."""
    return rank() == 0


def device_of_process(name: str) -> torch.device:
    """Return the device of this process: with several GPUs each process has its own."""
    device = choose_device(name)
    return torch.device("cuda", rank() % torch.cuda.device_count()) if device.type == "cuda" else device


def wrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model with its gradients averaged over the processes."""
    if not _active():
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def share_of(batch: list) -> tuple[list, int]:
    """Return this process's supercells of a batch and the factor of their loss.

    The factor undoes the average over processes: losses are sums over supercells. A process with no share computes a
    supercell with the factor zero, because all must take part in the exchange of gradients.
    """
    share = batch[rank() :: count()]
    return (share, count()) if share else (batch[:1], 0)


def total(sums: torch.Tensor) -> torch.Tensor:
    """Return the sum over the processes of a tensor."""
    if _active():
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        sums = sums.to(device)
        torch.distributed.all_reduce(sums)
    return sums.cpu()


def run_processes(n_processes: int, module: str, argument: str | os.PathLike, meeting: str | os.PathLike) -> None:
    """Run ``python -m module argument`` in several processes that ``join`` finds; returns when all have ended.

    Parameters
    ----------
    n_processes : how many
    module : name of a module with a command line
    argument : its argument
    meeting : path of a file through which the processes find each other; removed afterwards

    Raises
    ------
    StudyError
        If a process fails; the others are ended.
    """
    Path(meeting).unlink(missing_ok=True)
    root = str(Path(phonoscreen.__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, inherited] if inherited else [root])}
    environment |= {"PHONOSCREEN_MEETING": str(Path(meeting).resolve()), "PHONOSCREEN_PROCESSES": str(n_processes)}
    command = [sys.executable, "-m", module, str(argument)]
    running = [
        subprocess.Popen(command, env={**environment, "PHONOSCREEN_RANK": str(number)}) for number in range(n_processes)
    ]
    try:
        while any(process.poll() is None for process in running):
            if any(process.poll() for process in running):
                break
            time.sleep(0.1)
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
            process.wait()
        Path(meeting).unlink(missing_ok=True)
    codes = [process.returncode for process in running]
    if any(codes):
        raise StudyError(
            f"of {n_processes} processes of {module} one failed (exit codes {codes})", where="run_processes",
            fix="see its error above; training.processes: 1 works in this process",
        )  # fmt: skip


def join() -> None:
    """Join the processes that ``run_processes`` started; nothing happens in a process of its own."""
    if "PHONOSCREEN_RANK" in os.environ:
        torch.set_num_threads(1)
        torch.distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            init_method=f"file://{os.environ['PHONOSCREEN_MEETING']}",
            rank=int(os.environ["PHONOSCREEN_RANK"]),
            world_size=int(os.environ["PHONOSCREEN_PROCESSES"]),
        )
