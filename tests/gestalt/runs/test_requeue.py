"""Unattended runs: which one is continued, and a SLURM job that is queued again."""

import pytest

from gestalt.commands.stopping import requeue_job
from gestalt.runs.resume import resolve_resume
from gestalt.support.typed import ConfigError
from tests.gestalt.runs.test_folders import config, saved_run

pytestmark = pytest.mark.usefixtures("cwd")


def finished(checkpoint):
    (checkpoint.parents[1] / "result.json").write_text("{}")
    return checkpoint


def test_auto_starts_a_new_run_where_none_is_unfinished():
    finished(saved_run(0))
    saved_run(1, "seed=1")
    saved_run(2, checkpoint=False)
    assert resolve_resume(config("resume=auto")) is None


def test_auto_continues_the_unfinished_run_of_this_configuration():
    finished(saved_run(0))
    last = saved_run(1)
    saved_run(2, "seed=1")
    assert resolve_resume(config("resume=auto", "data.workers=3")) == last


def test_resume_auto_refuses_two_unfinished_runs():
    saved_run(0)
    saved_run(1)
    with pytest.raises(
        ConfigError,
        match=r"2 runs of this configuration are unfinished: .*version_0, .*version_1; name one",
    ):
        resolve_resume(config("resume=auto"))


def diverged(checkpoint):
    (checkpoint.parents[1] / "diverged.txt").write_text(
        "loss is nan at step 3. Try a lower optimizer.learning_rate\n"
    )
    return checkpoint


@pytest.mark.parametrize("checkpoint", [True, False])
def test_resume_auto_refuses_a_diverged_run_with_the_reason(checkpoint):
    diverged(saved_run(0, checkpoint=checkpoint))
    with pytest.raises(
        ConfigError,
        match=r"version_0 stopped: loss is nan at .*or continue with resume=.*_0",
    ):
        resolve_resume(config("resume=auto"))


def scontrol(folder, body):
    path = folder / "scontrol"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_a_job_is_queued_again_by_its_task_and_a_refusal_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    job = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    assert requeue_job({}) == ""
    assert "was not queued again, scontrol failed" in requeue_job(job)
    scontrol(tmp_path, 'echo "$@" > requeued')
    assert requeue_job(job) == "SLURM job 7_2 is queued again"
    assert (tmp_path / "requeued").read_text() == "requeue 7_2\n"
    scontrol(tmp_path, "echo Job is not requeueable >&2; exit 1")
    assert "Job is not requeueable; submit the same command again" in requeue_job(
        {"SLURM_JOB_ID": "9"}
    )
