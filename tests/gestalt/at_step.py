"""A small trainer, a stand-in for one at a given step, and a run's module without the run."""

from types import SimpleNamespace
from typing import Any

from gestalt.module import ContrastiveModule
from gestalt.runs.training import module_arguments

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Arguments of a trainer that prints and writes nothing."""


def build_module(config, model, total_steps, nouns=None):
    """A module with the loss, optimiser and schedule of a run."""
    return ContrastiveModule(**module_arguments(config, model, total_steps, nouns))


def alone(module):
    """Let a module take steps without a trainer.  Returns it."""
    module._is_logged = lambda: False
    module.print = lambda *_, **__: None
    return module


def trainer_at(step: int = 0, *, every: int = 1, **more: Any) -> SimpleNamespace:
    """A trainer that has taken ``step`` steps and logs every so many of them, with further
    attributes.
    """
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=step))
    return SimpleNamespace(
        global_step=step,
        fit_loop=loop,
        log_every_n_steps=every,
        max_steps=-1,
        **{"estimated_stepping_batches": 0, "callbacks": [], **more},
    )
