"""An exported model on the Hugging Face hub: downloaded by name, and pushed by the methods that the
hub's users know.
"""

from pathlib import Path
from typing import Any

import huggingface_hub
from torch import Tensor, nn

from gestalt.config.schema import Experiment
from gestalt.encoders.weights import reaching_hub
from gestalt.model import DualEncoder, Embeddings
from gestalt.models.folder import (
    CARD,
    TEXT,
    load_folder,
    read_config,
    read_description,
    save_folder,
)
from gestalt.models.names import DESCRIPTION, WEIGHTS

FILES = [WEIGHTS, DESCRIPTION, CARD, f"{TEXT}/*"]
"""The files downloaded from a repository: no code, and no other formats of the weights."""


def download(name: str, **choices: Any) -> Path:
    """Return the folder of a model on the hub, from its cache or downloaded.

    Args:
        name: ``org/name``.
        choices: arguments of ``snapshot_download``, such as ``revision``.

    Raises:
        ValueError: it cannot be downloaded; the message says that no file has that name either.
    """
    try:
        with reaching_hub() as unreachable:
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=FILES, **choices))
    except (
        Exception
    ) as error:  # the hub's client also raises its HTTP library's errors; the fix is the same
        reason = unreachable or " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{name}: neither a file or folder here, nor a model that the hub gives: {reason}"
        ) from error


class HubModel(nn.Module, huggingface_hub.ModelHubMixin):
    """An exported model as a plain module, with ``from_pretrained``, ``save_pretrained`` and
    ``push_to_hub`` of ``huggingface_hub``.

    Args:
        encoder: the model.
        experiment: its configuration.
        origin: provenance of the weights, JSON.
        card: the model card, Markdown.
    """

    def __init__(
        self, encoder: DualEncoder, experiment: Experiment, *, origin: dict[str, Any], card: str
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.experiment = experiment
        self.origin = origin
        self.card = card

    def forward(self, images: Tensor, texts: list[str]) -> Embeddings:
        """Embed images (B, 3, H, W) uint8 and texts."""
        return self.encoder(images, texts)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_folder(self.encoder, self.experiment, path=save_directory, provenance=self.origin)
        (save_directory / CARD).write_text(self.card, encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **choices: Any
    ) -> "HubModel":
        """Load a folder, or a model of the hub by its name, in eval mode on the CPU.

        Args:
            pretrained_model_name_or_path: a folder, or ``org/name`` on the hub.
            choices: arguments of the download, such as ``revision`` and ``token``.

        Raises:
            ValueError: it cannot be downloaded, or is no exported model.
        """
        place = str(pretrained_model_name_or_path)
        folder = Path(place) if Path(place).is_dir() else download(place, **choices)
        card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
        return cls(
            load_folder(folder),
            read_config(folder),
            origin=read_description(folder)["provenance"],
            card=card,
        ).eval()
