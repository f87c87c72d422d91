"""The trainer of all runs, under a scheduler."""

import pytest
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from gestalt.callbacks.trainer import make_trainer


def test_under_slurm_lightning_neither_queues_a_job_nor_reads_a_checkpoint_of_its_own(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    (tmp_path / "hpc_ckpt_1.ckpt").touch()
    trainer = make_trainer(tmp_path, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
    assert trainer._checkpoint_connector._hpc_resume_path is None
