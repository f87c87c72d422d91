"""Unlabelled images, whole, for statistics of scores: those of a folder, or of training data.  H W
pixels.
"""

from pathlib import Path

from torch import Tensor

from gestalt.data_modules.corpora.bad_samples import BadSample
from gestalt.data_modules.pairs import Source
from gestalt.data_modules.pixels.formats import endings
from gestalt.data_modules.pixels.photographs import (
    as_rgb,
    decoding,
    open_checked,
    open_rgb,
    to_tensor,
)


class FolderImages:
    """The pictures of a folder and its subfolders, in order of their paths.

    Raises:
        ValueError: no such folder, or no pictures in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"{folder}: folder not found; choose a folder of pictures")
        self._paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings())
        if not self._paths:
            raise ValueError(
                f"{folder}: no pictures in this folder; names of pictures end in "
                f"{', '.join(endings())}"
            )
        self.source = str(folder)

    def __len__(self) -> int:
        return len(self._paths)

    def picture(self, index: int) -> Tensor | None:
        """Return a picture, (3, H, W) uint8; None if it cannot be read."""
        try:
            return to_tensor(open_rgb(self._paths[index]))
        except ValueError:
            return None


class SourceImages:
    """The pictures of training pairs, not cropped; pictures that the source draws are those of the
    first epoch.

    Raises:
        ValueError: a source whose pairs can only be read in sequence.
    """

    def __init__(self, source: Source, *, name: str) -> None:
        if source.in_sequence:
            raise ValueError(
                f"data.source={name} can only be read in sequence; choose a folder of pictures by "
                "evaluation.unlabelled=DIR"
            )
        self._source = source
        self.source = f"training pairs of {name}, digest {source.digest()}"

    def __len__(self) -> int:
        return len(self._source)

    def picture(self, index: int) -> Tensor | None:
        """Return a picture, (3, H, W) uint8; None if it cannot be read."""
        try:
            stored = self._source.read(index)
            if stored is None:
                return self._source.pair(index, 0)[0]
            with decoding():
                return to_tensor(as_rgb(open_checked(stored.image)))
        except BadSample:
            return None
