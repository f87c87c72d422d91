"""The best checkpoint is that of the highest score, also after a resume."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from gestalt.training.checkpoints import AtomicCheckpointIO, BestCheckpoint, EpochCheckpoint
from tests.gestalt.at_step import QUIET

pytestmark = pytest.mark.filterwarnings("ignore")


class Scored(BoringModel):
    """Logs a given score after each epoch."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def on_validation_epoch_end(self):
        self.log("scenes/miou", self.scores[self.current_epoch])


def fitted(folder, scores, *, resume=False, end=None):
    """Train an epoch a score, checkpoints in ``folder``; then score the final weights as ``end`` if
    it is given.
    """
    best, last = BestCheckpoint("scenes/miou"), EpochCheckpoint()
    for callback in (best, last):
        callback.dirpath = str(folder)
    trainer = Trainer(
        **{**QUIET, "enable_checkpointing": True},
        limit_train_batches=1,
        limit_val_batches=1,
        max_epochs=len(scores),
        log_every_n_steps=1,
        callbacks=[best, last],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
    )
    trainer.fit(
        Scored(scores), ckpt_path=str(folder / "last.ckpt") if resume else None, weights_only=True
    )
    if end is not None:
        trainer.validate(Scored([*scores, end]), verbose=False)
        best.compare_last(trainer, folder / "last.ckpt")
    return best


def test_a_resumed_run_keeps_an_earlier_best_checkpoint(tmp_path):
    fitted(tmp_path, [0.1, 0.3])
    best = fitted(tmp_path, [0.1, 0.3, 0.2], resume=True)
    assert best.best_model_score.item() == pytest.approx(0.3)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize(("end", "kept", "epoch"), [(0.4, 0.4, 2), (0.2, 0.3, 1)])
def test_the_score_after_training_is_compared_too(tmp_path, end, kept, epoch):
    best = fitted(tmp_path, [0.1, 0.3, 0.2], end=end)
    assert best.best_model_score.item() == pytest.approx(kept)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == epoch


def test_weights_that_are_scored_only_after_training_are_the_best(tmp_path):
    best = fitted(tmp_path, [0.1], end=0.2)
    assert best.best_model_path == str(tmp_path / "best.ckpt")
    assert (tmp_path / "best.ckpt").read_bytes() == (tmp_path / "last.ckpt").read_bytes()
