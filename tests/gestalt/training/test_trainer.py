"""The one trainer under launchers: variables that set the rank of a process, and that Lightning
does not requeue jobs.
"""

import csv
import signal
from datetime import timedelta

import pytest
import torch
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from gestalt.training.finite import is_logging_step
from gestalt.training.trainer import STATIC_GRAPH, make_trainer
from tests.gestalt.at_step import QUIET
from tests.gestalt.command import SLURM

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "GROUP_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({}, LightningEnvironment),
        (SLURM, SLURMEnvironment),
        (TORCHRUN, TorchElasticEnvironment),
        (SLURM | TORCHRUN, TorchElasticEnvironment),
    ],
    ids=["alone", "srun", "torchrun", "torchrun in a SLURM job"],
)
def test_the_cluster_environment_matches_the_launcher(tmp_path, monkeypatch, variables, kind):
    for name in (*SLURM, *TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "hpc_ckpt_1.ckpt").touch()
    trainer = make_trainer(tmp_path, rank_timeout=60, **QUIET)
    environment = trainer._accelerator_connector.cluster_environment
    assert type(environment) is kind
    assert trainer._checkpoint_connector._hpc_resume_path is None
    assert not getattr(environment, "auto_requeue", False)


def test_lightning_answers_no_sigterm_since_its_broadcast_waits_for_a_rank_in_another_exchange(
    tmp_path,
):
    trainer = make_trainer(tmp_path, rank_timeout=60, **QUIET)
    before = signal.getsignal(signal.SIGTERM)
    trainer._signal_connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("strategy", ["ddp", "ddp_find_unused_parameters_true"])
def test_gradients_are_views_of_buckets_unless_unused_parameters_are_searched(strategy, tmp_path):
    two = {**QUIET, "devices": 2, "strategy": strategy}
    parallel = make_trainer(tmp_path, rank_timeout=7, ddp=STATIC_GRAPH, **two).strategy
    assert parallel._timeout == timedelta(seconds=7)
    keywords = parallel._ddp_kwargs
    searched = strategy != "ddp"
    assert (keywords["gradient_as_bucket_view"], keywords.get("static_graph", False)) == (
        True,
        not searched,
    )
    assert keywords.get("find_unused_parameters", False) == searched


class Counts(BoringModel):
    """Logs the number of a step where numbers are read."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if is_logging_step(self.trainer):
            self.log("train/step", float(self.global_step))
        return self.layer.bias.sum()


@pytest.mark.parametrize("steps", [8, 9])
def test_the_last_step_is_logged_too(tmp_path, steps):
    logged = {**QUIET, "logger": CSVLogger(tmp_path), "log_every_n_steps": 3}
    trainer = make_trainer(tmp_path, rank_timeout=60, max_steps=steps, max_epochs=-1, **logged)
    trainer.fit(Counts(), DataLoader(torch.zeros(4, 1), batch_size=1))
    rows = list(
        csv.DictReader((tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines())
    )
    logged = [int(float(row["train/step"])) for row in rows]
    assert logged == [int(row["step"]) for row in rows] == sorted({2, 5, steps - 1})
