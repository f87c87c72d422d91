"""Refuse a damaged or truncated file of weights, or another kind of file.  Nothing heavy is imported."""

import json
import zipfile
from pathlib import Path
from typing import BinaryIO

CUT, AGAIN = "damaged, truncated, or not a file of weights", "copy or download it again"
LONGEST_HEADER = 100_000_000  # bytes; the limit of safetensors' own reader
PICKLE = b"\x80"
"""First byte of a state dict that torch wrote before 1.6, and not as a zip."""


def check_whole(path: Path) -> None:
    """Check that a file can be one of weights: a zip whose parts match their checksums, a pickle, or safetensors with all of their bytes.

    Raises:
        ValueError: it cannot; one line with the file, the reason and the fix.
    """
    try:
        with path.open("rb") as file:
            whole = _whole_safetensors(file) if path.suffix == ".safetensors" else _whole_archive(file)
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a state dict: {error.strerror}") from error
    if not whole:
        raise ValueError(f"{path} cannot be read as a state dict: {CUT}; {AGAIN}")


def check_checkpoint(checkpoint: Path) -> None:
    """Check that the checkpoint of a run is whole; as ``check_whole``, and the message names the checkpoints beside it."""
    try:
        check_whole(checkpoint)
    except ValueError as error:
        raise ValueError(f"{error}{beside(checkpoint)}") from error


def beside(checkpoint: Path) -> str:
    """Return the end of a message that names the other checkpoints of the folder; empty if there is none."""
    siblings = [str(path) for path in sorted(checkpoint.parent.glob("*.ckpt")) if path != checkpoint]
    return f"; in the same folder: {', '.join(siblings)}" if siblings else ""


def _whole_archive(file: BinaryIO) -> bool:
    """True for a zip whose parts match their checksums, which torch does not compare, and for a pickle, which has none."""
    head = file.read(2)
    if head != b"PK":
        return head.startswith(PICKLE)
    try:
        archive = zipfile.ZipFile(file)
        return archive.testzip() is None or not _has_checksums(archive)
    except Exception:  # zipfile raises what a wrong byte happens to cause
        return False


def _has_checksums(archive: zipfile.ZipFile) -> bool:
    """False for a file that torch wrote without them: other values stand in their place, also for the two bytes of its version."""
    version = next((name for name in archive.namelist() if name.endswith("/version")), None)
    try:
        return version is None or bool(archive.read(version))
    except zipfile.BadZipFile:
        return False


def _whole_safetensors(file: BinaryIO) -> bool:
    """True if the file has as many bytes as its header states."""
    length, size = int.from_bytes(file.read(8), "little"), file.seek(0, 2)
    if not 0 < length <= min(LONGEST_HEADER, size - 8):
        return False
    file.seek(8)
    try:
        header = json.loads(file.read(length))
        ends = [row["data_offsets"][1] for name, row in header.items() if name != "__metadata__"]
        return bool(8 + length + max(ends, default=0) == size)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return False
