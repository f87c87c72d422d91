"""timm's models as trunks: checked, changed, trimmed.  B batch, N patches, K kept patches, D width,
h w patch grid.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gestalt.encoders.keys import TIMM_KEYS, Image
from gestalt.encoders.state_dicts import cause
from gestalt.tokens import Pair


class TokenDropping(nn.Module):
    """Keeps chosen patches, in the place where timm drops them: after position embeddings, before
    the first block.

    Args:
        prefix: number of class and register tokens, which are always kept.
        returns_indices: return ``keep`` too, by which Eva selects the rotary embeddings of the kept
            patches.

    Attributes:
        keep: (B, K) patch indices, set for one call; None keeps all.
    """

    def __init__(self, *, prefix: int, returns_indices: bool) -> None:
        super().__init__()
        self.prefix = prefix
        self.returns_indices = returns_indices
        self.keep: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """Select the kept tokens.  (B, prefix + N, D) to (B, prefix + K, D)."""
        if self.keep is not None:
            kept = x[:, self.prefix :].take_along_dim(self.keep.unsqueeze(-1), dim=1)
            x = torch.cat((x[:, : self.prefix], kept), dim=1)
        return (x, self.keep) if self.returns_indices else x


class ConvStem(nn.Sequential):
    """Strided 4 x 4 convolutions and a final 1 x 1: (B, 3, H, W) to (B, D, H / patch, W / patch).

    Each convolution halves the resolution and doubles the channels, up to half of D.  A ViT trained
    from random weights learns faster with it.  Kernels have an even side: a 3 x 3 at stride 2 would
    centre a token on its patch's upper left corner, half a patch off.  Group norm sees one image at
    a time: a token depends on neither the batch nor the ranks.

    Args:
        width: D.
        patch: sides of a patch in pixels, the same power of two.

    Raises:
        ValueError: sides that are not.

    Source: Xiao et al. 2021 (arXiv:2106.14881), section 4, with other kernels, and group instead of
    batch normalisation.
    """

    def __init__(self, width: int, *, patch: Pair) -> None:
        halvings = patch[0].bit_length() - 1
        if halvings < 1 or patch != (1 << halvings, 1 << halvings):
            raise ValueError(
                f"image.stem=conv: patches of {patch[0]} x {patch[1]} pixels cannot be made by "
                "halving; choose image.patch_size 2, 4, 8, 16 or 32, or image.stem=patch"
            )
        channels = [3, *(max(1, width // 2 >> halving) for halving in reversed(range(halvings)))]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.GroupNorm(1, after),
                nn.GELU(),
            ]
        super().__init__(*layers, nn.Conv2d(channels[-1], width, 1))


def build_trunk(image: Image) -> Any:
    """Build a timm model with fresh weights and without a classifier, before ``trim``: its
    parameters have the names of timm's files.

    A ViT's position embeddings are made for square images of ``eval_size`` pixels.

    Raises:
        ValueError: timm rejects the changes, or the stem does not fit the patch.
    """
    import timm

    options: dict[str, Any] = {}
    if image.family == "vit":
        options = {"img_size": image.eval_size, "dynamic_img_size": True}
        options |= {TIMM_KEYS[key]: value for key, value in image.changes().items()}
    try:
        model = timm.create_model(image.backbone, pretrained=False, num_classes=0, **options)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"image.backbone {image.backbone!r} cannot be built as image.family={image.family} "
            f"with {options}: {cause(error) or type(error).__name__}"
        ) from error
    if image.stem == "conv":
        embedding: Any = model.patch_embed
        embedding.proj = ConvStem(embedding.proj.out_channels, patch=embedding.patch_size)
    return model


def inspect_trunk(image: Image) -> tuple[Pair, set[str]]:
    """Check a backbone against its family and the image size, on a copy without memory.

    Returns:
        The stride, and the names of the parameters that patch tokens do not depend on, such as
        parts of a head: DDP would wait for their gradients.

    Raises:
        ValueError: it does not fit; the message names the key.
    """
    with torch.device("meta"):
        trunk = trim(build_trunk(image))
    backbone = f"image.backbone {image.backbone!r}"
    if is_vit(trunk) != (image.family == "vit"):
        raise ValueError(
            f"{backbone} ({type(trunk).__name__}) is not of image.family {image.family}; vit is "
            "for timm's VisionTransformer and Eva, cnn for a CNN: choose another"
        )
    stride = token_stride(trunk, subject=backbone)
    if image.eval_size % stride[0] or image.eval_size % stride[1]:
        raise ValueError(
            f"image.eval_size={image.eval_size}: choose a multiple of the patch, {stride[0]} x "
            f"{stride[1]} pixels, of {image.backbone!r}"
        )
    # on the meta device a pass costs nothing
    pixels = torch.empty(2, 3, 8 * stride[0], 8 * stride[1], device="meta")
    with torch.enable_grad():
        features = trunk.train().forward_features(pixels)
        (features[:, trunk.num_prefix_tokens :] if is_vit(trunk) else features).sum().backward()
    unused = {name for name, parameter in trunk.named_parameters() if parameter.grad is None}
    return stride, unused


def is_vit(model: nn.Module) -> bool:
    """True for timm's two general ViT classes, which drop tokens and interpolate position
    embeddings alike.
    """
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(model, VisionTransformer | Eva)


def trim(model: Any) -> Any:
    """Remove a ViT's pooling, apply its final norm to every token and install ``TokenDropping``, in
    place; a CNN stays as it is.  ``pooling`` lists the pool, outside of the model's weights.
    """
    if not is_vit(model):
        return model
    from timm.models.eva import Eva

    if isinstance(model.norm, nn.Identity):
        # models that normalise after averaging have their final norm here
        model.norm = model.fc_norm
    model.fc_norm = nn.Identity()
    model.pooling = [model.attn_pool]
    model.attn_pool = None
    model.patch_drop = TokenDropping(
        prefix=model.num_prefix_tokens, returns_indices=isinstance(model, Eva)
    )
    return model


class Layout(NamedTuple):
    """How the features of a timm model lie.

    Attributes:
        stride: pixels from one location to the next, (down, across).
        form: of ``forward_features``: "NCHW" or "NHWC", a map; "NLC", tokens.
        only: (H, W) of the images that it was built for; None if it takes any.
    """

    stride: Pair
    form: str
    only: Pair | None = None


def layout_of(model: Any, *, subject: str) -> Layout:
    """Return how the features of a model on the meta device lie; ``subject`` is the model in
    messages.

    Raises:
        ValueError: they are no locations, not even at the size that it was built for.
    """
    if is_vit(model):
        return Layout(tuple(model.patch_embed.feat_ratio(as_scalar=False)), "NLC")
    config = model.pretrained_cfg
    usual = tuple(config["input_size"][-2:])
    for size in ((256, 128), usual):
        try:
            stride, form = _stride_at(model, size)
        except Exception as error:  # whatever a model raises at a size
            why = cause(error) or type(error).__name__
            continue
        if size == usual or form == "NCHW" or not config.get("fixed_input_size"):
            return Layout(stride, form, usual if size == usual else None)
    raise ValueError(f"{subject} ({type(model).__name__}): {why}: choose another")


@torch.no_grad()
def _stride_at(model: Any, size: Pair) -> tuple[Pair, str]:
    """Return stride and form for images of a size; any error says why there are none."""
    pixels = torch.empty(1, 3, *size, device="meta")
    features = model.eval().forward_features(pixels)
    if not isinstance(features, Tensor):
        raise ValueError(f"gives a {type(features).__name__}, not a map or tokens")
    if features.ndim == 3:
        form = "NLC"
    else:
        form = "NCHW" if features.shape[1] == model.num_features else "NHWC"
    maps = features
    if form != "NCHW":
        maps = model.forward_intermediates(pixels, indices=1, intermediates_only=True)[0]
    height, width = maps.shape[2:]
    if size[0] % height or size[1] % width or features.numel() < maps.numel():
        raise ValueError(
            f"gives {tuple(features.shape)} for {size[0]} x {size[1]} pixels, not a map that "
            "divides them"
        )
    return (size[0] // height, size[1] // width), form


def token_stride(model: Any, *, subject: str) -> Pair:
    """Return the pixels from one token to the next, (down, across): a ViT's patch, or the stride of
    a CNN (on the meta device); ``subject`` is the model in messages.

    Raises:
        ValueError: a CNN for images of one size, or whose features are not a map that divides the
            image.
    """
    layout = layout_of(model, subject=subject)
    if layout.only or layout.form != ("NLC" if is_vit(model) else "NCHW"):
        raise ValueError(
            f"{subject} gives {layout.form} for images of {layout.only or 'any size'}, expected a "
            "map NCHW for any size: choose another"
        )
    return layout.stride


def grid_of(height: int, width: int, *, stride: Pair) -> Pair:
    """Return the grid (h, w) of an image of (H, W) pixels.

    Raises:
        ValueError: a side that is not a multiple of the stride.
    """
    down, across = stride
    if height <= 0 or width <= 0 or height % down or width % across:
        raise ValueError(
            f"an image of {height} x {width} pixels does not divide into patches of {down} x "
            f"{across}; choose multiples"
        )
    return height // down, width // across
