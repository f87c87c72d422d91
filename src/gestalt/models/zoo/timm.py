"""timm's models, vision-only: grouping, matching and proxy models of dense readings.  B batch, N
locations, D width, h w grid.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gestalt.encoders.backbones import layout_of
from gestalt.encoders.dense_model import maps_of, tokens_of
from gestalt.encoders.last_block import LastBlock, timm_block
from gestalt.encoders.positions import timm_positions
from gestalt.encoders.state_dicts import check_weights
from gestalt.encoders.weights import WeightsOrigin
from gestalt.models.zoo.adapter import Adapter, describe_library, errors_in_one_line, whole_side
from gestalt.models.zoo.kinds import Opened
from gestalt.support.names import few
from gestalt.tokens import Pair, Tokens


class TimmTower(Adapter):
    """A model whose image tower is timm's; a subclass pools its features.

    Attributes:
        form, only: of its ``Layout``.
    """

    form = "NCHW"
    only: Pair | None = None

    @property
    def trunk(self) -> Any:
        """The timm model."""
        return self.model

    def grid(self, height: int, width: int) -> Pair:
        """Return the grid (h, w) of an image of (H, W) pixels.

        Raises:
            ValueError: another size than the only one, or a side that is not a multiple of the
                stride.
        """
        if self.only not in (None, (height, width)):
            raise ValueError(
                f"{self.image_origin.source} was built for images of {self.only} pixels alone, not "
                f"({height}, {width}): choose a protocol that resizes to a square, such as "
                "pca_square, without another image.eval_size"
            )
        return super().grid(height, width)

    def encode(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W) by ``forward_features``.

        The summary is the class token and the registers, over which some models pool too, flat (B,
        prefix D); None where there are none.
        """
        trunk, grid = self.trunk, self.grid(*pixels.shape[-2:])
        if getattr(getattr(trunk, "rope", None), "feat_shape", None) is not None:
            trunk.rope.update_feat_shape(grid)  # rotary embeddings that were made for one size
        features = trunk.forward_features(pixels)
        if features.ndim == 4:
            return tokens_of(features if self.form == "NCHW" else features.flatten(1, 2), grid)
        prefix = features.shape[1] - math.prod(grid)
        summary = features[:, :prefix].flatten(1) if prefix else None
        return tokens_of(features[:, prefix:], grid, summary=summary)

    def features_of(self, tokens: Tokens) -> Tensor:
        """Return tokens as the model's ``forward_head`` takes them."""
        from timm.layers.format import Format, nchw_to

        features = nchw_to(maps_of(tokens), Format(self.form))
        if tokens.summary is None:
            return features
        # one token where a location stands for all of them
        first = tokens.summary.reshape(features.shape[0], -1, features.shape[-1])
        prefix = getattr(self.trunk, "num_prefix_tokens", first.shape[1])
        return torch.cat([first.expand(-1, prefix, -1), features], dim=1)

    def last_block(self) -> LastBlock | None:
        """Return the parts of a ViT's last block; None for another kind."""
        return timm_block(self.trunk)

    def resize_positions(self, positions: str, *, grid: Pair) -> Any:
        """Return a context in which position embeddings are resized by another rule than timm's."""
        return timm_positions(self.trunk, grid=grid, how=positions)


class TimmModel(TimmTower):
    """A timm model; the head is timm's own pooling with the norm that follows it."""

    def trunk_input(self, images: Tensor) -> tuple[nn.Module, Tensor]:
        """Return the model and images as it takes them, normalised."""
        return self.model, self.normalise(images)

    def head(self, tokens: Tokens) -> Tensor:
        """Pool as timm does: (B, D)."""
        return self.model.forward_head(self.features_of(tokens), pre_logits=True)


def open_model(name: str) -> Opened:
    """Load a timm model with its weights, and describe it for the record; one without a map of
    locations is refused before the weights are downloaded.

    Args:
        name: timm's name with a tag of weights, such as ``vit_base_patch8_224.dino``;
            ``hf-hub:ORG/NAME``; or a folder with ``config.json`` and weights, as timm's
            ``save_for_hf`` writes it.

    Raises:
        ValueError: an unknown name or tag, no map of locations, or weights that cannot be loaded.
    """
    import timm

    architecture, _, tag = name.partition(".")
    if Path(name).is_dir():
        check_weights(Path(name))
    elif tag:
        known = timm.list_pretrained(f"{architecture}.*")
        if known and name not in known:
            raise ValueError(f"timm:{name}: no such weights; choose {few(name, known)}")
    with errors_in_one_line(f"timm:{name}"):
        with torch.device("meta"):
            layout = layout_of(create(name, num_classes=0), subject=repr(name))
        model = create(name, pretrained=True, num_classes=0)
    config = model.pretrained_cfg
    opened = TimmModel(
        model,
        stride=layout.stride,
        size=whole_side(int(config["input_size"][-1]), layout.stride),
        mean=config["mean"],
        std=config["std"],
        origin=WeightsOrigin("timm", f"timm {timm.__version__}, {name}"),
        has_text=False,
    )
    opened.form, opened.only = layout.form, layout.only
    return Opened(opened, describe_library("timm", architecture_of(name)), opened.size)


def architecture_of(name: str) -> str:
    """Return the architecture of a model; the name alone of a repository on the hub."""
    if Path(name).is_dir():
        from timm.models._hub import load_model_config_from_path

        return str(load_model_config_from_path(name)[1])
    return name if name.startswith("hf-hub:") else name.partition(".")[0]


def create(name: str, **options: Any) -> Any:
    """Build timm's model, or that of a folder, for images of any size where it is a ViT."""
    import timm

    source = f"local-dir:{name}" if Path(name).is_dir() else name
    try:
        return timm.create_model(source, dynamic_img_size=True, **options)
    except TypeError:  # not a ViT: no such keyword
        return timm.create_model(source, **options)
