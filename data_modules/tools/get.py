"""Download published data sets and unpack them into the layouts that training and the benchmarks
read.

Files come by pooch, data sets of the Hugging Face hub by its client, which checks and resumes its
files itself.  No file has its final name before it is whole, and an archive is kept until it is
unpacked, so the same command goes on after a stop.

Addresses, sizes, checksums and numbers of files are published ones: torchvision
datasets/voc.py (VOC's host, MD5), tensorflow_datasets url_checksums (SHA-256 and sizes), d2l and
gluon (mirrors), zhanghang1989/PyTorch-Encoding (Context), nightrome/cocostuff, open_clip's README
(shards of CC12M and CC3M), and the cards on the hub.
"""

import os
import shlex
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gestalt.support.faults import StoppedRun
from gestalt.support.files import free_bytes, partial_folder

DOWNLOADS = "downloads"
"""Folder below the root for files that are not unpacked yet."""


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


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar into a folder; of PASCAL Context's JSON file, its masks and lists."""
    if archive.suffix == ".json":
        from gestalt.data_modules.labels.context_masks import convert

        convert(archive, folder)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for name in zipped.namelist():
                if ".." in Path(name).parts:  # extractall would write it elsewhere
                    raise ValueError(f"{name!r} would be outside of its folder")
            zipped.extractall(folder)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


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
        """Download and unpack the file.

        Raises:
            StoppedRun: it cannot be downloaded or unpacked.
        """
        archive = self.archive(root)
        own = archive.exists()
        with partial_folder(archive) as partial:
            self._download(archive, partial)
            print(f"unpacking {archive}", flush=True)
            try:
                unpack(archive, partial)
                for inner in sorted(partial.rglob("*.zip")):  # COCO's panoptic maps
                    unpack(inner, inner.parent)
                    inner.unlink()
            except Exception as error:  # whatever the content lets a library raise
                reason = _reason(error, archive)
                mend = "run the command again"
                if own:  # it may be the user's
                    mend = "move it away, and it is downloaded"
                else:
                    archive.unlink()
                raise StoppedRun(
                    f"{archive}: no whole archive, or a web page; {mend}: {reason}"
                ) from error
            merge(partial, root / self.folder)
        archive.unlink()

    def _download(self, archive: Path, folder: Path) -> None:
        """Download the file by way of a temporary folder, unless it is there and right."""
        import pooch

        if archive.exists():
            if not pooch.hashes.hash_matches(str(archive), self.checksum):
                raise StoppedRun(
                    f"{archive}: its checksum is not {self.checksum}; move it away, and it is "
                    "downloaded"
                )
            return
        pooch.get_logger().setLevel("WARNING")
        faults = {}
        for address in (self.address, *self.mirrors) * 2:
            print(f"downloading {address}", flush=True)
            try:
                path = pooch.retrieve(
                    address, self.checksum, "file", folder, progressbar=sys.stderr.isatty()
                )
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


VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
VOC_2012 = "VOCtrainval_11-May-2012.tar"
COCO = "http://images.cocodataset.org"
LONG = "3long_3short_1raw_captions_url.csv"
_dreamlip = partial(
    HubFiles,
    "dreamlip",
    least=1,
    repository="qidouxiong619/dreamlip_long_captions",
    use="data.captions.root={place} 'data.captions.by={{url: Image Path}}' 'data.caption="
    "{{raw_caption: 1, shortIB_captions: 1, longIB_captions: 1, shortSV_captions: 1, "
    "longSV_captions: 1, shortLLA_captions: 1, longLLA_captions: 1}}'",
)

