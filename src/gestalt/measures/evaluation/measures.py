"""The table of measures that a benchmark can be scored by.

To add one: a callback that is built from a ``Context``, and a row here.  A measure with settings
of its own has a table of protocols too.
"""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from gestalt.support.plugins import Registry


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
        key: the key of ``evaluation`` in a config that chooses another protocol; empty
            without one, as a package's measure is.
        headline: the metrics that ``compare``, ``report`` and ``ablate`` show.
        names: True if it needs text, False for a measure of image features alone.
    """

    description: str
    builder: str
    table: str
    default: str
    key: str = ""
    headline: tuple[str, ...]
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


MEASURES: Registry[Measure] = Registry(
    "measures",
    {
        "segmentation": Measure(
            description="Zero-shot semantic segmentation: top-down grouping, mIoU",
            builder="gestalt.measures.segmentation.callback:Segmentation",
            table="gestalt.measures.segmentation.presets:PRESETS",
            default="whole_square",
            key="protocol",
            headline=("miou",),
        ),
        "grouping": Measure(
            description="Bottom-up grouping: Jaccard similarity of groups and objects",
            builder="gestalt.measures.grouping.callback:build",
            table="gestalt.measures.grouping.protocol:PROTOCOLS",
            default="pca_square",
            key="grouping_protocol",
            headline=("jaccard",),
            names=False,
        ),
        "classification": Measure(
            description="Zero-shot classification: one class per image",
            builder="gestalt.measures.classification.callback:ClassificationScorer",
            table="gestalt.measures.classification.protocol:PROTOCOLS",
            default="openai_80",
            key="classification_protocol",
            headline=("accuracy", "top_5"),
        ),
        "robustness": Measure(
            description="Robustness to misleading backgrounds: accuracy of each group",
            builder="gestalt.measures.robustness.callback:Robustness",
            table="gestalt.measures.robustness.protocol:PROTOCOLS",
            default="map_majority",
            key="robustness_protocol",
            headline=("accuracy", "adjusted_accuracy", "worst_group"),
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
        ),
        "retrieval": Measure(
            description="Image-text retrieval: recall at k",
            builder="gestalt.measures.retrieval.callback:Retrieval",
            table="gestalt.measures.retrieval.protocol:PROTOCOLS",
            default="retrieval_square",
            key="retrieval_protocol",
            headline=("recall_at_10",),
        ),
    },
)
"""Measures by name; installed packages may add some, whose module must not import torch."""
