"""Lightning's ``Trainer`` with our sampler, our checkpoints and no requeueing by Lightning."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer

from gestalt.callbacks.checkpoints import AtomicCheckpointIO


def make_trainer(folder: Path, **keywords: Any) -> Trainer:
    """Return a trainer that writes below the run's ``folder`` and loads only the checkpoint passed to it.

    Under SLURM, Lightning answers SIGUSR1 by writing ``hpc_ckpt_<n>.ckpt`` into its root folder, and later loads the newest of them in
    place of the requested checkpoint.  Requeueing is off here (``SaveOnSignal`` saves the run's own checkpoint instead), and the root
    folder does not exist, so that a stray file is never read.
    """
    slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()  # torchrun in a SLURM job says the ranks itself
    environment = [SLURMEnvironment(auto_requeue=False)] if slurm else []
    return Trainer(
        **keywords,
        default_root_dir=str(folder / ".no-hpc-checkpoints"),
        plugins=[AtomicCheckpointIO(), *environment],
        use_distributed_sampler=False,
    )
