"""timm's models as trunks: checked, changed, trimmed.  B batch, N patches, K kept patches, D width, h w patch grid."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gestalt.encoders.stem import replace_stem
from gestalt.encoders.timm_names import check_backbone_name, unknown_backbone

FAMILIES = ("vit", "cnn")


@dataclass(frozen=True)
class Architecture:
    """Changes to a timm ViT; None keeps timm's value.

    Attributes:
        patch_size: side of a patch, pixels.
        width: D.
        depth: blocks.
        heads: attention heads of each block.
        stem: "patch", timm's linear patch embedding, or "conv" (``ConvStem``).
    """

    patch_size: int | None = None
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    stem: str = "patch"

    def changed(self) -> dict[str, int | str]:
        """Return the fields that differ from timm's."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "patch")}


UNCHANGED = Architecture()
TIMM_NAMES = {"patch_size": "patch_size", "width": "embed_dim", "depth": "depth", "heads": "num_heads"}


class TokenDropping(nn.Module):
    """Keeps chosen patches, in the place where timm drops them: after position embeddings, before the first block.

    Args:
        prefix: number of class and register tokens, which are always kept.
        returns_indices: return ``keep`` too, by which Eva selects the rotary embeddings of the kept patches.

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
            index = self.keep.unsqueeze(-1).expand(-1, -1, x.shape[-1])
            x = torch.cat((x[:, : self.prefix], x[:, self.prefix :].gather(1, index)), dim=1)
        return (x, self.keep) if self.returns_indices else x


def check_backbone(backbone: str, *, family: str) -> None:
    """Check that a backbone is a timm model of the family, without memory or weights.

    Raises:
        ValueError: it is not; the message names the nearest timm models, or its family.
    """
    import timm

    if family not in FAMILIES:
        raise ValueError(f"image.family {family!r} is unknown: choose one of {', '.join(FAMILIES)}")
    check_backbone_name(backbone)
    if not timm.is_model(backbone):
        raise ValueError(unknown_backbone(backbone))
    with torch.device("meta"):
        model = create_model(backbone, {})
    kind = type(model).__name__
    if is_vit(model):
        if family != "vit":
            raise ValueError(f"image.backbone {backbone!r} ({kind}) is of image.family vit, not {family}")
        return
    try:
        token_stride(model, backbone=backbone)
    except ValueError:
        if family == "cnn":
            raise
        raise ValueError(
            f"image.backbone {backbone!r} ({kind}) is neither a plain ViT (timm's VisionTransformer or Eva) nor a CNN"
        ) from None
    if family != "cnn":
        raise ValueError(f"image.backbone {backbone!r} ({kind}) is of image.family cnn, not {family}")


def create_model(backbone: str, options: dict[str, Any]) -> nn.Module:
    """Build a timm model with fresh weights and without a classifier.

    Raises:
        ValueError: timm rejects the options.
    """
    import timm

    try:
        model: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=0, **options)
    except (AssertionError, TypeError, ValueError) as cause:
        raise ValueError(f"image.backbone {backbone!r} cannot be built with {options}: {cause or type(cause).__name__}") from cause
    return model


def build_trunk(backbone: str, *, family: str, size: int, architecture: Architecture) -> nn.Module:
    """Build a trunk with fresh weights, before ``trim``: its parameters have the names of timm's files.

    A ViT's position embeddings are made for square images of ``size`` pixels.

    Raises:
        ValueError: timm rejects the changes, or the stem does not fit the patch.
    """
    changes = {TIMM_NAMES[key]: value for key, value in architecture.changed().items() if key in TIMM_NAMES}
    options = {"img_size": size, "dynamic_img_size": True, **changes} if family == "vit" else {}
    return replace_stem(create_model(backbone, options), architecture.stem)


def is_vit(model: nn.Module) -> bool:
    """True for timm's two general ViT classes, which drop tokens and interpolate position embeddings alike."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(model, VisionTransformer | Eva)


def trim(model: nn.Module) -> nn.Module:
    """Remove a ViT's pooling, apply its final norm to every token and install ``TokenDropping``, in place; a CNN stays as it is."""
    if not is_vit(model):
        return model
    from timm.models.eva import Eva

    vit: Any = model
    if isinstance(vit.norm, nn.Identity):
        vit.norm = vit.fc_norm  # models that normalise after averaging have their final norm here
    vit.fc_norm = nn.Identity()
    vit.attn_pool = None
    vit.patch_drop = TokenDropping(prefix=vit.num_prefix_tokens, returns_indices=isinstance(vit, Eva))
    return model


def token_stride(model: Any, *, backbone: str) -> tuple[int, int]:
    """Return the pixels from one token to the next, (down, across): a ViT's patch, or the stride of a CNN (on the meta device).

    Raises:
        ValueError: a CNN for images of one size, or whose features are not a map that divides the image.
    """
    if is_vit(model):
        down, across = model.patch_embed.feat_ratio(as_scalar=False)
        return int(down), int(across)
    height, width = 256, 128
    try:
        with torch.no_grad():
            features = model.eval().forward_features(torch.empty(1, 3, height, width, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as cause:
        raise ValueError(f"image.backbone {backbone!r} takes images of one size only ({cause}): choose another") from cause
    shape = tuple(features.shape) if isinstance(features, torch.Tensor) else ()
    if len(shape) != 4 or shape[1] != model.num_features or height % shape[2] or width % shape[3]:
        raise ValueError(
            f"image.backbone {backbone!r} ({type(model).__name__}) gives {shape or type(features).__name__} for {height} x {width} pixels, "
            f"not a map (1, {model.num_features}, h, w) that divides them: choose another"
        )
    return height // shape[2], width // shape[3]


def unused_parameters(trunk: Any, stride: tuple[int, int]) -> set[str]:
    """Name the parameters that patch tokens do not depend on, such as parts of a head: DDP would wait for their gradients.

    The trunk must be on the meta device, where a pass costs nothing.
    """
    image = torch.empty(2, 3, 8 * stride[0], 8 * stride[1], device="meta")
    with torch.enable_grad():
        features = trunk.train().forward_features(image)
        (features[:, trunk.num_prefix_tokens :] if is_vit(trunk) else features).sum().backward()
    return {name for name, parameter in trunk.named_parameters() if parameter.grad is None}


def checkpoint_gradients(trunk: Any, *, backbone: str) -> None:
    """Recompute activations in the backward pass, in place.

    Raises:
        ValueError: timm does not support it for this model.
    """
    try:
        trunk.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as cause:
        raise ValueError(f"image.gradient_checkpointing: timm has none for {backbone!r} ({cause})") from cause
