"""Label maps that another system predicted."""

from dataclasses import dataclass
from typing import Any, Literal

from gestalt.evaluation.protocols.image import ImageProtocol

MapSize = Literal["native", "nearest"]
Unnamed = Literal["wrong", "group"]


@dataclass(frozen=True, kw_only=True)
class PredictionsProtocol(ImageProtocol):
    """Label maps as they lie in files.

    The steps from an image to its map are the other system's, and are not known here; its maker may state them.  No field of
    ``ImageProtocol`` but name and version takes effect.
    """

    name: str = "predictions"
    map_size: MapSize = "native"  # a map of another size than its truth is refused, or each pixel takes the nearest, by centres
    unnamed: Unnamed = "wrong"  # a pixel without a class counts in the union of its true class; of groups, every value is one

    def fields(self) -> dict[str, Any]:
        """Return name, version and the fields of this class."""
        return {key: value for key, value in super().fields().items() if key in ("name", "version", "map_size", "unnamed")}
