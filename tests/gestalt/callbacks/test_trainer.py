"""The one trainer under launchers: variables that set the rank of a process, and that Lightning does not requeue jobs."""

import signal
import threading
import time
from datetime import timedelta

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from gestalt.callbacks.ranks import Ranks
from gestalt.callbacks.trainer import STATIC_GRAPH, make_trainer

SLURM = {
    **{"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "gestalt", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1"},
    **{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"},
}
TORCHRUN = {
    **{"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"},
    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
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
    trainer = make_trainer(tmp_path, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, rank_timeout=60)
    environment = trainer._accelerator_connector.cluster_environment
    assert type(environment) is kind
    assert not getattr(environment, "auto_requeue", False)


def test_under_slurm_lightnings_requeueing_and_checkpoints_are_off(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    (tmp_path / "hpc_ckpt_1.ckpt").touch()
    trainer = make_trainer(
        tmp_path, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, rank_timeout=60, enable_progress_bar=False
    )
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
    assert trainer._checkpoint_connector._hpc_resume_path is None


def test_lightning_answers_no_sigterm_since_its_broadcast_waits_for_a_rank_in_another_exchange(tmp_path):
    trainer = make_trainer(tmp_path, rank_timeout=60, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    before = signal.getsignal(signal.SIGTERM)
    trainer._signal_connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is before


def test_rank_timeout_is_passed_to_the_ddp_strategy(tmp_path):
    words = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "logger": False, "enable_checkpointing": False}
    assert make_trainer(tmp_path, rank_timeout=7, **words).strategy._timeout == timedelta(seconds=7)


@pytest.mark.parametrize("strategy", ["ddp", "ddp_find_unused_parameters_true"])
def test_gradients_of_ranks_lie_in_the_buffers_of_a_static_graph_unless_unused_parameters_are_searched(strategy, tmp_path):
    words = {"accelerator": "cpu", "devices": 2, "strategy": strategy, "logger": False, "enable_checkpointing": False}
    keywords = make_trainer(tmp_path, rank_timeout=7, ddp=STATIC_GRAPH, **words).strategy._ddp_kwargs
    searched = strategy != "ddp"
    assert (keywords["gradient_as_bucket_view"], keywords.get("static_graph", False)) == (True, not searched)
    assert keywords.get("find_unused_parameters", False) == searched


class Store:
    """A store that answers slowly."""

    def set(self, key, value):
        time.sleep(0.2)

    def multi_get(self, keys):
        return [b"1"] * len(keys)


def test_the_thread_that_talks_to_the_store_ends_before_the_interpreter_does():
    ranks = Ranks(60.0)
    ranks._hosts, ranks._signs, ranks._heard = ["here", "there"], [b"", b""], [0.0, 0.0]
    shown = threading.Thread(target=ranks._show, args=(Store(),), daemon=True)
    shown.start()
    ranks._leave(shown)
    assert not shown.is_alive()
