"""ImageNet's validation photographs with 1,000 classes, in folders named by WordNet id.  H W
pixels.

Download ``ILSVRC2012_img_val.tar`` (md5 29b22e2961454d5413ddabcf34fc5622) from image-net.org after
registration.  For non-commercial research and education.  The tar is flat; the usual script
``valprep.sh`` sorts its photographs into ``val/<WordNet id>/*.JPEG``.

A class is the rank of its WordNet id among all 1,000, so missing folders do not change the others'
classes.
"""

from gestalt.data_modules.labels.imagenet_photographs import imagenet_opener

open_here = imagenet_opener(
    "imagenet",
    places=("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
    holds=("val",),
    get="sort ILSVRC2012_img_val.tar into val/<WordNet id>/ there",
    images="val",
    folders=lambda table: table.entry["folders"],
    suffix=".JPEG",
    expected="one of the 1,000 WordNet ids, such as n01440764",
    official_length=50_000,
)
