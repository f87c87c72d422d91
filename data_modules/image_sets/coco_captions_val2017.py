"""COCO 2017's validation photographs with five to seven captions each, for retrieval.  H W pixels.

``gestalt data get coco_val coco_annotations`` downloads ``val2017.zip`` and
``annotations_trainval2017.zip`` from cocodataset.org by their SHA-256.  Annotations CC BY 4.0;
images under Flickr's terms, each with its own licence.

``val2017/<12 digits>.jpg``; ``annotations/captions_val2017.json``.

Source: ExplainableML/flair @ 0f9ce05, src/flair/data.py, and ExplainableML/cosmos @ c80348f,
src/training/data.py, read all 25,014 captions of the 5,000 photographs, not the first five.
"""

from gestalt.data_modules.labels.captioned_photographs import captioned_opener
from gestalt.data_modules.sources.coco_captions import read_captions

open_here = captioned_opener(
    "coco_captions_val2017",
    place="coco",
    images="val2017",
    table="annotations/captions_val2017.json",
    get="unpack val2017.zip and annotations_trainval2017.zip there",
    read=lambda table, _: read_captions(table)[0],
    official={"val": 5_000},
)
