"""Zero-shot classification: an image takes the class whose prompts are nearest; and its robustness to misleading backgrounds."""

from dataclasses import dataclass
from typing import Literal

from gestalt.evaluation.protocols.image import ImageProtocol, Resize
from gestalt.evaluation.protocols.preset import TEMPLATES
from gestalt.evaluation.protocols.top_down import Article, Ensembling, TopDownProtocol

Reduction = Literal["majority", "max_logit", "mean_logit", "pooled"]


@dataclass(frozen=True, kw_only=True)
class ClassificationProtocol(ImageProtocol):
    """Zero-shot classification of whole images by a dual encoder's pooled vectors.

    A class of several phrases has the logit of its nearest.  Ties go to the first class.

    Raises:
        ValueError: as ``TopDownProtocol``, for the fields of prompts.

    Source: Radford et al. 2021 (arXiv:2103.00020), section 3.1.4, for templates and their mean; kahnchana/clippy at 04bf78b for short
    side to 224 (bicubic) and the square in the middle.
    """

    resize: Resize = "centre_crop"
    templates: tuple[str, ...] = TEMPLATES["openai_80"]  # {} is the name, {article} is a or an
    ensembling: Ensembling = "normalised_mean"  # of template vectors, as in ``TopDownProtocol``
    article: Article = "sound"
    lower_case: bool = False  # of the whole prompt

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        super().__post_init__()
        self.prompting()

    def prompting(self) -> TopDownProtocol:
        """Return the settings of the class vectors as the protocol that ``class_embeddings`` takes."""
        return TopDownProtocol(
            name=self.name, templates=self.templates, ensembling=self.ensembling, article=self.article, lower_case=self.lower_case
        )


@dataclass(frozen=True, kw_only=True)
class RobustnessProtocol(ClassificationProtocol):
    """Classification of birds on land and water by a dense map, which a rule reduces to one label.

    Every patch of the grid has a cosine with every class, among them a third for what is not a bird.  majority: each patch votes for its
    nearest class, and the bird with more votes wins.  max_logit: of the patches whose nearest class is a bird, the one with the highest
    cosine decides.  mean_logit: the class with the highest mean cosine, the third included.  pooled: no map, the pooled vector's nearest
    class, the third included.  Where no patch is nearest to a bird, majority and max_logit answer the third class, which is never right.

    Raises:
        ValueError: an unknown rule; or as ``ClassificationProtocol``.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section on Waterbirds: zero-shot, three classes, 448 x 448 pixels.  The third class,
    the prompts, the rule and the aspect ratio are not stated in the parts we could read: those fields are ours.
    """

    input_size: int = 448
    resize: Resize = "square"
    templates: tuple[str, ...] = ("a photo of {article} {}",)
    lower_case: bool = True
    third_class: tuple[str, ...] = ("background",)  # phrases for what is not a bird; none: two classes
    reduction: Reduction = "majority"


CLASSIFICATION_PROTOCOLS: dict[str, ClassificationProtocol] = {
    "openai_80": ClassificationProtocol(name="openai_80"),
    "one_prompt": ClassificationProtocol(name="one_prompt", resize="square", templates=("a photo of {article} {}",), lower_case=True),
}

ROBUSTNESS_PROTOCOLS: dict[str, RobustnessProtocol] = {
    "map_majority": RobustnessProtocol(name="map_majority", reduction="majority"),
    "map_max_logit": RobustnessProtocol(name="map_max_logit", reduction="max_logit"),
    "map_mean_logit": RobustnessProtocol(name="map_mean_logit", reduction="mean_logit"),
    "scenes_majority": RobustnessProtocol(name="scenes_majority", third_class=("grass", "water")),
    "pooled": RobustnessProtocol(name="pooled", reduction="pooled"),
}
