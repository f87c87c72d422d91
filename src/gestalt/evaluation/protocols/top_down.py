"""Top-down grouping: every location takes the class whose prompt is nearest."""

from dataclasses import dataclass
from typing import Literal, get_args

from gestalt.evaluation.protocols.image import ImageProtocol

Ensembling = Literal["normalised_mean", "raw_mean"]
Article = Literal["sound", "letter"]
Background = Literal["prompts", "threshold"]


@dataclass(frozen=True, kw_only=True)
class TopDownProtocol(ImageProtocol):
    """Zero-shot segmentation of whole images with a dual encoder.

    The logits are cosines in float32.  They, not the features, are up-sampled to the label's native size before the argmax over prompts.

    Raises:
        ValueError: a choice is unknown, a template has no place for the name, or the threshold contradicts the background rule.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; prompts as kahnchana/clippy renders them (one template, lower case,
    no full stop).  The paper states neither resolution nor background rule: those fields are ours.
    """

    templates: tuple[str, ...] = ("a photo of {article} {}",)  # {} is the name, {article} is a or an
    ensembling: Ensembling = (
        "normalised_mean"  # of template vectors: normalise, mean, normalise; or mean of what the tower gives, normalise once
    )
    article: Article = "sound"  # "an hour, a unicorn"; or by the first letter alone, as kahnchana/clippy does
    lower_case: bool = True  # of the whole prompt
    background: Background = "prompts"  # background has prompts of its own; or it is where no foreground prompt reaches the threshold
    threshold: float | None = None  # cosine in [-1, 1], for the threshold rule only
    upsample: Literal["bilinear"] = "bilinear"  # of the logits, corners not aligned

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        super().__post_init__()
        self.check_choice("ensembling", choices=get_args(Ensembling))
        self.check_choice("article", choices=get_args(Article))
        self.check_choice("background", choices=get_args(Background))
        self.check_choice("upsample", choices=("bilinear",))
        if not self.templates:
            raise ValueError(f"protocol {self.name}: no templates, at least one is needed, such as 'a photo of {{article}} {{}}'")
        for template in self.templates:
            if "{}" not in template:
                raise ValueError(f"protocol {self.name}: the template {template!r} has no {{}} where the class name goes")
        if (self.threshold is not None) != (self.background == "threshold"):
            raise ValueError(
                f"protocol {self.name}: background={self.background} with threshold={self.threshold}; "
                "a threshold in [-1, 1] belongs to background=threshold, and to it alone"
            )
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise ValueError(f"protocol {self.name}: threshold is {self.threshold}, a cosine lies in [-1, 1]")
