"""A small trainer, and a stand-in for one at a given step."""

from types import SimpleNamespace
from typing import Any

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Arguments of a trainer that prints and writes nothing."""


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
        global_step=step, fit_loop=loop, log_every_n_steps=every, max_steps=-1, **more
    )
