"""Loading processes: they leave a signal to the group to their trainer, and do not outlive it."""

import os
import signal
import subprocess
import sys
import time

import pytest

TRAINER = """
import time
from torch.utils.data import DataLoader, Dataset
from gestalt.data_modules.loading import leave_group

class Texts(Dataset):
    def __len__(self):
        return 1_000
    def __getitem__(self, index):
        return "x" * 20_000

options = dict(num_workers=2, worker_init_fn=leave_group, multiprocessing_context="fork")
loader = DataLoader(Texts(), batch_size=16, **options)
batches = iter(loader)
next(batches), next(batches)  # one of each worker: both have left the group
print(*(worker.pid for worker in batches._workers), flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """True if a process runs and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux ends a process with the one that started it"
)
def test_workers_leave_a_signal_to_their_trainer_and_end_with_it_while_a_large_batch_waits():
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as trainer:
        workers = [int(word) for word in trainer.stdout.readline().split()]
        assert len(workers) == 2
        assert all(os.getpgid(worker) == worker for worker in workers)
        for worker in workers:  # as a scheduler does that signals every process of a job
            for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
                os.kill(worker, number)
        time.sleep(1)  # until their pipes are full
        living = [*map(alive, workers)]
        os.killpg(trainer.pid, signal.SIGKILL)
    assert living == [True, True]
    deadline = time.monotonic() + 5
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
