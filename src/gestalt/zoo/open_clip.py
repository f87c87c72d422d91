"""open_clip's models with its own ViT, as a ``DualEncoder``.  B batch, N patches, D width, E shared width, h w patch grid, H W pixels.

Patches go through the last LayerNorm and the projection like the class token: the plain CLIP baseline of dense methods.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.aggregation import build_aggregation
from gestalt.encoders.backbones import TokenDropping
from gestalt.encoders.checkpoints import cause
from gestalt.encoders.image import ImageTower
from gestalt.encoders.text import OpenClipTower, TextTower
from gestalt.encoders.weights import WeightsOrigin, reaching_hub
from gestalt.model import DualEncoder, Side
from gestalt.projection import Projection

DESCRIPTION = "open_clip_config.json"


class OpenClipTrunk(nn.Module):
    """open_clip's ViT with the interface of a timm trunk, for images of any size.

    Position embeddings are resized as in timm, bicubically with antialiasing; at the training size they are unchanged.
    """

    num_prefix_tokens = 1

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.num_features = int(visual.conv1.out_channels)
        self.blocks = visual.transformer.resblocks
        self.patch_drop = TokenDropping(prefix=1, returns_indices=False)

    @property
    def cls_token(self) -> Tensor:
        """Class embedding, (D,)."""
        token: Tensor = self.visual.class_embedding
        return token

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Encode up to the last LayerNorm.  Normalised pixels (B, 3, H, W) to (B, 1 + N, D)."""
        patches: Tensor = self.visual.conv1(pixels)
        height, width = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), 1, -1), tokens], dim=1) + self._positions(height, width)
        encoded: Tensor = self.visual.ln_post(self.visual.transformer(self.visual.ln_pre(self.patch_drop(tokens))))
        return encoded

    def _positions(self, height: int, width: int) -> Tensor:
        """Return the position embeddings of a grid, (1 + h * w, D)."""
        positions: Tensor = self.visual.positional_embedding
        if (height, width) == tuple(self.visual.grid_size):
            return positions
        grid = positions[1:].T.reshape(1, -1, *self.visual.grid_size)
        resized = functional.interpolate(grid, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([positions[:1], resized[0].flatten(1).T])


class TextParts(nn.Module):
    """Modules of an open_clip text transformer up to its last LayerNorm."""

    attn_mask: Tensor

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.transformer = text.transformer
        self.ln_final = text.ln_final
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)


class LoadedOpenClipTower(OpenClipTower):
    """Text tower around an open_clip text transformer that is already loaded."""

    def __init__(self, text: Any, tokenizer: Any, *, source: str) -> None:
        length, width = text.positional_embedding.shape
        TextTower.__init__(
            self, width=int(width), origin=WeightsOrigin("open_clip", source), max_length=int(length), padding_id=0, fp16_safe=True
        )
        self.tokenizer = tokenizer
        self.model = TextParts(text)


def open_model(name: str) -> DualEncoder:
    """Load a model of open_clip.

    Args:
        name: a folder with ``open_clip_config.json`` and weights; ``hf-hub:ORG/NAME``; or an architecture, a colon and a tag or file of
            weights, such as ``ViT-B-16-quickgelu:openai``.

    Raises:
        ValueError: open_clip cannot load it with weights, or its architecture is not supported here.
    """
    import open_clip
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # a model that asks to run its own code is refused, without a question to the user
    source, tag = _source(name)
    described_elsewhere = tag is None  # by a folder or a repository, not by open_clip itself
    if not (described_elsewhere or tag):
        raise ValueError(f"zoo:open_clip:{name}: no weights named; give a folder, hf-hub:ORG/NAME, or {name}:TAG")
    if described_elsewhere:
        _check_description(source, name=name)
    try:
        with warnings.catch_warnings(), reaching_hub() as hub:
            warnings.simplefilter("error", UserWarning)  # such as weights trained with another activation
            model = open_clip.create_model(source, pretrained=tag or None, require_pretrained=True, precision="fp32")
            tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:  # open_clip passes on those of torch, safetensors, the hub's client and its own constructors
        raise ValueError(f"zoo:open_clip:{name}: cannot be loaded: {cause(error, hub=hub)}") from error
    return build_dual_encoder(model, tokenizer, name=name)


def describe(name: str) -> dict[str, Any]:
    """Return library, version and architecture of a model that ``open_model`` loads, for the record."""
    import open_clip
    from open_clip.factory import get_model_config

    return {"library": "open_clip", "version": open_clip.__version__, "architecture": get_model_config(_source(name)[0])}


