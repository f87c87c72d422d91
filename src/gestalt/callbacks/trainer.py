"""Lightning's ``Trainer`` with our sampler, our checkpoints and no requeueing by Lightning."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from gestalt.callbacks.checkpoints import AtomicCheckpointIO, StepsTaken
from gestalt.callbacks.ranks import Ranks
from gestalt.callbacks.reading import is_read
from gestalt.config import schema


def keywords_of(trainer: schema.Trainer) -> dict[str, Any]:
    """Return the keys of ``trainer`` that are keywords of Lightning's; ``compile`` is read where the step is built."""
    keywords = {key: value for key, value in asdict(trainer).items() if key != "compile"}
    return {"num_sanity_val_steps": 0, **keywords}


STATIC_GRAPH = {"gradient_as_bucket_view": True, "static_graph": True}
"""Keywords of DDP for a module that uses each trainable parameter in each step: gradients lie in the buffers that ranks exchange."""


def make_trainer(
    folder: Path, *, rank_timeout: float, callbacks: Sequence[Callback] = (), ddp: Mapping[str, bool] | None = None, **keywords: Any
) -> Trainer:
    """Return a trainer that writes below the run's ``folder``, loads only the checkpoint passed to it, and loses no rank unnoticed.

    Under SLURM, Lightning answers SIGUSR1 by writing ``hpc_ckpt_<n>.ckpt`` into its root folder, and later loads the newest of them in
    place of the requested checkpoint.  Requeueing is off here (``SaveOnSignal`` saves the run's own checkpoint instead), and the root
    folder does not exist, so that a stray file is never read.  Its handler of SIGTERM broadcasts to ranks that may be in another exchange,
    which then hangs; ours stays.

    Args:
        folder: folder of the run.
        rank_timeout: seconds of silence after which a rank is lost.
        callbacks: further ones, after which the watch over ranks is added.
        ddp: keywords of DDP, where there are several ranks.
        keywords: Lightning's.
    """
    if sys.flags.safe_path:
        os.environ["PYTHONSAFEPATH"] = "1"  # Lightning starts the ranks without this process's -P
    slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()  # torchrun in a SLURM job says the ranks itself
    environment = [SLURMEnvironment(auto_requeue=False)] if slurm else []
    trainer = Trainer(
        **{**keywords, "accumulate_grad_batches": 1},  # a loader's batch is that of a step, which the module takes apart
        callbacks=[StepsTaken(), *callbacks, Ranks(rank_timeout)],
        default_root_dir=str(folder / ".no-hpc-checkpoints"),
        plugins=[AtomicCheckpointIO(), *environment],
        use_distributed_sampler=False,
    )
    connector = trainer._logger_connector  # by itself it logs each ``log_every_n_steps``-th step and one that ``max_time`` ends
    connector.update_train_step_metrics = lambda: (  # type: ignore[method-assign]
        connector.log_metrics(connector.metrics["log"]) if is_read(trainer) or trainer.should_stop else None
    )
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._timeout = timedelta(seconds=rank_timeout)
        unused = trainer.strategy._ddp_kwargs.get("find_unused_parameters", False)  # a static graph has torch find them by itself, and warn
        trainer.strategy._ddp_kwargs |= {key: value for key, value in (ddp or {}).items() if key != "static_graph" or not unused}
    return trainer
