"""Flickr8k's dev and test photographs at native size, with five captions each, for retrieval.  H W
pixels.
"""

from gestalt.data_modules.labels.captioned_photographs import captioned_opener
from gestalt.data_modules.sources.flickr import read_split

open_here = captioned_opener(
    "flickr",
    place="flickr8k",
    images="Images",
    table="captions.txt",
    get="unpack Flickr8k from Kaggle there, with the official split files next to captions.txt",
    read=lambda table, split: [
        (path.name, captions) for path, captions in read_split(table.parent, split)
    ],
    official={"dev": 1_000, "test": 1_000},
)
