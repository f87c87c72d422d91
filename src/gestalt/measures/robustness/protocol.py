"""Robustness's protocols: classification by a dense map of birds whose background misleads."""

from dataclasses import dataclass
from typing import Literal

from gestalt.measures.evaluation.protocols import PromptProtocol


@dataclass(frozen=True, kw_only=True)
class RobustnessProtocol(PromptProtocol):
    """Classification of birds on land and water by a dense map, which a rule reduces to one label.

    Every patch of the grid has a cosine with every class, among them a third for what is not a
    bird.  majority: each patch votes for its nearest class, and the bird with more votes
    wins.  max_logit: of the patches whose nearest class is a bird, the one with the highest cosine
    decides.  mean_logit: the class with the highest mean cosine, the third included.  pooled: no
    map, the pooled vector's nearest class, the third included.  Where no patch is nearest to a
    bird, majority and max_logit answer the third class, which is never right.

    Raises:
        ValueError: an unknown rule, an impossible size, or a template without a place for the name.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section on Waterbirds: zero-shot, three
    classes, 448 x 448 pixels.  The third class, the prompts, the rule and the aspect ratio are not
    stated in the parts we could read: those fields are ours.
    """

    input_size: int = 448
    # phrases for what is not a bird; none: two classes
    third_class: tuple[str, ...] = ("background",)
    reduction: Literal["majority", "max_logit", "mean_logit", "pooled"] = "majority"


PROTOCOLS = {
    "map_majority": RobustnessProtocol(name="map_majority", reduction="majority"),
    "map_max_logit": RobustnessProtocol(name="map_max_logit", reduction="max_logit"),
    "map_mean_logit": RobustnessProtocol(name="map_mean_logit", reduction="mean_logit"),
    "scenes_majority": RobustnessProtocol(name="scenes_majority", third_class=("grass", "water")),
    "pooled": RobustnessProtocol(name="pooled", reduction="pooled"),
}
