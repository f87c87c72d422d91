"""Segmentation's protocol: every location takes the class whose prompt is nearest.  Its rows are in
``segmentation/presets.py``.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gestalt.measures.evaluation.protocols import PromptProtocol, without_none
from gestalt.support.names import nearest
from gestalt.tables import READINGS

USUAL_PROXY = "timm:vit_base_patch8_224.dino"

NO_CRF = (
    "needs pydensecrf2: pip install 'gestalt-grouping[crf]' builds it, with a C++ compiler and a "
    "Python below 3.13; or choose pamr or none"
)


@dataclass(frozen=True, kw_only=True)
class Crf:
    """The two potentials of a dense CRF; weights are those of the Potts model.

    Source: mhamilton723/STEGO at 2ec59fd, src/crf.py.
    """

    position_weight: float = 3.0
    position_std: float = 1.0  # pixels of the label
    colour_weight: float = 4.0  # of pixels that are near and similar
    colour_position_std: float = 67.0  # pixels of the label
    colour_std: float = 3.0  # grey levels of 255


@dataclass(frozen=True, kw_only=True)
class TopDownProtocol(PromptProtocol):
    """Zero-shot segmentation with a dual encoder, whole images or windows.

    Cosines in float32 become scores on the patch grid, except softmax, which follows the
    up-sampling to the window.  Scores are up-sampled to their window, averaged where windows
    overlap, and up-sampled to the label, always bilinearly without aligned corners there; those of
    a whole image go to the label directly.

    Scores: the cosine; softmax(cosine) over prompts; sigmoid(score_scale cosine + score_bias); or
    GroupViT's affinity, the product of two softmaxes of logit_scale cosine over prompts, one over
    all, one over the ``top_classes`` that are nearest to the window's mean location.

    Background: prompts: it has prompts of its own.  threshold: pixels whose best score is below the
    threshold.  probability: pixels whose largest probability, in a softmax over prompts of
    logit_scale cosine, is below the threshold.  constant: a channel whose score is the
    threshold.  affinity: a channel that is 1 where the best affinity is below min(threshold,
    largest affinity of the window), else 0.

    Refinement: pamr, of scores, before anything is chosen; under softmax on the patch grid alone,
    of cosines.  crf, a dense CRF on the label's pixels, which starts from the softmax over classes
    of logit_scale cosine, a class being its best prompt there.  Its result is compared with the
    threshold of probability.

    Reading: plain, the tower as it is; the others compute its last block in another way.

    Debias: largest: subtract from each prompt's cosines the mean, over ``debias_images`` unlabelled
    images, of its largest cosine in an image, so that a prompt that is near to everything loses its
    lead.  ``image_weight`` adds that share of the prompt's cosine with the pooled image.  Both are
    constants of an image's maps.

    Prior: the background's prompts get ``prior_offset - prior * o`` added to their cosines, where o
    is how little a location's features, before the projection, resemble the border of the whole
    picture, standardised over the picture.

    Raises:
        ValueError: an unknown choice, a template without a place for the name, or fields that
            contradict each other.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3, for the idea; the default prompts
    as kahnchana/clippy renders them (one template, lower case, no full stop).  Each preset's
    ``source`` says where its fields are from.
    """

    # phrases of the classes: the label set's own, or a list of ``evaluation/vocabularies``
    vocabulary: str = "label_set"
    # known defects of the original: kept, or corrected as the preset says
    defects: Literal["strict", "fixed"] = "strict"
    window: int | None = None  # pixels a side, at most the image's; None: the whole image
    stride: int | None = None  # pixels; the last window is shifted back inside
    # a window that the tower's patches do not divide: an error, stretched (bicubic), or its
    # remainder cut off
    fit: Literal["refuse", "stretch", "crop"] = "refuse"
    scores: Literal["cosine", "softmax", "sigmoid", "affinity"] = "cosine"
    score_scale: float = 1.0  # sigmoid only
    score_bias: float = 0.0  # sigmoid only
    top_classes: int | None = None  # affinity only
    window_upsample: Literal["bilinear", "bilinear_aligned", "nearest"] = (
        "bilinear"  # patch grid to window
    )
    background: Literal["prompts", "threshold", "probability", "constant", "affinity"] = "prompts"
    # a cosine in [-1, 1] for threshold; in [0, 1] for probability, constant and affinity; None for
    # prompts
    threshold: float | None = None
    # probability, affinity and crf; None: the model's own, at most 100
    logit_scale: float | None = None
    # probability only: a class with no larger share of the foreground's pixels is dropped
    area_threshold: float | None = None
    # how the tower's last block is computed, a row of ``READINGS``
    reading: str = "plain"
    # how position embeddings are resized to the grid (``encoders/positions.py``)
    positions: Literal["timm", "scale_factor"] = "timm"
    proxy: str = ""  # of a reading that needs one: the proxy model, a name as gestalt eval takes it
    debias: Literal["none", "largest"] = (
        "none"  # a correction of each prompt's cosines by unlabelled images
    )
    debias_images: int = 600  # at most; largest only
    # of the cosine of a prompt and the pooled image, added to the prompt's map
    image_weight: float = 0.0
    # strength of the prior of the background's prompts; 0: none
    prior: float = 0.0
    prior_offset: float = 0.1  # added to their cosines, under a prior only
    upsample: Literal["bilinear"] = "bilinear"  # to the label, corners not aligned
    # or label and prediction squashed to input_size x input_size, as a defect of an original
    label_resolution: Literal["native", "squashed"] = "native"
    refinement: Literal["none", "pamr", "crf"] = "none"
    # PAMR acts on the patch grid of a window, or on the label's pixels
    refined_at: Literal["grid", "label"] = "label"
    refinement_iterations: int = 10
    refinement_dilations: tuple[int, ...] = (8, 16)  # PAMR only
    crf: Crf = dataclasses.field(default_factory=Crf)  # read where refinement is crf
    left_out: tuple[str, ...] = ()  # steps of the original that are not done here
    ours: tuple[str, ...] = ()  # choices of ours that the original does not state
    source: str = ""  # of the numbers; not in the digest

    def fields(self) -> dict[str, Any]:
        """Return the fields as every protocol, without those that have no effect and later ones at
        their defaults.
        """
        # a digest from before these fields is unchanged
        later = ("reading", "positions", "proxy", "debias", "image_weight", "prior")
        unused = {
            "crf": self.refinement != "crf",
            "debias_images": self.debias == "none",
            "prior_offset": self.prior == 0,
            **{key: getattr(self, key) == getattr(type(self), key) for key in later},
        }
        return {key: value for key, value in super().fields().items() if not unused.get(key)}

    def background_rule(self) -> str:
        """Return ``background``, with the prior if there is one."""
        return f"{self.background} with prior={self.prior}" if self.prior else self.background

    def plainly(self) -> "TopDownProtocol":
        """Return the protocol with the tower's own last block and position embeddings, which
        ``left_out`` then names.
        """
        if keeps_block(self.reading):
            return dataclasses.replace(self, reading="plain", positions="timm")
        missing = (
            "attention from a second model's features (DINO ViT-B/8)"
            if needs_proxy(self.reading)
            else "the method's own last attention block: the tower is taken as it is"
        )
        return dataclasses.replace(
            self, reading="plain", positions="timm", proxy="", left_out=(missing, *self.left_out)
        )

    def read_by(
        self, *, reading: str | None = None, positions: str | None = None, proxy: str | None = None
    ) -> "TopDownProtocol":
        """Return the protocol under another dense reading; None keeps the protocol's."""
        if reading is not None and keeps_block(reading) and not keeps_block(self.reading):
            return self.plainly().read_by(reading=reading, positions=positions, proxy=proxy)
        if reading is not None and reading != self.reading:
            proxy = proxy or (USUAL_PROXY if needs_proxy(reading) else "")
        changes = {"reading": reading, "positions": positions, "proxy": proxy}
        return dataclasses.replace(self, **without_none(changes))

    def complaints(self) -> Iterator[str]:
        """Yield what contradicts what, after the complaints of every protocol."""
        yield from super().complaints()
        window, stride = self.window, self.stride
        if (window is None) != (stride is None):
            yield f"window={window} with stride={stride}: give both, or neither"
        if window is not None and stride is not None and not 1 <= stride <= window:
            yield f"stride is {stride}; choose 1 to the window's {window} pixels"
        if self.long_limit is not None and (
            self.resize != "keep_ratio" or self.long_limit < self.input_size
        ):
            yield f"long_limit={self.long_limit} needs resize=keep_ratio, and at least input_size"
        yield from self._background_complaints()
        # constants may be added to cosines, and no published threshold is compared with their sum;
        # a CRF needs log-probabilities of classes
        cosine, rules = ("cosine",), ("prompts", "threshold", "probability")
        for key, value, off, scores, backgrounds in (
            ("debias", self.debias, "none", cosine, rules),
            ("image_weight", self.image_weight, "0", cosine, rules),
            ("prior", self.prior, "0", (*cosine, "softmax"), ("prompts", "probability")),
            ("refinement", self.refinement, "none", cosine, ("prompts", "probability")),
        ):
            fits = self.scores in scores and self.background in backgrounds
            if value not in ("none", "pamr", 0) and not fits:
                yield (
                    f"{key}={value} does not go with scores={self.scores} and "
                    f"background={self.background}; it needs scores={' or '.join(scores)}, and "
                    f"background={' or '.join(backgrounds)}; or set evaluation.{key}={off}"
                )
        weights = (self.image_weight, self.prior, self.prior_offset)
        if self.debias_images < 1 or not all(map(math.isfinite, weights)):
            yield (
                f"debias_images={self.debias_images}, image_weight={self.image_weight}, "
                f"prior={self.prior}, prior_offset={self.prior_offset}; choose 1 or more images "
                "and finite weights"
            )
        if self.reading not in READINGS:
            yield f"reading is {self.reading!r}; {nearest(self.reading, READINGS)}"
        if bool(self.proxy) != needs_proxy(self.reading):
            yield (
                f"reading={self.reading} with proxy={self.proxy!r}: inference methods with a "
                "second model, such as proxyclip, need one; no other method takes one"
            )
        if self.refinement_iterations < 1 or min(self.refinement_dilations, default=0) < 1:
            yield "refinement needs at least one iteration and dilations of at least 1 pixel"
        # pixels are refined map by map
        if self.refinement == "pamr" and self.scores == "softmax" and self.refined_at != "grid":
            yield (
                f"refinement=pamr at refined_at={self.refined_at} does not go with "
                "scores=softmax; choose refinement=none, or a protocol with other scores"
            )
        if self.refinement == "crf":
            if self.refined_at != "label":
                yield f"refinement=crf does not go with refined_at={self.refined_at}; choose label"
            for name, value in dataclasses.asdict(self.crf).items():
                least = 0 if name.endswith("weight") else 1e-6
                if not least <= value < math.inf:
                    yield (f"crf.{name} is {value}, a finite number of at least {least} is needed")

    def _background_complaints(self) -> Iterator[str]:
        rule, threshold, scores = self.background, self.threshold, self.scores
        if (threshold is not None) != (rule != "prompts"):
            yield (
                f"background={rule} with threshold={threshold}; threshold, probability, constant "
                "and affinity need a number, and the other rules take none"
            )
        least = -1 if rule == "threshold" and scores == "cosine" else 0
        if threshold is not None and not least <= threshold <= 1:
            kind = "a cosine is in [-1, 1]" if least else "it is in [0, 1]"
            yield f"threshold is {threshold}, {kind}"
        needed = {"affinity": "affinity", "probability": "cosine"}.get(rule, scores)
        if scores != needed:
            yield f"background={rule} does not go with scores={scores}"
        if self.area_threshold is not None and rule != "probability":
            yield f"area_threshold={self.area_threshold} needs background=probability, not {rule}"
        if self.top_classes is not None and (scores != "affinity" or self.top_classes < 1):
            yield f"top_classes={self.top_classes} needs scores=affinity, and at least 1"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A protocol and its exceptions, each a mapping of the protocol's fields.

    Attributes:
        protocol: the fields without exceptions.
        label_sets: changes for a label set.
        unrefined: changes under ``refinement=none``, for a protocol that refines.
        fixed: changes under ``defects=fixed``, which also correct the vocabulary.
        sized_by_tower: True if ``input_size`` is by default the tower's evaluation size.
    """

    protocol: TopDownProtocol
    label_sets: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    unrefined: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sized_by_tower: bool = False

    def build(
        self,
        *,
        label_set: str | None = None,
        has_background: bool = True,
        tower_size: int | None = None,
        **changes: Any,
    ) -> TopDownProtocol:
        """Return the protocol with its exceptions and changed fields; None keeps a field.

        ``background=prompts`` drops the threshold of a protocol that has one.

        Args:
            label_set: the label set whose exceptions hold; None for none.
            has_background: True if the label set has a background class.
            tower_size: pixels; the size of a protocol that fixes none of its own.
            changes: fields.

        Raises:
            ValueError: fields that contradict each other, or a threshold for a label set without a
                background class.
        """
        given = without_none(changes)
        dense = {key: given.pop(key) for key in ("reading", "positions", "proxy") if key in given}
        fields = dict(self.label_sets.get(label_set or "", {}))
        if self.sized_by_tower and tower_size is not None:
            fields["input_size"] = tower_size
        if given.get("refinement") == "none":
            fields |= self.unrefined
        if given.get("defects") == "fixed":
            fields |= self.fixed
        needless = not has_background and self.protocol.threshold is not None
        if needless or given.get("background") == "prompts":
            fields |= {"background": "prompts", "threshold": None, "area_threshold": None}
        if needless and "background" not in given and "threshold" in given:
            raise ValueError(
                f"protocol {self.protocol.name}: threshold={given['threshold']} is for a "
                f"background class, {label_set or 'this label set'} has none"
            )
        return dataclasses.replace(self.protocol, **{**fields, **given}).read_by(**dense)


def needs_proxy(reading: str) -> bool:
    """Return True if a reading takes the features of a second model."""
    return reading in READINGS and READINGS.row(reading).needs_proxy


def keeps_block(reading: str) -> bool:
    """Return True if a reading takes the last block as it is."""
    return reading in READINGS and READINGS.row(reading).keeps_block
