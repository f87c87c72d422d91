"""Bottom-up grouping: the features of an image part into groups, without text or labels."""

from dataclasses import dataclass
from typing import Literal, get_args

from gestalt.evaluation.protocols.image import ImageProtocol

Method = Literal["pca"]
Features = Literal["tower", "projected"]
Sign = Literal["largest", "cubes"]
GroupUpsample = Literal["bilinear", "nearest"]

MOST_GROUPS = 254
"""A group map is uint8, and 255 is taken."""


@dataclass(frozen=True, kw_only=True)
class BottomUpProtocol(ImageProtocol):
    """Grouping of whole images by an image tower alone, scored by Jaccard similarity.

    pca: of each image by itself, the top ``groups`` principal components of its patch tokens are the centres, and every location goes to
    the centre with the highest cosine, equal ones to the first.  A component without variance has cosine 0 with everything, so that a
    location on the far side of all others falls to it, and an image of one feature is one group.  The score is always given twice, with
    and without the background as an object: that is no choice here.  Pixels of value 255 are never scored.

    Raises:
        ValueError: a choice is unknown, or the number of groups impossible.

    The tower's tokens are the default because the paper has no projection, and because a tower before its training and towers whose
    projection stands elsewhere have them too.  Not to centre gives nearly every location to the first component, which then is the mean.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3, for method and number of groups.  It states neither normalisation, nor
    centring, sign, resolution and up-sampling: those fields are ours.
    """

    method: Method = "pca"
    groups: int = 8  # n: the best of more groups is never worse, so that a score says nothing without it
    features: Features = "tower"  # before the projection or after it
    normalise: bool = True  # tokens to length one, before all else
    centre: bool = True  # subtract the image's mean token; cosines are then taken of centred tokens too
    sign: Sign = "largest"  # a component and its negative are equally valid: positive is the score of largest magnitude (of equal ones the
    # first token's), or the sum of the scores' cubes
    upsample: GroupUpsample = "bilinear"  # the cosines, corners not aligned, before a pixel chooses; or nearest: of the chosen groups

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        super().__post_init__()
        choices = {"method": Method, "features": Features, "sign": Sign, "upsample": GroupUpsample}
        for field, known in choices.items():
            self.check_choice(field, choices=get_args(known))
        if not 1 <= self.groups <= MOST_GROUPS:
            raise ValueError(f"protocol {self.name}: groups is {self.groups}, choose 1 to {MOST_GROUPS}")
