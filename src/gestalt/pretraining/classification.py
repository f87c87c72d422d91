"""Classification: a tower learns the one label of each image.  B batch, C classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from gestalt.config.schema_pretraining import Pretraining
from gestalt.encoders.image import ImageTower
from gestalt.pretraining.pretrainer import Pretrainer, summary_of


class Classification(Pretrainer):
    """Softmax over labels by one linear layer on the summary, which is left out of the product.

    Args:
        tower: what is trained.
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
    def product(self) -> ImageTower:
        """The tower."""
        return self.tower

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """One step on a ``MultiCropBatch`` with labels, by its first global crop.

        Raises:
            NonFiniteLoss: on every rank at once, with the step.
        """
        logits = self.classifier(summary_of(self.tower(batch["global_crops"][0])))  # (B, C)
        loss = functional.cross_entropy(logits.float(), batch["label"])
        self.note(loss, accuracy=(logits.argmax(dim=-1) == batch["label"]).float().mean())
        return loss
