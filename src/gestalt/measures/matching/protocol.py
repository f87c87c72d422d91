"""Matching's protocols: clusters of a whole set, matched to its classes once."""

from collections.abc import Iterator
from dataclasses import dataclass

from gestalt.measures.grouping.protocol import MAX_GROUPS, TokensProtocol


@dataclass(frozen=True, kw_only=True)
class MatchingProtocol(TokensProtocol):
    """Unsupervised segmentation of a set: k-means over its patch tokens, clusters named after the
    classes they match best.

    The centres are fitted to tokens of ``fit_images`` images of the set that is scored, spread
    evenly over it, without its labels.  Every location goes to the nearest centre.  One assignment
    of clusters to classes, of the largest sum of pixels (the Hungarian method), is made of the
    confusion matrix of the whole set; an unmatched cluster has no class, and its pixels are wrong.

    Raises:
        ValueError: an unknown choice or an impossible number.

    Source: the matching as in PiCIE (Cho et al. 2021, arXiv:2103.17070) and STEGO (Hamilton et al.
    2022, arXiv:2203.08414), which fit their clusters to the training split and score a square in
    the middle at 320 pixels, STEGO with flips and a CRF.  Here labels keep their native size and
    nothing is cropped: a score means the same as theirs, but the two are not exactly comparable.
    """

    clusters: int | None = None  # None: as many as classes
    fit_images: int = 200  # images whose tokens are fitted to; all of a smaller set
    fit_tokens: int = 49  # drawn from each of these; all if there are fewer

    def complaints(self) -> Iterator[str]:
        """Yield an impossible number of clusters, after the complaints of every protocol."""
        yield from super().complaints()
        if self.clusters is not None and not 2 <= self.clusters <= MAX_GROUPS:
            yield (
                f"clusters is {self.clusters}, choose 2 to {MAX_GROUPS}, or None for as many as "
                "classes"
            )


PROTOCOLS = {
    "clusters_square": MatchingProtocol(name="clusters_square"),
    "clusters_short_side": MatchingProtocol(
        name="clusters_short_side", input_size=320, resize="short_side"
    ),
}
