"""The published data sets that are downloaded and unpacked into the layouts that training and the
benchmarks read.

Addresses, sizes, checksums and numbers of files are published ones: torchvision
datasets/voc.py (VOC's host, MD5), tensorflow_datasets url_checksums (SHA-256 and sizes), d2l and
gluon (mirrors), zhanghang1989/PyTorch-Encoding (Context), nightrome/cocostuff, open_clip's README
(shards of CC12M and CC3M), and the cards on the hub.
"""

import shlex
from functools import partial
from pathlib import Path

from gestalt.data_modules.tools.published import File, HubFiles
from gestalt.support.faults import StoppedRun
from gestalt.support.files import free_bytes

ROOT = "data"
"""Folder that sets are downloaded to where none is named."""

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
