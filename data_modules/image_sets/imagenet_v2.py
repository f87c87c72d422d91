"""ImageNet-V2, matched frequency: 10,000 new photographs of ImageNet's 1,000 classes.  H W pixels.

``gestalt data get imagenet_v2`` downloads ``imagenetv2-matched-frequency.tar.gz`` (1.3 GB), a plain
tar, from the hub (vaishaal/ImageNetV2) by its SHA-256; the file at the older address in S3 has
other bytes.  Code MIT; images as ImageNet's.

``imagenetv2-matched-frequency-format-val/<class>/*.jpeg``.  A class is its folder's name as a
number; sorted as text, "10" would precede "2".
"""

from gestalt.data_modules.labels.imagenet_photographs import imagenet_opener

_FOLDER = "imagenetv2-matched-frequency-format-val"

open_here = imagenet_opener(
    "imagenet_v2",
    places=(_FOLDER, f"imagenet_v2/{_FOLDER}", "imagenet_v2"),
    holds=("0|1|2|10|100|999",),
    get="unpack imagenetv2-matched-frequency.tar.gz there",
    folders=lambda table: [str(number) for number in range(len(table.labels.names))],
    suffix=".jpeg",
    expected="a number from 0 to 999 (WordNet ids: another release)",
    official_length=10_000,
)
