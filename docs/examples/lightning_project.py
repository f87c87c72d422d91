"""Train a model of open_clip in your own Lightning project; Gestalt scores it at each validation.

    python docs/examples/lightning_project.py FOLDER [RANKS]

FOLDER has a model as open_clip saves it.  Its weights are replaced by the trained ones, and
scores.json is written beside them.
"""

import json
import sys
from pathlib import Path

import open_clip
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms.functional import normalize

from gestalt import ZeroShot

NAMES = ["a dog", "a cat", "grass"]


class Project(LightningModule):
    """Learns which of the names belongs to an image."""

    def __init__(self, folder):
        super().__init__()
        self.clip = open_clip.create_model(f"local-dir:{folder}")
        self.clip.visual.output_tokens = True
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        self.accuracy = MulticlassAccuracy(len(NAMES))

    def forward(self, images):
        """Embed images (B, 3, H, W) in [0, 1], (B, E), and each patch by itself, (B, E, h, w)."""
        visual = self.clip.visual
        pooled, patches = visual(normalize(images, visual.image_mean, visual.image_std))
        return pooled, (patches @ visual.proj).unflatten(1, visual.grid_size).movedim(-1, 1)

    def texts(self, texts):
        """Embed K texts: (K, E)."""
        return self.clip.encode_text(self.tokenizer(texts).to(self.device))

    def logits(self, images):
        """Compare images with the names: (B, 3)."""
        return self.clip.logit_scale.exp() * self(images)[0] @ self.texts(NAMES).T

    def training_step(self, batch):
        """Compute the loss."""
        return cross_entropy(self.logits(batch[0]), batch[1])

    def validation_step(self, batch):
        """Log the accuracy."""
        self.accuracy(self.logits(batch[0]), batch[1])
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self):
        """Use plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def main(folder, ranks=1):
    """Train and score on the CPU.  Returns the metrics of the last validation."""
    seed_everything(0)
    project = Project(folder)
    size = project.clip.visual.image_size[0]
    data = TensorDataset(torch.rand(30, 3, size, size), torch.arange(30) % len(NAMES))
    model = {
        "locations": lambda images: project(images)[1],
        "pooled": lambda images: project(images)[0],
        "texts": project.texts,
    }
    scores = ZeroShot("scenes", limit=13, size=size, model=model)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", devices=ranks, callbacks=[scores], log_every_n_steps=4
    )
    trainer.fit(project, DataLoader(data, 4, shuffle=True), DataLoader(data, 4))
    if trainer.is_global_zero:
        torch.save(project.clip.state_dict(), Path(folder, "open_clip_pytorch_model.bin"))
        Path(folder, "scores.json").write_text(json.dumps(scores.results()))
    return trainer.callback_metrics


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