def _source(name: str) -> tuple[str, str | None]:
    """Return open_clip's own name of a model, and the tag of its weights; None for a folder or a repository, which has them."""
    if Path(name).is_dir():
        return f"local-dir:{name}", None
    if name.startswith("hf-hub:"):
        return name, None
    architecture, _, tag = name.partition(":")
    return architecture, tag


def _check_description(source: str, *, name: str) -> None:
    """Refuse a configuration that cannot be read, or that asks to run code of its folder or repository, before anything is built from it.

    Raises:
        ValueError: names the file, the reason and the mend.
    """
    from open_clip.factory import get_model_config

    if Path(name).is_dir() and not (Path(name) / DESCRIPTION).is_file():
        raise ValueError(f"zoo:open_clip:{name}: the folder has no {DESCRIPTION}; name one that open_clip saved a model in")
    try:
        with reaching_hub() as hub:
            nodes: list[Any] = [get_model_config(source)]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"zoo:open_clip:{name}: {DESCRIPTION} cannot be read: {cause(error, hub=hub)}") from error
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("trust_remote_code"):
                raise ValueError(
                    f"zoo:open_clip:{name}: its {DESCRIPTION} sets trust_remote_code, which would run code of that model; "
                    "remove the key to load it without"
                )
            if ":" in str(node.get("timm_model_name", "")):
                raise ValueError(
                    f"zoo:open_clip:{name}: timm_model_name={node['timm_model_name']}: files of another model; name an architecture"
                )
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node


def build_dual_encoder(model: Any, tokenizer: Any, *, name: str) -> DualEncoder:
    """Build a dual encoder that shares the weights of an open_clip model.

    Raises:
        ValueError: its architecture is not supported here.
    """
    import open_clip

    text = getattr(model, "text", model)
    _check_supported(model.visual, text, tokenizer, name=name)
    source = f"open_clip {open_clip.__version__}, {name}"
    visual = model.visual
    stride = (int(visual.patch_size[0]), int(visual.patch_size[1]))
    origin = WeightsOrigin("open_clip", source)
    tower = ImageTower(OpenClipTrunk(visual), stride=stride, mean=visual.image_mean, std=visual.image_std, origin=origin)
    image_map, text_map = _projection(visual.proj), _projection(text.text_projection)
    image = Side(tower, image_map, aggregation=build_aggregation("cls", tower.width), project_first=True)
    words = LoadedOpenClipTower(text, tokenizer, source=source)
    dual = DualEncoder(image, Side(words, text_map, aggregation=build_aggregation("cls", words.width), project_first=True))
    with torch.no_grad():
        dual.logit_scale.copy_(model.logit_scale.reshape(()))
    return dual


def _projection(weights: Any) -> Projection | None:
    """Copy a projection from a matrix (D, E) or a linear layer without bias; None for None."""
    if weights is None:
        return None
    matrix: Tensor = weights.weight if isinstance(weights, nn.Linear) else weights.T
    projection = Projection(matrix.shape[1], matrix.shape[0])
    with torch.no_grad():
        projection.linear.weight.copy_(matrix)
    return projection


def _check_supported(visual: Any, text: Any, tokenizer: Any, *, name: str) -> None:
    """Refuse architectures that this module does not reproduce exactly."""
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transformer import VisionTransformer

    if not isinstance(visual, VisionTransformer):
        raise ValueError(f"zoo:open_clip:{name}: its image tower is a {type(visual).__name__}; only open_clip's own ViTs are supported")
    reasons = {
        "attention pooling": visual.attn_pool is not None,
        f"pooling of {visual.pool_type}": visual.pool_type != "tok",
        "a tokenizer that is not CLIP's": not isinstance(tokenizer, SimpleTokenizer),
        f"text pooling of {_text_pool(text)}": _text_pool(text) not in ("argmax", "eos"),
        "a class token in its text": getattr(text, "cls_emb", None) is not None,
        "text without a causal mask": text.attn_mask is None,
        "a bias in its text projection": isinstance(text.text_projection, nn.Linear) and text.text_projection.bias is not None,
    }
    unsupported = [reason for reason, present in reasons.items() if present]
    if unsupported:
        raise ValueError(f"zoo:open_clip:{name}: has {', '.join(unsupported)}, not supported here")


def _text_pool(text: Any) -> str:
    return str(getattr(text, "text_pool_type", getattr(text, "pool_type", "")))
