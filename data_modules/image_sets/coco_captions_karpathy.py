"""COCO 2014 photographs in Karpathy's test split, with their captions, for retrieval.
H W pixels.

Not the same 5,000 as ``coco_captions_val2017``.  Download ``val2014.zip`` from cocodataset.org;
``dataset_coco.json`` is in Karpathy's ``caption_datasets.zip``.  Annotations CC BY 4.0; images
under Flickr's terms, each with its own licence.

``val2014/COCO_val2014_<12 digits>.jpg``, which has the photographs of ``test`` and ``val``.

Source: LAION-AI/CLIP_benchmark @ 48de38c, clip_benchmark/datasets/builder.py, and its
benchmark/benchmark.csv, whose recalls are multiples of 1 / 5,000 photographs and 1 / 25,010
captions.
"""

from gestalt.data_modules.labels.captioned_photographs import captioned_opener, read_karpathy

open_here = captioned_opener(
    "coco_captions_karpathy",
    place="coco",
    images="val2014",
    table="dataset_coco.json",
    get="unpack val2014.zip and caption_datasets.zip there",
    read=read_karpathy,
    official={"test": 5_000, "val": None},
)
