"""The table of measures that a benchmark can be scored by.

To add one: a file with ``build(context)``, and a row of ``measures.yaml``.  A measure with settings
of its own has a table of protocols too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

from gestalt.support.table_file import table_beside


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One row of ``MEASURES``.

    Attributes:
        description: one line, for ``gestalt list``.
        builder: ``module:function``, imported when used, which builds the measure's callback from a
            ``Context``.
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
    def protocols(self) -> Mapping[str, Any]:
        """The protocols by name: an ``ImageProtocol``, or for segmentation a ``Preset``."""
        return resolve_name(self.table)

    def build(self, context: Any) -> Any:
        """Build the measure's callback, a ``Measured``."""
        return resolve_name(self.builder)(context)


MEASURES = {name: Measure(**row) for name, row in table_beside(__file__).items()}
"""Measures by name."""
