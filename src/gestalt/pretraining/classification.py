"""Classification: train a tower on the one label of each image.  B batch, C classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from gestalt.config.schema_pretraining import Pretraining
from gestalt.encoders.image import ImageTower
from gestalt.pretraining.pretrainer import Pretrainer, summary_of


class Classification(Pretrainer):
    """A linear classifier on the summary, trained by cross-entropy and not saved.

    Args:
        tower: the tower to train.
        recipe: rates and steps.
        classes: C.
        fused: see ``Pretrainer``.
    """

    def __init__(self, tower: ImageTower, recipe: Pretraining, *, classes: int, fused: bool = True) -> None:
        super().__init__(recipe, fused=fused)
        self.tower = tower
        self.classifier = nn.Linear(tower.width, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    @property
    def trained_tower(self) -> ImageTower:
        """The tower that is trained."""
        return self.tower

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Take one step on the first global crop of a ``MultiCropBatch`` with labels."""
        logits = self.classifier(summary_of(self.tower(batch["global_crops"][0])))  # (B, C)
        loss = functional.cross_entropy(logits.float(), batch["label"])
        self.log_step(loss, accuracy=(logits.argmax(dim=-1) == batch["label"]).float().mean())
        return loss
