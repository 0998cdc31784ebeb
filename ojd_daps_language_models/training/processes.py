"""Train in several processes: one for each GPU of one machine, or of several."""

import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

STOPPED = 128 + signal.SIGTERM  # exit status, as shells have it
POLL = 0.2  # seconds
GRACE = 30  # seconds for the others to end by themselves once one has failed
PATIENCE = timedelta(minutes=30)  # of a process that waits for another


class Cluster(NamedTuple):
    """Machines that train together, as one of them sees it.

    machines: how many there are.
    number: of this one, from 0.
    address: of number 0.
    port: on that, where all processes meet.
    """

    machines: int
    number: int
    address: str
    port: int


def train_in_processes(
    train: Callable,
    *arguments: Any,
    compute: Mapping[str, Any],
    cluster: Cluster | None = None,
    on_row: Callable[[list[dict], int], None] | None = None,
    **named: Any,
) -> Any:
    """Call `train` in each of several processes at once; if it is but one, in this one.

    Each has a device of its own, reads its share of the training part, and averages its
    gradients with the others: see `training.fit.SharingTrainer`. SIGTERM is passed on.

    Args:
        train: of a task module.
        arguments: for it; each process gets a copy.
        compute: section of the configuration. Where `processes` says nothing, there is
            one for each GPU that is asked for and there.
        cluster: machines on each of which this function is called with as many.
        on_row: for it, called in this process.
        named: for it, likewise copied.

    Returns:
        What `train` returned in the first process of this machine.

    Raises:
        ValueError: more processes are asked for than there are GPUs.
        RuntimeError: a process failed, and its traceback was printed, or was killed.
        SystemExit: after SIGTERM.
    """
    count = _count(compute)
    if count == 1 and (cluster is None or cluster.machines == 1):
        return train(*arguments, on_row=on_row, **named)
    from torch.multiprocessing import get_context, start_processes

    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        if cluster:
            meeting = f"tcp://{cluster.address}:{cluster.port}"
        receiver, sender = get_context("spawn").Pipe(duplex=False)
        task = (train, arguments, named, count, cluster, meeting, sender)
        context = start_processes(_run, task, count, join=False)
        sender.close()
        try:
            with _passed_on(context.pids()) as passed:
                return _follow(context, receiver, on_row, passed)
        finally:
            for process in context.processes:
                process.kill()


def _count(compute: Mapping[str, Any]) -> int:
    asked = compute.get("processes") or compute["gpu"]
    if asked < 2:
        return 1
    import torch

    there = torch.cuda.device_count()
    if not compute.get("processes"):
        return max(1, min(asked, there))
    if 0 < there < asked:
        raise ValueError(
            f"compute.processes: {asked} need a GPU each, and this machine has "
            f"{there}; expected at most as many, or null"
        )
    return asked


def _run(place, train, arguments, named, count, cluster, meeting, sender) -> None:
    """What a process does, the `place`-th of this machine."""
    # It ends with its parent, of which torch tells it so; what is sent to the group of
    # its parent comes from that, and once.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)
    if place:
        sender.close()
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # all would say the same
    with _joined(place, count, cluster, meeting):
        # As bytes: torch would send a tensor as a place in the memory of this process.
        send = None if place else lambda *said: sender.send_bytes(pickle.dumps(said))
        result = train(*arguments, on_row=send, **named)
    if send:
        send(result)


@contextmanager
def _joined(
    place: int, count: int, cluster: Cluster | None, meeting: str
) -> Iterator[None]:
    """Meet the other processes, of all machines."""
    import torch

    machines, number, address, port = cluster or Cluster(1, 0, "127.0.0.1", 0)
    rank, world = number * count + place, count * machines
    threads = max(1, torch.get_num_threads() // count)
    torch.set_num_threads(threads)
    # As torchrun has them: transformers and accelerate read these.
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(place),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads),
    }
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(place)
        backend = "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(
        backend, init_method=meeting, rank=rank, world_size=world, timeout=PATIENCE
    )
    yield
    torch.distributed.destroy_process_group()


def _follow(context, receiver, on_row, passed: list[int]) -> Any:
    """Let `on_row` know what comes, until all processes have ended."""
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

    result, is_open = None, True
    try:
        while True:
            if is_open and receiver.poll(POLL):
                try:
                    said = pickle.loads(receiver.recv_bytes())
                except (EOFError, OSError):  # it has ended, perhaps in mid-message
                    is_open = False
                    continue
                if len(said) == 1:
                    (result,) = said
                elif on_row:
                    on_row(*said)
            elif context.join(0 if is_open else POLL, GRACE):
                return result
    except (ProcessExitedException, ProcessRaisedException) as error:
        if passed:
            raise SystemExit(STOPPED) from None
        print(error)  # with the traceback
        reason = str(error).strip().splitlines()[-1]
        if getattr(error, "signal_name", None) == "SIGKILL":
            reason += "; perhaps the memory of the machine was full"
        raise RuntimeError(f"one of several processes: {reason}") from None


@contextmanager
def _passed_on(processes: list[int]) -> Iterator[list[int]]:
    """Pass SIGTERM on to processes; only the main thread may ask for signals.

    Yields:
        A list of the signals that were.
    """
    passed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield passed
        return

    def handle(number, _):
        passed.append(number)
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield passed
    finally:
        signal.signal(signal.SIGTERM, before)
