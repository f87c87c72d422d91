"""An exported model: a folder with ``model.safetensors`` and ``config.json``, and with ``text/``
where the text model has a name; and such a folder on the Hugging Face hub.

``text/`` holds the text encoder's architecture and its tokenizer, so that the folder loads on a
machine without the package or the hub.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import huggingface_hub
from safetensors.torch import save_model
from torch import Tensor, nn

from gestalt.config.saved import load_mapping
from gestalt.config.schema import Experiment, to_plain
from gestalt.config.trust import code_of, refuse_code
from gestalt.encoders.state_dicts import AGAIN, read_state_dict
from gestalt.encoders.text import SentenceTower
from gestalt.encoders.weights import reaching_hub, weights_hash
from gestalt.model import DualEncoder, Embeddings
from gestalt.models.building import load_model
from gestalt.models.names import DESCRIPTION, WEIGHTS
from gestalt.support.addresses import change_texts, published
from gestalt.support.files import Fields, read_json, replacing, write_whole

LIBRARY = "gestalt"
# an absolute path or a URL at the end of a text; it may have spaces
PLACE = re.compile(r"(?:(?<!\S)|(?<=:))(?:~?/|\w+://).+", re.DOTALL)
MAX_BYTES = 2**20  # of a description, which may be a stranger's
FORMAT = 1  # of the folder, raised by a change that older readers would misread
CARD = "README.md"
"""The model card, which the hub shows."""

TEXT = "text"
"""Folder of the text encoder's architecture and its tokenizer."""


def save_folder(model: DualEncoder, config: Experiment, *, path: Path, provenance: Fields) -> Path:
    """Write a model with the configuration that it is built from; files of the same names are
    replaced.

    Args:
        model: trained.
        config: configuration of its run.
        path: the folder, made if missing.
        provenance: JSON; where the weights come from.

    Returns:
        The folder.
    """
    origins = {"image": model.image_origin.record(), "text": model.text_origin.record()}
    provenance = {"origins": origins, **provenance, "weights_sha256": weights_hash(model)}
    described = {
        "library": LIBRARY,
        "format": FORMAT,
        **portable({"config": to_plain(config), "provenance": provenance}),
    }
    write_whole(path / DESCRIPTION, json.dumps(described, indent=1) + "\n")
    with replacing(path / WEIGHTS) as partial:
        save_model(model, str(partial), metadata={"format": "pt"})
        shutil.copymode(path / DESCRIPTION, partial)  # safetensors lets the owner alone read it
    if isinstance(model.text_tower, SentenceTower):
        model.text_tower.save(path / TEXT)
    return path


def portable(tree: Any) -> Any:
    """Return the tree with every absolute path and URL cut to its last part: they name what one
    machine has.  No text has a secret of a URL or the name of the home directory.
    """

    def shortened(text: str) -> str:
        text = published(text)
        if text.startswith("/"):
            return PurePath(text).name
        return PLACE.sub(lambda place: PurePath(place[0]).name, text)

    return change_texts(tree, shortened)


class Description(NamedTuple):
    """The content of ``config.json`` of an exported folder.

    Attributes:
        config: configuration of the run.
        provenance: JSON; where the weights come from.
    """

    config: Experiment
    provenance: Fields


def read_description(path: Path) -> Description:
    """Read ``config.json`` of an exported folder.

    Raises:
        ValueError: missing, too large, not JSON, not of a model that was exported by Gestalt, or of
            a later format; or its configuration does not fit the schema.
    """
    file = path / DESCRIPTION
    try:
        description = read_json(file, "exported", most=MAX_BYTES)
    except FileNotFoundError as error:
        raise ValueError(
            f"{file}: no such file; an exported model is a folder with {WEIGHTS} and {DESCRIPTION}"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file}: not of a model exported by Gestalt in format {FORMAT}, which this version "
            f"reads: {error}; export it again, or install a newer version"
        ) from error
    config = load_mapping(description["config"], origin=file)
    return Description(config, description.get("provenance", {}))


def load_folder(
    path: Path, words: Sequence[str] = (), *, description: Description | None = None
) -> DualEncoder:
    """Load an exported model, in eval mode on the CPU.

    Args:
        path: the folder.
        words: ``key=value`` words of the user, which must name towers that are code.
        description: of the folder; None: it is read.

    Raises:
        ValueError: a description or weights that cannot be read or do not fit, or a text model
            that is not found.
    """
    config, provenance = description or read_description(path)
    refuse_code(code_of(config), words, origin=str(path / DESCRIPTION))
    text = config.text
    if text.family == "sentence":
        if not (path / TEXT).is_dir():  # another folder's, or the hub's, is not taken instead
            raise ValueError(f"{path}: has no {TEXT}/, its text model; export it again")
        text = replace(text, init="random", model=str(path / TEXT), layers=None)
    file = path / WEIGHTS
    model = load_model(
        config,
        read_state_dict(file),
        text=text,
        source=f"exported folder {path}",
        misfit=f"{file}: does not fit the model of {DESCRIPTION}",
    )
    expected = provenance.get("weights_sha256")
    if expected not in (None, found := weights_hash(model)):
        raise ValueError(
            f"{file}: damaged or replaced: SHA-256 of its weights {found[:12]}, in {DESCRIPTION} "
            f"{expected[:12]}; {AGAIN}"
        )
    return model


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
        described = read_description(folder)
        encoder = load_folder(folder, description=described)
        return cls(encoder, described.config, origin=described.provenance, card=card).eval()
