"""Lightning's ``Trainer`` with our sampler, our checkpoints and no requeueing by Lightning; and
callbacks for bit-identical scores.
"""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed

from gestalt.support.faults import StoppedRun
from gestalt.support.process import Interrupted
from gestalt.training import keys
from gestalt.training.checkpoints import AtomicCheckpointIO


def on_cuda(trainer: keys.Trainer) -> bool:
    """Return True if steps run on a CUDA device."""
    return trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}

STATIC_GRAPH = {"gradient_as_bucket_view": True, "static_graph": True}
"""Keywords of DDP for a module that uses each trainable parameter in each step: gradients lie in
the buffers that ranks exchange.
"""

EXCHANGE = re.compile(r"gloo|nccl|processgroup|tcpstore", re.IGNORECASE)
"""Words of which the message of an error in an exchange between ranks has at least one."""

GRACE = 5.0
"""Seconds that the ranks that this process started have for their own last line, once an exchange
with one of them has failed.
"""


class StepsTaken(Callback):
    """Sets Lightning's count of logged steps to the number of steps taken, before any other
    callback reads it.
    """

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Log at the steps that were taken: after a resume at the end of an epoch, Lightning's own
        count is too high.
        """
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


class LastStep(Callback):
    """Logs the last step of a run; Lightning logs each ``log_every_n_steps``-th, and one that
    ``max_time`` ends.
    """

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Log, if Lightning will not."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (
            trainer.global_step == trainer.max_steps
            and trainer.global_step % every
            and not trainer.should_stop
        ):
            connector = trainer._logger_connector
            # the metrics of this step; ``logged_metrics`` has those of earlier validations too
            connector.log_metrics(connector.metrics["log"])


class EndTogether(Callback):
    """Leaves no rank behind: if an exchange with other ranks fails, this process and those that it
    started end, with one line.

    A lost rank is noticed by the process group, at once if its connection closes and else after
    ``timeout`` seconds; Lightning ends the ranks of a process that has died, and torchrun or SLURM
    those of a job.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End the ranks that this one started, unless all stop for the same reason; if an exchange
        failed, end without destructors.
        """
        if trainer.world_size == 1:
            return
        for thread in threading.enumerate():
            # Lightning's, which would kill this process when another stops first
            if thread.name == "child-process-observer":
                thread._child_processes = []  # type: ignore[attr-defined]
        if isinstance(exception, Interrupted | StoppedRun):
            return
        lost = isinstance(exception, distributed.DistError) or EXCHANGE.search(str(exception))
        launcher: Any = trainer.strategy.launcher
        if getattr(launcher, "procs", []):
            time.sleep(GRACE)
            launcher.kill(signal.SIGKILL)
        if lost:
            print(
                f"gestalt: rank {trainer.global_rank}: another rank has ended, or did not answer "
                f"within {self.timeout:g} s; see the last line of each rank, then start again, a "
                "training with resume=auto",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)  # a process group's destructor may wait for the lost rank


def keywords_of(trainer: keys.Trainer) -> dict[str, Any]:
    """Return the keys of ``trainer`` as keywords of Lightning's ``Trainer``.

    ``callbacks``, ``compile`` and ``profiler`` are left out, because the code that builds these
    objects reads them.
    """
    keywords = {"num_sanity_val_steps": 0, **asdict(trainer)}
    for key in ("callbacks", "compile", "profiler"):
        del keywords[key]
    # the loader's batch is that of a whole step, and the module divides it
    return keywords | {"accumulate_grad_batches": 1}


def build_profiler(name: str | None, folder: Path | None) -> Profiler | None:
    """Build the profiler of ``trainer.profiler``, which writes ``<folder>/profile/*profile*.txt``.

    Returns None without a name, and without a folder, as on all ranks but the first.
    """
    if name is None or folder is None:
        return None
    return PROFILERS[name](dirpath=folder / "profile", filename="profile")


def make_trainer(
    folder: Path,
    *,
    rank_timeout: float,
    keep: int | None = None,
    callbacks: Sequence[Callback] = (),
    ddp: Mapping[str, bool] | None = None,
    **keywords: Any,
) -> Trainer:
    """Return a trainer that writes below the run's ``folder``, and loads only the checkpoint passed
    to it.

    Under SLURM, Lightning answers SIGUSR1 by writing ``hpc_ckpt_<n>.ckpt`` into its root folder,
    and later loads the newest of them in place of the requested checkpoint.  Requeueing is off here
    (``SaveOnSignal`` saves the run's own checkpoint instead), and the root folder does not exist,
    so that a stray file is never read.  Its handler of SIGTERM broadcasts to ranks that may be in
    another exchange, which then hangs; ours stays.

    Args:
        folder: folder of the run.
        rank_timeout: longest time in seconds that an exchange between ranks may take.
        keep: see ``AtomicCheckpointIO``.
        callbacks: further ones.
        ddp: keywords of DDP, where there are several ranks.
        keywords: Lightning's.
    """
    if sys.flags.safe_path:
        os.environ["PYTHONSAFEPATH"] = "1"  # Lightning starts the ranks without this process's -P
    # torchrun in a SLURM job says the ranks itself
    slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    environment = [SLURMEnvironment(auto_requeue=False)] if slurm else []
    trainer = Trainer(
        **keywords,
        callbacks=[StepsTaken(), *callbacks, LastStep(), EndTogether(rank_timeout)],
        default_root_dir=str(folder / ".no-hpc-checkpoints"),
        plugins=[AtomicCheckpointIO(keep), *environment],
    )
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._timeout = timedelta(seconds=rank_timeout)
        # a static graph has torch find them by itself, and warn
        unused = trainer.strategy._ddp_kwargs.get("find_unused_parameters", False)
        trainer.strategy._ddp_kwargs |= {
            key: value for key, value in (ddp or {}).items() if key != "static_graph" or not unused
        }
    return trainer


class OneThreadValidation(Callback):
    """Validates on one CPU thread per rank, for image towers with convolutions and for protocols
    with windows.

    oneDNN splits a convolution by the number of threads, which launchers set by the number of
    ranks: the last bits change, and a few pixels may change class.  The same holds for matrix
    products of a ViT over many windows, but not over small batches of whole images. Accelerators
    are not affected.
    """

    _threads: int = 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set one thread."""
        if pl_module.device.type == "cpu":
            self._threads = torch.get_num_threads()
            torch.set_num_threads(1)

    def on_validation_end(self, *_: Any) -> None:
        """Restore the number of threads."""
        if self._threads:
            torch.set_num_threads(self._threads)
            self._threads = 0


class EagerValidation(Callback):
    """Validation without the compiled towers: scores are those of ``eval``, and no image size needs
    a compilation of its own.
    """

    def on_validation_start(self, *_: Any) -> None:
        """Switch to eager execution."""
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self, *_: Any) -> None:
        """Switch back."""
        torch.compiler.set_stance("default")

    def on_exception(self, *_: Any) -> None:
        """Switch back, for later work in this process."""
        self.on_validation_end()
