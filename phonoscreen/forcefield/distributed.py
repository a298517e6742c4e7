"""Several processes that share the batches of one training: one per GPU, or on the cores of a CPU.

Every process sees the same order of the data and takes its share of each batch; the gradients are averaged
(``torch.nn.parallel.DistributedDataParallel``), so the result is that of one process up to rounding. Everything here
also works in a single process, where it does nothing.
"""

import torch
from torch.nn.parallel import DistributedDataParallel

from phonoscreen.forcefield.model import choose_device


def _active():
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank():
    """Number of this process."""
    return torch.distributed.get_rank() if _active() else 0


def count():
    """How many processes share the work."""
    return torch.distributed.get_world_size() if _active() else 1


def is_first():
    """Whether this process writes files."""
    return rank() == 0


def device_of_process(name):
    """Return the device of this process: with several GPUs each process has its own."""
    device = choose_device(name)
    return torch.device("cuda", rank() % torch.cuda.device_count()) if device.type == "cuda" else device


def wrap(model):
    """Return the model with its gradients averaged over the processes."""
    if not _active():
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def share_of(batch):
    """Return this process's supercells of a batch and the factor of their loss.

    The factor undoes the average over processes: losses are sums over supercells. A process with no share computes a
    supercell with the factor zero, because all must take part in the exchange of gradients.
    """
    share = batch[rank() :: count()]
    return (share, count()) if share else (batch[:1], 0)


def total(sums):
    """Return the sum over the processes of a tensor."""
    if _active():
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        sums = sums.to(device)
        torch.distributed.all_reduce(sums)
    return sums.cpu()


def run_in_processes(n_processes, function, *arguments, folder):
    """Call ``function(*arguments)`` in several processes that can use this module; returns when all have ended.

    Parameters
    ----------
    n_processes : how many; with 1 the function runs in this process
    function : of a module (it is sent by name)
    folder : where the processes find each other

    Raises
    ------
    Exception
        Of the first process that fails.
    """
    if n_processes == 1:
        function(*arguments)
        return
    meeting = f"{folder}/processes"
    torch.multiprocessing.spawn(_enter, (n_processes, meeting, function, arguments), nprocs=n_processes)


def _enter(number, n_processes, meeting, function, arguments):
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=number, world_size=n_processes)
    try:
        function(*arguments)
    finally:
        torch.distributed.destroy_process_group()