SETS: dict[str, File | HubFiles] = {
    "pascal_voc": File(
        "",
        "VOCdevkit/VOC2012/SegmentationClass/*.png",
        2_913,
        f"{VOC}/voc2012/{VOC_2012}",
        "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        1_999_639_040,
        mirrors=(
            f"http://d2l-data.s3-accelerate.amazonaws.com/{VOC_2012}",
            f"http://data.mxnet.io/data/{VOC_2012}",
        ),
    ),
    "pascal_context_images": File(
        "",
        "VOCdevkit/VOC2010/JPEGImages/*.jpg",
        10_103,
        f"{VOC}/voc2010/VOCtrainval_03-May-2010.tar",
        "md5:da459979d0c395079b5c75ee67908abb",
        0,
    ),
    "pascal_context_masks": File(
        "VOCdevkit/VOC2010",
        "SegmentationClassContext/*.png",
        10_103,
        # the Wayback Machine's copy, byte for byte (id_), of an address that is gone
        "https://web.archive.org/web/2022id_/https://codalabuser.blob.core.windows.net/public"
        "/trainval_merged.json",
        "md5:3c2d0c0656b7be9eb61928ffe885d8ce",
        0,
    ),
    "ade20k": File(
        "",
        "ADEChallengeData2016/annotations/*/*.png",
        22_210,
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        "sha256:7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
        967_382_037,
    ),
    "coco_val": File(
        "coco",
        "val2017/*.jpg",
        5_000,
        f"{COCO}/zips/val2017.zip",
        "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        815_585_330,
    ),
    "coco_train": File(
        "coco",
        "train2017/*.jpg",
        118_287,
        f"{COCO}/zips/train2017.zip",
        "sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        19_336_861_798,
    ),
    "coco_annotations": File(
        "coco",
        "annotations/captions_*2017.json",
        2,
        f"{COCO}/annotations/annotations_trainval2017.zip",
        "sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        252_907_541,
    ),
    "coco_panoptic": File(
        "coco",
        "annotations/panoptic_train2017/*.png",
        118_287,
        f"{COCO}/annotations/panoptic_annotations_trainval2017.zip",
        "sha256:c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370",
        860_725_834,
    ),
    "coco_stuff": File(
        "coco/stuffthingmaps_trainval2017",  # the zip has no folder above train2017
        "*2017/*.png",
        123_287,
        "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset"
        "/stuffthingmaps_trainval2017.zip",
        None,
        659_000_000,  # published in three digits
    ),
    "imagenet_v2": File(
        "",
        "imagenetv2-matched-frequency-format-val/*/*.jpeg",
        10_000,
        "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main"
        "/imagenetv2-matched-frequency.tar.gz",  # a plain tar
        "sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
        1_264_079_360,
    ),
    "cc12m": HubFiles(
        "cc12m",
        "cc12m-train-*.tar",
        2_176,
        "pixparse/cc12m-wds",
        "data.source=tars data.root={root}'/cc12m/cc12m-train-{{0000..2175}}.tar'",
    ),
    "cc3m": HubFiles(
        "cc3m",
        "cc3m-train-*.tar",
        576,
        "pixparse/cc3m-wds",
        "data.source=tars data.root={root}'/cc3m/cc3m-train-{{0000..0575}}.tar'",
    ),
    "dreamlip_cc3m": _dreamlip(f"cc3m_{LONG}"),
    "dreamlip_cc12m": _dreamlip(f"cc12m_{LONG}"),
    "llavanext_cc12m": HubFiles(
        "llavanext",
        "train.jsonl.gz",
        1,
        "CaptionEmporium/conceptual-captions-cc12m-llavanext",
        "data.captions.root={place} data.captions.by=key "
        "'data.caption={{caption_llava: 2, caption_llava_short: 1, own: 1}}'",
    ),
    "pixelprose_cc12m": HubFiles(
        "pixelprose",
        "data/vlm_captions_cc12m_*.parquet",
        10,
        "tomg-group-umd/pixelprose",
        "data.captions.root={place} data.captions.by=url 'data.caption={{vlm_caption: 1}}'",
    ),
}
"""Name -> what is downloaded."""

ELSEWHERE = {
    "ade20k_847": "register at groups.csail.mit.edu/vision/datasets/ADE20K and convert "
    "ADE20K_2021_17_01.zip as docs/benchmarks.md says",
    "cityscapes": "register at cityscapes-dataset.com and unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip into cityscapes/",
    "flickr": "get Flickr8k on Kaggle, by login, in the layout of docs/benchmarks.md",
    "flickr30k": "ask the authors at Illinois, or unpack nlphuji/flickr30k of the hub, in the "
    "layout of docs/benchmarks.md",
    "hqitp": "it is not public; cc12m and cc3m are, with other captions",
    "imagenet": "register at image-net.org and sort ILSVRC2012_img_val.tar by valprep.sh into "
    "imagenet/val/<WordNet id>/",
    "pascal_context459": "get pascal_context_images, and convert "
    "https://roozbehm.info/pascal-context/trainval.tar.gz as docs/benchmarks.md says",
    "recap_datacomp": "captions without images, 433 GB: `hf download --repo-type dataset "
    "UCSC-VLAA/Recap-DataComp-1B --local-dir DIR`",
    "waterbirds": "no checksum is published; unpack https://nlp.stanford.edu/data/dro/"
    "waterbird_complete95_forest2water2.tar.gz",
    "yfcc15m": "download by img2dataset the images of https://openaipublic.azureedge.net/clip/data/"
    "yfcc100m_subset_data.tsv.bz2; Kaichengalex/YFCC15M on the hub is another set of this name",
}
"""Name of a set that is not downloaded -> what to do for it."""


def get(name: str, root: Path, *, dry_run: bool = False) -> None:
    """Download a set, unless it is there, and print what is done.

    Args:
        name: a row of ``SETS``.
        root: folder that holds all sets.
        dry_run: True to print address, bytes and layout only.

    Raises:
        ValueError: the disk has too little room.
        StoppedRun: the set cannot be downloaded or unpacked, or has too few files.
    """
    row = SETS[name]
    if missing := row.missing(root):
        print(f"{name}: {row}; gives {missing}")
        need, free = row.need(root) / 1e9, free_bytes(root) / 1e9
        room = f"{name} needs at least {need:,.1f} GB in {root}, where {free:,.1f} GB are free"
        print(room)
        if dry_run:
            return
        if need > free:
            raise ValueError(f"{room}; free some, or choose another folder by --to DIR")
        row.get(root)
        if missing := row.missing(root):
            raise StoppedRun(f"{name}: {row} lacks {missing}; run the command again")
    place = shlex.quote(str(root / row.folder / row.holds))
    use = row.use.format(root=shlex.quote(str(root)), place=place)
    print(f"{name} is complete in {root / row.folder}: {use}")
