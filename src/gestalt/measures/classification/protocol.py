"""Classification's protocols: an image takes the class whose prompts are nearest."""

from dataclasses import dataclass

from gestalt.measures.evaluation.protocols import TEMPLATES, PromptProtocol, Resize


@dataclass(frozen=True, kw_only=True)
class ClassificationProtocol(PromptProtocol):
    """Zero-shot classification of whole images by a dual encoder's pooled vectors.

    A class of several phrases has the logit of its nearest.  Ties go to the first class.

    Raises:
        ValueError: an impossible size, or a template without a place for the name.

    Source: Radford et al. 2021 (arXiv:2103.00020), section 3.1.4, for templates and their mean;
    kahnchana/clippy at 04bf78b for short side to 224 (bicubic) and the square in the middle.
    """

    resize: Resize = "centre_crop"
    templates: tuple[str, ...] = TEMPLATES["openai_80"]
    lower_case: bool = False


PROTOCOLS = {
    "openai_80": ClassificationProtocol(name="openai_80"),
    "one_prompt": ClassificationProtocol(
        name="one_prompt", resize="square", templates=("a photo of {article} {}",), lower_case=True
    ),
}
