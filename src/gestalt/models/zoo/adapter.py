"""Adapter: the base of other people's models, whose configurations are read without running code of
theirs.  B batch, H W pixels."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.encoders.dense_model import DenseModel, normalise
from gestalt.encoders.state_dicts import cause
from gestalt.encoders.weights import WeightsOrigin, reaching_hub
from gestalt.support.keys import Keys
from gestalt.tokens import Pair, Tokens


class Adapter(DenseModel):
    """A library's model under our interface; weights, pooling, projection and tokenizer stay the
    library's.

    Args:
        model: the library's model, with weights; it is put into eval mode.
        stride: pixels from one location to the next, (down, across).
        size: side in pixels of the images that it was trained on; scored at by default.
        mean, std: normalisation, for pixels in [0, 1].
        origin: origin of the weights.
        has_text: False for a vision-only model.
        logit_scale: learned log of the scale of cosines, one element; None for a model without one.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        *,
        stride: Pair,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        origin: WeightsOrigin,
        has_text: bool = True,
        logit_scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.size = size
        self.image_origin = origin
        self.text_origin = origin if has_text else None
        self.patch_stride = stride
        if logit_scale is not None:
            logit_scale = torch.as_tensor(logit_scale).detach().reshape(()).clone()
        self.register_buffer("logit_scale", logit_scale, persistent=False)
        for key, channels in (("mean", mean), ("std", std)):
            if len(channels) != 3:
                raise ValueError(
                    f"{origin.source}: the {key} of its preprocessing is {list(channels)}; give "
                    "three numbers, one for each colour"
                )
            self.register_buffer(key, torch.tensor(tuple(channels)).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def tokens(self, images: Tensor) -> Tokens:
        """Normalise and encode images (B, 3, H, W) uint8.

        Raises:
            ValueError: images that are not uint8, or whose sides the stride does not divide.
        """
        grid = self.grid(*images.shape[-2:])
        tokens = self.encode(self.normalise(images))
        return tokens if tokens.grid else tokens._replace(grid=grid)

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) uint8 as the model was trained; a ValueError refuses other
        types.
        """
        return normalise(images, mean=self.mean, std=self.std)

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W); ``parts`` are the locations in row-major order,
        with their grid unless the stride gives it.
        """

    def embed_text(self, texts: list[str], *, normalise: bool = True) -> Tensor:
        """Embed K texts as the library does.  Returns (K, E), L2-normalised by default.

        Raises:
            ValueError: a vision-only model.
        """
        if self.text_origin is None:
            raise ValueError(
                f"{self.image_origin.source} is vision-only: it has no text; grouping and matching "
                "can be scored, names cannot"
            )
        features = self.text_features(texts)
        return functional.normalize(features, dim=-1) if normalise else features

    def text_features(self, texts: list[str]) -> Tensor:
        """Embed K texts with the library's tokenizer, (K, E), not normalised; called only if there
        is a ``text_origin``.
        """
        raise NotImplementedError


@contextmanager
def errors_in_one_line(beginning: str) -> Iterator[None]:
    """Turn the errors of the libraries that load a model into one line; an unreachable hub is not
    waited for.

    Raises:
        ValueError: any error of the block, behind ``beginning`` and a colon.
    """
    with reaching_hub() as hub:
        try:
            yield
        except Exception as error:
            # those of torch, safetensors, tokenizers, the hub's client and the constructors
            raise ValueError(f"{beginning}: {cause(error, hub=hub)}") from error


def describe_library(library: str, architecture: Any) -> dict[str, Any]:
    """Return library, version and architecture of a model, for the record."""
    return {
        "library": library,
        "version": import_module(library).__version__,
        "architecture": architecture,
    }


def whole_side(side: int, stride: Pair) -> int:
    """Return the side of the training images, in pixels, rounded to a multiple of the stride (down,
    across): 300 at 32 become 288.
    """
    step = math.lcm(*stride)
    return max(1, round(side / step)) * step


ATTENTION_KEYS = ("attn_implementation", "_attn_implementation")
"""Keys that select an attention; a value with a slash is a repository, whose code would be
downloaded and run.
"""


def read_config(name: str, *, target: str, beside_code: Sequence[str] = ()) -> Keys:
    """Read ``config.json`` of a folder, of the hub's cache or of the hub.

    Args:
        name: a folder, or ORG/NAME on the hub.
        target: beginning of a message, such as ``hf:ORG/NAME``.
        beside_code: types of models whose ``auto_map`` is ignored, as the caller loads them by a
            class of transformers.

    Raises:
        ValueError: it cannot be read, or it or the tokenizer's configuration names code that is not
            a part of transformers.
    """
    from transformers import PretrainedConfig

    place = f"{target}: config.json of {name}"
    with errors_in_one_line(f"{place} cannot be read"):
        config = PretrainedConfig.get_config_dict(name)[0]
    if config.get("model_type") in beside_code:
        config.pop("auto_map", None)
    _refuse_code(config, place)
    if not isinstance(config.get("model_type"), str):
        raise ValueError(
            f"{target}: no config.json with a model_type in {name}; give a folder or a "
            "repository of transformers"
        )
    check_tokenizer(name, target=target)
    return config


def check_tokenizer(name: str, *, target: str) -> None:
    """Check that a tokenizer needs no code of its own; ``target`` begins a message.

    Raises:
        ValueError: its configuration cannot be read, or it names code.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    place = f"{target}: tokenizer_config.json of {name}"
    with errors_in_one_line(f"{place} cannot be read"):
        config = get_tokenizer_config(name)
    _refuse_code(config, place)


def nested(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a configuration, at any depth."""
    nodes = [config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            yield from node.items()
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node


def _refuse_code(config: Keys, place: str) -> None:
    """Refuse a configuration that names code of the model's own."""
    for key, value in nested(config):
        if key == "auto_map" or (key in ATTENTION_KEYS and "/" in str(value)):
            raise ValueError(
                f"{place} has {key}, which would run code of that model; it is never run here"
            )
