"""timm's architectures: which ones fit, and what is taken off them.  B batch, N patches, K kept patches, D width, h w patch grid."""

from typing import Any

import torch
from torch import Tensor, nn

from gestalt.support.names import suggestion

FAMILIES = ("vit", "cnn")


class TokenDropping(nn.Module):
    """Stands where timm drops patches: after position embeddings, before the first block.  ``keep`` is set for one call at a time."""

    def __init__(self, *, prefix: int, returns_indices: bool) -> None:
        super().__init__()
        self.prefix = prefix  # class and register tokens, always kept
        self.returns_indices = returns_indices  # Eva's convention: it then picks the rotary embeddings of the kept patches
        self.keep: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """(B, prefix + N, D) to (B, prefix + K, D)."""
        if self.keep is not None:
            index = self.keep.unsqueeze(-1).expand(-1, -1, x.shape[-1])
            x = torch.cat((x[:, : self.prefix], x[:, self.prefix :].gather(1, index)), dim=1)
        return (x, self.keep) if self.returns_indices else x


def check_backbone(backbone: str, *, family: str) -> None:
    """Refuse a backbone that is no timm model, or not of the family, before anything is loaded (it is built without memory).

    Raises:
        ValueError: names ``image.backbone`` and the nearest timm names, or the family it is of.
    """
    import timm

    if family not in FAMILIES:
        raise ValueError(f"image.family {family!r} is unknown: choose one of {', '.join(FAMILIES)}")
    name, _, tag = backbone.partition(".")
    if not timm.is_model(name):
        raise ValueError(f"image.backbone {backbone!r} is not a timm model; {suggestion(name, timm.list_models(), count=3)}".rstrip("; "))
    if tag:
        raise ValueError(f"image.backbone {backbone!r} names weights: write image.backbone={name} and let image.init choose them")
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
        raise ValueError(f"image.backbone {backbone!r} ({kind}) is no plain ViT (timm's VisionTransformer or Eva), nor a CNN") from None
    if family != "cnn":
        raise ValueError(f"image.backbone {backbone!r} ({kind}) is of image.family cnn, not {family}")


def create_model(backbone: str, options: dict[str, Any]) -> nn.Module:
    """Build a timm model with fresh weights and no classifier.

    Raises:
        ValueError: timm refuses the options.
    """
    import timm

    try:
        model: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=0, **options)
    except (AssertionError, TypeError, ValueError) as cause:
        raise ValueError(f"image.backbone {backbone!r} cannot be built with {options}: {cause or type(cause).__name__}") from cause
    return model


def is_vit(model: nn.Module) -> bool:
    """Whether token dropping and interpolated position embeddings work as in timm's two general ViT classes."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(model, VisionTransformer | Eva)


def trim(model: nn.Module) -> nn.Module:
    """Leave of a ViT what makes tokens: the final norm on every token, own token dropping, no pooling; of a CNN everything."""
    if not is_vit(model):
        return model
    from timm.models.eva import Eva

    own: Any = model
    if isinstance(own.norm, nn.Identity):
        own.norm = own.fc_norm  # models that average first and normalise then keep their final norm there
    own.fc_norm = nn.Identity()
    own.attn_pool = None
    own.patch_drop = TokenDropping(prefix=own.num_prefix_tokens, returns_indices=isinstance(own, Eva))
    return model


def token_stride(model: Any, *, backbone: str) -> tuple[int, int]:
    """Pixels a token stands for, (down, across): a ViT's patch, or found by looking at the map a CNN (on the meta device) makes."""
    if is_vit(model):
        down, across = model.patch_embed.feat_ratio(as_scalar=False)
        return int(down), int(across)
    height, width = 256, 128
    try:
        with torch.no_grad():
            shape = tuple(model.eval().forward_features(torch.empty(1, 3, height, width, device="meta")).shape)
    except (AssertionError, RuntimeError, ValueError) as cause:
        raise ValueError(f"image.backbone {backbone!r} takes images of one size only ({cause}): choose another") from cause
    if len(shape) != 4 or shape[1] != model.num_features or height % shape[2] or width % shape[3]:
        raise ValueError(
            f"image.backbone {backbone!r} ({type(model).__name__}) gives {shape} for {height} x {width} pixels, "
            f"not a map (1, {model.num_features}, h, w) that divides them: image.family cnn cannot use it"
        )
    return height // shape[2], width // shape[3]


def without_gradient(twin: Any, stride: tuple[int, int]) -> set[str]:
    """Names of the parameters that the parts do not depend on (a head's leftovers): DDP would wait for them.  Costs no compute."""
    image = torch.empty(2, 3, 8 * stride[0], 8 * stride[1], device="meta")
    with torch.enable_grad():
        features = twin.train().forward_features(image)
        (features[:, twin.num_prefix_tokens :] if is_vit(twin) else features).sum().backward()
    return {name for name, parameter in twin.named_parameters() if parameter.grad is None}


def checkpoint_gradients(trunk: Any, *, backbone: str) -> None:
    """Recompute activations in the backward pass.

    Raises:
        ValueError: timm cannot for this model.
    """
    try:
        trunk.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as cause:
        raise ValueError(f"image.gradient_checkpointing: timm has none for {backbone!r} ({cause})") from cause
