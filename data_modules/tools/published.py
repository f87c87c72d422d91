"""Downloads of published data sets, and how they are unpacked.

Files come by pooch, data sets of the Hugging Face hub by its client, which checks and resumes its
files itself.  No file has its final name before it is whole, and an archive is kept until it is
unpacked, so the same command goes on after a stop.
"""

import io
import os
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gestalt.support.faults import StoppedRun
from gestalt.support.files import Strange, TooLarge, check_regular, locked, partial_folder

DOWNLOADS = "downloads"
"""Folder below the root for files that are not unpacked yet."""

MAX_DOWNLOADED, MAX_UNPACKED = 1.1, 10
"""Maximum bytes of a download and of an archive's content, as multiples of the published size.  A
published size can be rounded, and the JSON files of COCO unpack to several times theirs.
"""

UNPUBLISHED_SIZE = 4 * 10**9
"""Bytes that take the place of a size that is not published."""


class _BoundedWriter(io.BufferedWriter):
    """A new file that refuses to become larger than ``most`` bytes."""

    def __init__(self, path: str, most: int) -> None:
        super().__init__(io.FileIO(path, "w"))
        self._most = most

    def write(self, content: Any) -> int:
        """Write some bytes.

        Raises:
            TooLarge: the file would become larger than the bound.
        """
        if self.tell() + len(content) > self._most:
            raise TooLarge(f"it sends more than {self._most:,} bytes, which this file cannot have")
        return super().write(content)


def _reason(error: Exception, place: Path) -> str:
    """Return what a library says of its error, in one line; raise the system's own errors, with a
    place if they name none.
    """
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, OSError) and error.errno:
        error.filename = error.filename or str(place)
        raise error
    return " ".join(str(error).split())[:400]


def unpack(archive: Path, folder: Path, most: int) -> int:
    """Unpack a zip or tar into a folder; of PASCAL Context's JSON file, its masks and lists.

    Args:
        archive: the file.
        folder: where its content is written.
        most: maximum bytes that a zip or tar may unpack to.

    Returns:
        The bytes that a zip or tar has unpacked to.

    Raises:
        TooLarge: it would unpack to more.
        ValueError: it names a file outside of the folder.
    """
    unpacked = 0

    def add(size: int) -> None:
        nonlocal unpacked
        unpacked += size
        if unpacked > most:
            raise TooLarge(f"it unpacks to more than {most:,} bytes, which this set cannot have")

    def checked(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        add(member.size)
        return tarfile.data_filter(member, path)

    if archive.suffix == ".json":
        from gestalt.data_modules.labels.context_masks import convert

        convert(archive, folder)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                add(entry.file_size)  # zipfile reads no more than this size
                if ".." in Path(entry.filename).parts:  # extractall would write it elsewhere
                    raise ValueError(f"{entry.filename!r} would be outside of its folder")
            zipped.extractall(folder)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter=checked)
    return unpacked


