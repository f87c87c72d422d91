"""The table of measures that a benchmark can be scored by.

To add one: a folder ``measures/<name>/`` whose ``callback.py`` has ``build(context)``, and a row here.  A measure with settings of its own
has a protocol class in ``protocols/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gestalt.evaluation.protocols import (
    CLASSIFICATION_PROTOCOLS,
    GROUPING_PROTOCOLS,
    MATCHING_PROTOCOLS,
    PROTOCOLS,
    ROBUSTNESS_PROTOCOLS,
    ImageProtocol,
)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One row of ``MEASURES``.

    Attributes:
        protocols: those that it can be scored under, by name.
        default: the protocol of a benchmark that names no other.
        key: the key of ``evaluation`` in a config that chooses another protocol; None if there is no choice.
        headline: the metrics drawn over image sizes; a name that ends in a slash selects all that begin with it.
        charts: TensorBoard's charts: title to a metric, or to a metric with the baselines below and above it, drawn as a band.
        locates: True if it scores locations, False if it scores whole images.
        names: True if it needs text, False for a measure of image features alone.
    """

    protocols: Mapping[str, ImageProtocol]
    default: str
    key: str | None = None
    headline: tuple[str, ...] = ()
    charts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    locates: bool = True
    names: bool = True


MEASURES: dict[str, Measure] = {
    "segmentation": Measure(
        protocols=PROTOCOLS,
        default="whole_square",
        key="protocol",
        headline=("miou",),
        charts={"mIoU": ("miou",), "mIoU, from shuffled text to patch oracle": ("miou", "miou_shuffled_text", "miou_patch_oracle")},
    ),
    "grouping": Measure(
        protocols=GROUPING_PROTOCOLS,
        default="pca_square",
        key="grouping_protocol",
        headline=("jaccard",),
        names=False,
        charts={"Jaccard": ("jaccard",), "Jaccard, from blocks to patch oracle": ("jaccard", "jaccard_blocks", "jaccard_patch_oracle")},
    ),
    "classification": Measure(
        protocols=CLASSIFICATION_PROTOCOLS,
        default="openai_80",
        key="classification_protocol",
        headline=("accuracy", "top_5"),
        charts={"accuracy": ("accuracy",), "accuracy among the best five": ("top_5",)},
        locates=False,
    ),
    "robustness": Measure(
        protocols=ROBUSTNESS_PROTOCOLS,
        default="map_majority",
        key="robustness_protocol",
        headline=("accuracy", "adjusted_accuracy", "worst_group", "mean_group", "accuracy/", "delta/"),
        charts={"accuracy": ("accuracy",), "adjusted accuracy": ("adjusted_accuracy",), "worst group": ("worst_group",)},
        locates=False,
    ),
    "matching": Measure(
        protocols=MATCHING_PROTOCOLS,
        default="clusters_square",
        key="matching_protocol",
        headline=("matched_miou",),
        names=False,
        charts={"mIoU of matched clusters": ("matched_miou",)},
    ),
    "retrieval": Measure(
        protocols={"retrieval_square": ImageProtocol(name="retrieval_square", resize="square")},
        default="retrieval_square",
        headline=("recall_at_10",),
        charts={"recall at 1": ("recall_at_1",), "recall at 10": ("recall_at_10",)},
        locates=False,
    ),
}
"""Measures by the name of their folder."""

PROTOCOL_KEYS: dict[str, Mapping[str, ImageProtocol]] = {row.key: row.protocols for row in MEASURES.values() if row.key is not None}
"""The protocols that each key of ``evaluation`` may name."""
