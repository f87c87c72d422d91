"""Small tars of painted squares, clean and with planted bad samples."""

import io
import json
import tarfile
from pathlib import Path

from PIL import Image

from tests.data_modules.files import encoded


def jpeg(number: int, *, side: int = 24) -> bytes:
    """A square whose colour encodes its number."""
    colour = (number * 37 % 256, number * 91 % 256, number * 151 % 256)
    content: bytes = encoded(Image.new("RGB", (side, side), colour), "JPEG", quality=95)
    return content


def write_tar(
    path: Path, members: list[tuple[str, bytes]], *, format: int = tarfile.PAX_FORMAT
) -> Path:
    """Members in this order."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def members(numbers: range) -> list[tuple[str, bytes]]:
    """Samples as img2dataset writes them: image, caption and record under one key."""
    samples = []
    for number in numbers:
        caption = f"picture {number}"
        record = {"caption": caption, "alt": [f"first {number}", f"second {number}"]}
        record |= {"url": f"https://x.org/{number}.jpg", "uid": f"{number:032x}"}
        samples += [
            (f"{number:05d}.jpg", jpeg(number)),
            (f"{number:05d}.txt", caption.encode()),
            (f"{number:05d}.json", json.dumps(record).encode()),
        ]
    return samples


def write_shards(folder: Path, lengths: list[int]) -> Path:
    """Shards ``s-0000.tar`` and so on of so many samples each, numbered through."""
    folder.mkdir(exist_ok=True)
    start = 0
    for shard, length in enumerate(lengths):
        write_tar(folder / f"s-{shard:04d}.tar", members(range(start, start + length)))
        start += length
    return folder


def header_block(name: str, size: int | bytes, *, kind: bytes = b"0") -> bytes:
    """A header whose size field holds these bytes, or a number in octal digits."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    head = bytearray(
        name.encode()[:100].ljust(100, b"\0")
        + b"0000644\0" * 3
        + field[:12].ljust(12, b"\0")
        + b"0" * 11
        + b"\0"
        + b" " * 8
    )
    head += kind + bytes(100) + b"ustar\x0000" + bytes(512 - 265)
    head[148:156] = b"%06o\0 " % sum(head[:512])
    return bytes(head[:512])
