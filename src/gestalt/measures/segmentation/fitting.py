"""The protocol that a user's choices give pictures, and protocols fitted to a model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import TypedDict, Unpack

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.benchmarks import BENCHMARKS, present
from gestalt.measures.evaluation.protocols import TEMPLATES
from gestalt.measures.keys import Evaluation
from gestalt.measures.segmentation.configured import segmentation_protocol
from gestalt.support.arguments import check_type, check_words
from gestalt.support.names import nearest

OpenVision = Callable[[str], DenseModel]
"""Opens a vision model by its name, such as ``timm:NAME``."""

DEBIAS = "debias: there are no unlabelled images in addition to the picture"
PRIOR = "prior: the threshold takes its place"
CRF = "refinement=crf: it needs a probability of each class, not a threshold"


class MapChoices(TypedDict, total=False):
    """A user's choices for maps of similarity; what is left out, or None, follows the model's
    configuration.

    Attributes:
        protocol: a name, or a protocol as it is.
        reading: how the tower's last block is computed.
        templates: sentences with ``{}`` for the label, or the name of a published set.
    """

    protocol: str | TopDownProtocol | None
    reading: str | None
    templates: str | Sequence[str] | None


class Choices(MapChoices, total=False):
    """A user's choices for the labels of a picture's pixels.

    Attributes:
        threshold: the least score of a labelled pixel; a cosine in most protocols.
    """

    threshold: float | None


def picture_protocol(
    evaluation: Evaluation,
    model: DenseModel,
    *,
    size: int,
    open_vision: OpenVision,
    **choices: Unpack[Choices],
) -> TopDownProtocol:
    """Return the protocol for segmenting pictures by any labels, fitted to the model.

    Args:
        evaluation: of the model's configuration.
        model: to be read; it is given the proxy model that the reading takes.
        size: side of the model's images in pixels, for a protocol that fixes none.
        open_vision: opens the proxy model.
        choices: take precedence over the configuration's.

    Raises:
        ValueError: choices that are unknown or contradict each other, a protocol that does not see
            the whole picture, or a reading that the tower has no part for.
    """
    for key in choices:
        if key not in Choices.__annotations__:
            raise ValueError(
                f"{key}: no such choice for a picture; {nearest(key, Choices.__annotations__)}"
            )
    reading, named = choices.get("reading"), choices.get("protocol")
    templates, threshold = choices.get("templates"), choices.get("threshold")
    check_type("protocol", named, str | TopDownProtocol | None, "the name of a protocol")
    check_type("reading", reading, str | None, "the name of a reading")
    check_type("threshold", threshold, Real | None, "a number, such as 0.2")
    requested = not {evaluation.reading, evaluation.positions, reading} <= {None}
    if isinstance(named, TopDownProtocol):
        protocol = named.read_by(reading=reading)
    else:
        protocol = segmentation_protocol(
            replace(evaluation, protocol=named or evaluation.protocol),
            BENCHMARKS[next(iter(present(evaluation.benchmarks)), "scenes")],
            size=size,
            has_background=False,
        ).read_by(reading=reading)
    if protocol.debias != "none":  # a picture comes without others to correct the scores by
        protocol = replace(protocol, debias="none", left_out=(DEBIAS, *protocol.left_out))
    if protocol.resize == "centre_crop":
        raise ValueError(
            f"protocol {protocol.name}: it sees only the middle of a picture; choose another, such "
            "as whole_short_side"
        )
    if templates is not None:
        protocol = replace(protocol, templates=_templates(templates))
    if threshold is not None:
        # a threshold is another rule for the background than a prior
        left_out = protocol.left_out
        if protocol.prior:
            left_out = (PRIOR, *left_out)
        refinement = protocol.refinement
        if refinement == "crf":
            refinement, left_out = "none", (CRF, *left_out)
        protocol = replace(
            protocol,
            background="threshold",
            threshold=threshold,
            area_threshold=None,
            prior=0.0,
            refinement=refinement,
            left_out=left_out,
        )
    return fit_protocol(protocol, model, requested, open_vision)


def _templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Return the sentences of a published set, one sentence, or those given."""
    if not isinstance(templates, str):
        return tuple(check_words("templates", templates, "['a photo of a {}']"))
    if "{}" in templates:
        return (templates,)
    if templates not in TEMPLATES:
        raise ValueError(
            f"templates={templates!r}: neither a sentence with {{}} for the label nor a set; "
            f"{nearest(templates, TEMPLATES)}"
        )
    return TEMPLATES[templates]


def fit_protocol(
    protocol: TopDownProtocol, model: DenseModel, requested: bool, open_vision: OpenVision | None
) -> TopDownProtocol:
    """Return the protocol fitted to a model's patches and last block, and attach the proxy model
    that its reading takes.

    A reading that the tower has no block for becomes the plain one, and ``left_out`` of the
    protocol then says so.

    Args:
        protocol: as configured.
        model: to be scored.
        requested: True if the configuration names the reading or the positions, not only the
            protocol.
        open_vision: opens the proxy model; None where no protocol takes one.

    Raises:
        ValueError: the reading or the positions were requested, and the tower has no such part; or
            the proxy model cannot be opened; or an ``image_weight``, where texts have one vector
            for images and another for locations.
    """
    protocol = protocol.fitted_to(model.patch_stride)
    if protocol.image_weight != 0 and model.cuts_text:
        raise ValueError(
            f"image_weight={protocol.image_weight}: the model compares patches with one half of a "
            "text's vector, and images with all of it; choose evaluation.image_weight=0"
        )
    if (protocol.reading, protocol.positions) == ("plain", "timm"):
        return protocol
    try:
        model.check_reading(protocol.reading)
        if protocol.positions != "timm":
            with model.resize_positions(protocol.positions, grid=(1, 1)):
                pass
    except ValueError:
        if requested:
            raise
        return protocol.plainly()
    # none yet, or that of another protocol
    if protocol.proxy and model.proxy_name != protocol.proxy:
        assert open_vision is not None
        model.attach_proxy(open_vision(protocol.proxy), name=protocol.proxy)
    return protocol
