"""The table of measures that a benchmark can be scored by.

To add one: a callback that is built from a ``Context``, and a row here.  A measure with settings
of its own has a table of protocols too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One row of ``MEASURES``.

    Attributes:
        description: one line, for ``gestalt list``.
        builder: ``module:name``, imported when used, a class or a function that makes the measure's
            callback of a ``Context``.
        table: ``module:object``, the protocols that it can be scored under, by name; the module
            must not import torch.
        default: the protocol of a benchmark that names no other.
        key: the key of ``evaluation`` in a config that chooses another protocol; None if there is
            no choice.
        headline: the metrics that ``compare``, ``report`` and ``ablate`` show.
        charts: TensorBoard's charts: title to a metric, or to a metric with the baselines below and
            above it, drawn as a band.
        locates: True if it scores locations, False if it scores whole images.
        names: True if it needs text, False for a measure of image features alone.
    """

    description: str
    builder: str
    table: str
    default: str
    key: str | None = None
    headline: tuple[str, ...] = ()
    charts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    locates: bool = True
    names: bool = True

    @property
    def protocols(self) -> Any:
        """A mapping of the protocols by name: an ``ImageProtocol``, or for segmentation a
        ``Preset``.
        """
        return resolve_name(self.table)

    def build(self, context: Any) -> Any:
        """Build the measure's callback, a ``RecordedCallback``."""
        return resolve_name(self.builder)(context)


MEASURES = {
    "segmentation": Measure(
        description="Zero-shot semantic segmentation: top-down grouping, mIoU",
        builder="gestalt.measures.segmentation.callback:Segmentation",
        table="gestalt.measures.segmentation.presets:PRESETS",
        default="whole_square",
        key="protocol",
        headline=("miou",),
        charts={
            "mIoU": ("miou",),
            "mIoU, from shuffled text to patch oracle": (
                "miou",
                "miou_shuffled_text",
                "miou_patch_oracle",
            ),
        },
    ),
    "grouping": Measure(
        description="Bottom-up grouping: Jaccard similarity of groups and objects",
        builder="gestalt.measures.grouping.callback:build",
        table="gestalt.measures.grouping.protocol:PROTOCOLS",
        default="pca_square",
        key="grouping_protocol",
        headline=("jaccard",),
        names=False,
        charts={
            "Jaccard": ("jaccard",),
            "Jaccard, from blocks to patch oracle": (
                "jaccard",
                "jaccard_blocks",
                "jaccard_patch_oracle",
            ),
        },
    ),
    "classification": Measure(
        description="Zero-shot classification: one class per image",
        builder="gestalt.measures.classification.callback:ClassificationScorer",
        table="gestalt.measures.classification.protocol:PROTOCOLS",
        default="openai_80",
        key="classification_protocol",
        headline=("accuracy", "top_5"),
        charts={"accuracy": ("accuracy",), "accuracy among the best five": ("top_5",)},
        locates=False,
    ),
    "robustness": Measure(
        description="Robustness to misleading backgrounds: accuracy of each group",
        builder="gestalt.measures.robustness.callback:Robustness",
        table="gestalt.measures.robustness.protocol:PROTOCOLS",
        default="map_majority",
        key="robustness_protocol",
        headline=("accuracy", "adjusted_accuracy", "worst_group"),
        charts={
            "accuracy": ("accuracy",),
            "adjusted accuracy": ("adjusted_accuracy",),
            "worst group": ("worst_group",),
        },
        locates=False,
    ),
    "matching": Measure(
        description=(
            "Unsupervised segmentation: clusters matched to classes by the Hungarian method"
        ),
        builder="gestalt.measures.matching.callback:Matching",
        table="gestalt.measures.matching.protocol:PROTOCOLS",
        default="clusters_square",
        key="matching_protocol",
        headline=("matched_miou",),
        names=False,
        charts={"mIoU of matched clusters": ("matched_miou",)},
    ),
    "retrieval": Measure(
        description="Image-text retrieval: recall at k",
        builder="gestalt.measures.retrieval.callback:Retrieval",
        table="gestalt.measures.retrieval.protocol:PROTOCOLS",
        default="retrieval_square",
        key="retrieval_protocol",
        headline=("recall_at_10",),
        charts={"recall at 1": ("recall_at_1",), "recall at 10": ("recall_at_10",)},
        locates=False,
    ),
}
"""Measures by name."""


def charts_of(benchmarks: Mapping[str, Iterable[str]]) -> dict[str, dict[str, list[str]]]:
    """Return TensorBoard's charts of the scores of benchmarks, whose measures are given by name:
    "where" or "what" -> title -> keys of metrics.
    """
    charts: dict[str, dict[str, list[str]]] = {"where": {}, "what": {}}
    for name, measures in benchmarks.items():
        for measure in (MEASURES[measure] for measure in measures):
            charts["where" if measure.locates else "what"] |= {
                f"{name}: {title}": [f"{name}/{metric}" for metric in metrics]
                for title, metrics in measure.charts.items()
            }
    return charts