def merge(source: Path, target: Path) -> None:
    """Move a file or folder into place; a folder that is there already gets the entries."""
    if source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            merge(entry, target / entry.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


@dataclass(frozen=True)
class Published:
    """A set that can be downloaded.

    Attributes:
        folder: folder below the root for its files.
        holds: pattern below ``folder``.
        least: smallest number of such files.
    """

    folder: str
    holds: str
    least: int

    def missing(self, root: Path) -> str:
        """Return the files that have to be there; empty if they are."""
        place = root / self.folder
        few = len(list(place.glob(self.holds))) < self.least
        return f"{self.least:,} files {place / self.holds}" if few else ""


@dataclass(frozen=True)
class File(Published):
    """A file on the web, from which the set is unpacked.

    Attributes:
        address: where it is.
        checksum: ``algorithm:digits``; None if none is published.
        size: number of bytes; 0 if none is published.
        mirrors: other addresses of the same bytes, in order.
        use: words of a command that reads the set, with ``{root}`` for the root.
    """

    address: str
    checksum: str | None
    size: int
    mirrors: tuple[str, ...] = ()
    use: str = "benchmark_root={root}"

    def __str__(self) -> str:
        """Return the address, and what is published of the file."""
        return (
            f"{self.address}, {self.size or 'unknown number of'} bytes, "
            f"{self.checksum or 'no published checksum'}"
        )

    def archive(self, root: Path) -> Path:
        """Return the path of the downloaded file."""
        return root / DOWNLOADS / self.address.rpartition("/")[2]

    def missing(self, root: Path) -> str:
        """Return the files that have to be there; empty if they are, and it is unpacked."""
        archive = self.archive(root)
        return f"the files of {archive}" if archive.exists() else super().missing(root)

    def need(self, root: Path) -> int:
        """Return the bytes of the file and what it holds, as far as they are known; without those
        of the file if it is there.
        """
        return self.size * (2 - self.archive(root).exists())

    def get(self, root: Path) -> None:
        """Download and unpack the file, unless another process has done so meanwhile.

        Raises:
            StoppedRun: it cannot be downloaded or unpacked.
        """
        archive = self.archive(root)
        with locked(archive, waiting=f"waiting for another process that downloads {archive}"):
            if self.missing(root):
                self._get(root, archive)

    def _get(self, root: Path, archive: Path) -> None:
        own = archive.exists()
        with partial_folder(archive) as partial:
            self._download(archive, partial)
            print(f"unpacking {archive}", flush=True)
            left = MAX_UNPACKED * (self.size or UNPUBLISHED_SIZE)
            try:
                left -= unpack(archive, partial, left)
                for inner in sorted(partial.rglob("*.zip")):  # COCO's panoptic maps
                    left -= unpack(inner, inner.parent, left)
                    inner.unlink()
            except Exception as error:  # whatever the content lets a library raise
                reason = _reason(error, archive)
                mend = "run the command again"
                if own:  # it may be the user's
                    mend = "move it away, and it is downloaded"
                else:
                    archive.unlink()
                raise StoppedRun(
                    f"{archive}: no whole archive, a web page, or too large; {mend}: {reason}"
                ) from error
            merge(partial, root / self.folder)
        archive.unlink()

    def _download(self, archive: Path, folder: Path) -> None:
        """Download the file by way of a temporary folder, unless it is there and right."""
        import pooch

        if archive.exists():
            try:
                check_regular(archive)
                if not pooch.hashes.hash_matches(str(archive), self.checksum):
                    raise Strange(f"its checksum is not {self.checksum}")
            except Strange as error:
                raise StoppedRun(
                    f"{archive}: {error}; move it away, and it is downloaded"
                ) from error
            return

        def fetch(address: str, path: str, _: Any) -> None:
            most = int(MAX_DOWNLOADED * (self.size or UNPUBLISHED_SIZE))
            with _BoundedWriter(path, most) as file:
                pooch.HTTPDownloader(progressbar=sys.stderr.isatty())(address, file, None)

        pooch.get_logger().setLevel("WARNING")
        faults = {}
        for address in (self.address, *self.mirrors) * 2:
            print(f"downloading {address}", flush=True)
            if self.checksum is None:
                print("warning: no checksum is published, so this download is not verified")
            try:
                path = pooch.retrieve(address, self.checksum, "file", folder, downloader=fetch)
                os.replace(path, archive)
                return
            except Exception as error:  # pooch's, and those of the libraries below it
                faults[address] = f"{address}: {_reason(error, archive)}"
        raise StoppedRun(
            f"{archive}: not downloaded; run the command again, or put the file there: "
            f"{'; '.join(faults.values())}"
        )


@dataclass(frozen=True)
class HubFiles(Published):
    """Files of a data set on the Hugging Face hub, by the names that they have there.

    Attributes:
        repository: ``owner/name``.
        use: words of a command that reads the set, or joins it, with ``{root}`` for the root and
            ``{place}`` for its files.
    """

    repository: str
    use: str

    def __str__(self) -> str:
        """Return the address."""
        return f"https://huggingface.co/datasets/{self.repository}"

    def need(self, root: Path) -> int:
        """Ask the hub for the bytes that are left to download."""
        files = self.get(root, dry_run=True)
        return sum(file.file_size for file in files if file.will_download)

    def get(self, root: Path, **choices: Any) -> Any:
        """Download the files; ``choices`` are arguments of ``snapshot_download``.

        Raises:
            StoppedRun: the hub does not give them.
        """
        import huggingface_hub

        folder = root / self.folder
        try:
            return huggingface_hub.snapshot_download(
                self.repository,
                repo_type="dataset",
                allow_patterns=self.holds,
                local_dir=folder,
                **choices,
            )
        except Exception as error:  # the hub's client also raises its HTTP library's
            refusal = f"{self}: not downloaded; run the command again: {_reason(error, folder)}"
            raise StoppedRun(refusal) from error
