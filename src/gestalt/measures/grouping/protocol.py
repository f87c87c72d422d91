"""Grouping's protocols: an image's features are partitioned into groups, without text or labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.protocols import ImageProtocol, build_protocol
from gestalt.support.names import nearest

MAX_GROUPS = 254
"""Largest number of groups: a group map is uint8, and 255 is reserved."""


@dataclass(frozen=True, kw_only=True)
class TokensProtocol(ImageProtocol):
    """A protocol of a measure that groups the patch tokens of an image tower."""

    features: Literal["tower", "projected"] = "tower"  # before the projection or after it
    normalise: Literal[True] = True  # tokens are L2-normalised first
    seed: int = 0  # of all draws, and of the starts of k-means
    restarts: int = 4  # starts of k-means; the tightest result is kept
    # of cosines, distances or attention, corners not aligned; or nearest, of the groups on the grid
    upsample: Literal["bilinear", "nearest"] = "bilinear"


@dataclass(frozen=True, kw_only=True)
class BottomUpProtocol(TokensProtocol):
    """Grouping of whole images by an image tower alone, scored by Jaccard similarity.

    pca: within each image, the top ``groups`` principal components of its patch tokens are the
    centres, and every location goes to the centre with the highest cosine, ties to the first.  The
    sign of a component makes its score of largest magnitude (ties: the first) positive.  A
    component without variance has cosine 0 with everything, so that a location on the far side of
    all others falls to it, and an image of one feature is one group.

    kmeans: within each image, every location goes to the nearest of the centres that k-means finds
    among its patch tokens.

    spectral: as kmeans, among the coordinates of the tokens in the leading eigenvectors of their
    normalised affinity (cosines, 0 where negative).

    attention: not a partition but masks, which may overlap: for each head of the last block, the
    fewest patches that hold the share ``mass`` of the class token's attention to patches.

    The score is always reported twice, with and without the background as an object.  Pixels of
    value 255 are never scored.

    Raises:
        ValueError: an unknown choice, or an impossible number of groups.

    The tower's tokens are the default because the paper has no projection, and because every tower
    has them, even before training.  Without centring, nearly every location goes to the first
    component, which is then the mean.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3, for pca and number of groups.  It
    does not state normalisation, centring, sign, resolution or up-sampling: those fields are
    ours.  Attention as Caron et al. 2021 (arXiv:2104.14294), figure 4, and facebookresearch/dino,
    visualize_attention.py: 60 % of the mass, decided on the patch grid.
    """

    method: Literal["pca", "kmeans", "spectral", "attention"] = "pca"
    # n, to be stated with a score: the best of more groups is never worse; None: as many as heads
    groups: int | None = 8
    # the image's mean token is subtracted; cosines are then taken of centred tokens too
    centre: Literal[True] = True
    mass: float = 0.6  # share of a head's attention that its mask holds

    def complaints(self) -> Iterator[str]:
        """Yield an impossible number of groups, after the complaints of every protocol."""
        yield from super().complaints()
        if self.method == "attention":
            if self.groups is not None:
                yield f"groups is {self.groups}, method attention has as many as heads; choose None"
        elif self.groups not in range(1, MAX_GROUPS + 1):
            yield f"groups is {self.groups}, choose a whole number from 1 to {MAX_GROUPS}"

    def fields(self) -> dict[str, Any]:
        """Return the fields, and the rule for the sign of a component, which is fixed."""
        return {**super().fields(), "sign": "largest"}


_METHODS: dict[Any, dict[str, Any]] = {
    "pca": {},
    "kmeans": {},
    "spectral": {},
    "attention": {"groups": None, "upsample": "nearest"},
}
_SIZES: dict[Any, int] = {"square": 224, "short_side": 448}
PROTOCOLS = {
    f"{method}_{resize}": BottomUpProtocol(
        name=f"{method}_{resize}", method=method, resize=resize, input_size=size, **fields
    )
    for method, fields in _METHODS.items()
    for resize, size in _SIZES.items()
}

PARTITIONS = tuple(name for name, protocol in PROTOCOLS.items() if protocol.method != "attention")
"""Names of the protocols that give every location one group; the masks of attention heads may
overlap.
"""


def grouping_protocol(
    name: str | None, *, size: int, groups: int, stride: tuple[int, int]
) -> BottomUpProtocol:
    """Return the protocol for grouping pictures without labels, at the model's image size.

    Args:
        name: a protocol; None for the measure's default.
        size: side of the model's images in pixels.
        groups: the largest number of groups.
        stride: of the model's patches, (down, across) in pixels.

    Raises:
        ValueError: an unknown protocol, one whose masks overlap, or an impossible number of groups.
    """
    name = name or MEASURES["grouping"].default
    if name in PROTOCOLS and name not in PARTITIONS:
        raise ValueError(
            f"protocol {name}: its masks overlap, so they are no groups of a picture; "
            f"{nearest(name, PARTITIONS)}"
        )
    return build_protocol(name, PROTOCOLS, input_size=size, groups=groups).fitted_to(stride)
