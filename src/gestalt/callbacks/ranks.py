"""Watch over the ranks of a run: each sends heartbeats, and if one is lost, the others end with a sentence that names it."""

import atexit
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from platform import node
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

BEAT = 1.0  # seconds between heartbeats
SILENT = 4.0  # seconds without a heartbeat after which a rank counts as lost, once an exchange with it has failed
AWAY = b"away"
"""Heartbeat of a rank that is between two calls of the trainer, or is leaving: it is never counted as lost."""

EXCHANGE = re.compile(r"gloo|nccl|processgroup|tcpstore", re.IGNORECASE)
"""Words of which the message of an error in an exchange between ranks has at least one."""


class Ranks(Callback):
    """Watches the other ranks through the store of the process group, in threads: the main one may be waiting for a lost rank for ever.

    The loss of a rank ends this process with status 1 and runs no destructors, since a process group's may wait for that rank too.

    Args:
        timeout: seconds of silence after which a rank is lost and this process ends.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._rank = 0
        self._hosts: list[str] = []
        self._signs: list[bytes] = []
        self._heard: list[float] = []  # when each rank's heartbeat last changed
        self._watching = self._leaving = False
        self._ending = threading.Lock()
        self._over = threading.Event()
        self._children: list[Any] = []  # the processes of other ranks that Lightning started from this one

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Connect to the other ranks, the first time, and watch them from now on."""
        if trainer.world_size == 1:
            return
        store = None if self._hosts else self._meet(trainer)
        self._heard = [time.monotonic()] * trainer.world_size
        self._watching = True
        if store is not None:
            shown = threading.Thread(target=self._show, args=(store,), daemon=True)
            atexit.register(self._leave, shown)
            shown.start()
            threading.Thread(target=self._watch, daemon=True).start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching, since ranks may leave now."""
        self._watching = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End with a sentence on the rank that is lost, if the error is one of an exchange."""
        self._leaving = True
        if trainer.world_size == 1 or not (isinstance(exception, distributed.DistError) or EXCHANGE.search(str(exception))):
            return  # its heartbeats stop when it ends, which tells the others that this rank is the lost one
        self._watching = False
        if not self._hosts:
            self._end(f"not all {trainer.world_size} ranks joined the run within {self.timeout:g} s; see the output of the others")
        deadline = time.monotonic() + 2 * SILENT
        while not (lost := self._ended() or self._lost(SILENT)) and time.monotonic() < deadline:
            time.sleep(BEAT / 4)
        if lost:
            self._end(self._sentence(lost), lost=lost)
        if "timed out" in str(exception).lower():
            self._end(f"the ranks waited {self.timeout:g} s for each other, though all of them live; see the last line of each")

    def _meet(self, trainer: Trainer) -> Any:
        """Connect to the store, with keys of this meeting alone, and learn the hosts of all ranks."""
        environment: Any = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
        whole = TCPStore(environment.main_address, environment.main_port, is_master=False, timeout=timedelta(seconds=self.timeout))
        self._rank = trainer.global_rank
        attempt = f"gestalt/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"  # torchrun's store outlives a restart
        store = PrefixStore(f"{attempt}/{whole.add(f'{attempt}/{self._rank}', 1)}", whole)
        self._children = getattr(trainer.strategy.launcher, "procs", [])
        for thread in threading.enumerate():
            if thread.name == "child-process-observer":  # Lightning's, which kills this process without a message; the watch replaces it
                thread._child_processes = []  # type: ignore[attr-defined]
        store.set(f"sign/{self._rank}", AWAY.decode())  # before the host, so that a rank that has read the host finds a heartbeat too
        store.set(f"host/{self._rank}", node())
        self._hosts = [store.get(f"host/{rank}").decode() for rank in range(trainer.world_size)]
        self._signs = [b""] * trainer.world_size
        return store

    def _show(self, store: Any) -> None:
        """Send this rank's heartbeats and read those of all; after an error or a hang the store is lost, with rank 0 or its launcher."""
        keys = [f"sign/{rank}" for rank in range(len(self._hosts))]
        number = 0
        while True:
            number += 1
            try:
                store.set(keys[self._rank], str(number) if self._watching else AWAY.decode())
                signs = store.multi_get(keys)
            except RuntimeError:
                return
            now = time.monotonic()
            for rank, sign in enumerate(signs):
                if sign != self._signs[rank]:
                    self._signs[rank], self._heard[rank] = sign, now
            if self._over.wait(BEAT):
                return

    def _leave(self, shown: threading.Thread) -> None:
        """Wait for the heartbeat thread: the interpreter ends threads when it ends, and one within the store's C++ aborts the process."""
        self._over.set()
        shown.join(2 * BEAT)

    def _watch(self) -> None:
        """End this process if a rank is silent for too long, or has failed as a child of this process, unless that leaves too."""
        before = time.monotonic()
        while True:
            time.sleep(BEAT)
            now = time.monotonic()
            if now - before > self.timeout / 2:  # this process itself was stopped, and has heard nothing
                self._heard = [now] * len(self._hosts)
            before = now
            failed = [] if self._leaving else [rank for rank in self._ended() if now - self._heard[rank] > SILENT]
            if self._watching and (lost := failed or self._lost(self.timeout)):
                self._end(self._sentence(lost), lost=lost)

    def _end(self, sentence: str, *, lost: Sequence[int] = ()) -> NoReturn:
        """Print the sentence on the lowest rank that is left, and end this process."""
        if not self._ending.acquire(blocking=False):
            time.sleep(60)  # the other thread is ending it
        if self._rank == min({*range(len(self._hosts))} - {*lost}, default=self._rank):
            print(f"gestalt: {sentence}", file=sys.stderr, flush=True)
        time.sleep(2 * BEAT)  # time for the others to end for the same reason, not because this one has gone
        for child in self._children:
            child.kill()
        os._exit(1)

    def _ended(self) -> list[int]:
        """Return the ranks that Lightning started from this one and that have failed."""
        return [rank for rank, child in enumerate(self._children, start=1) if child.poll()]

    def _lost(self, seconds: float) -> list[int]:
        """Return the ranks that have been silent for so long; if all are, the one whose host holds the store."""
        now = time.monotonic()
        others = [rank for rank in range(len(self._hosts)) if rank != self._rank and self._signs[rank] != AWAY]
        silent = [rank for rank in others if now - self._heard[rank] > seconds]
        return [0] if self._rank and 0 in others and silent == others else silent

    def _sentence(self, lost: list[int]) -> str:
        seconds = time.monotonic() - min(self._heard[rank] for rank in lost)
        names = " and ".join(f"rank {rank} on {self._hosts[rank]}" for rank in lost)
        outcome = "has ended" if self._ended() else f"did not answer within {seconds:.0f} s"
        return f"{names} {outcome}: this run stops; see the output of that rank or its host, then continue with resume=auto"
