"""Depth of a tower's parameters by their names: the blocks that layer decay and frozen blocks
count.
"""

import re
from collections.abc import Collection

NUMBERED = re.compile(r"(?:^|\.)(?:blocks|block|resblocks|layers|layer|stages)\.?(\d+)\.")
"""Matches a block's number in a parameter's name: timm's ``blocks.3.``, ``stages.1.`` and
``layer2.``, BERT's ``layer.3.``, T5's ``block.3.``, open_clip's ``resblocks.3.``"""


def block_depths(names: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return (depth, top) of each parameter of a tower, given in order of definition: those before
    the first block are embeddings.
    """
    blocks = {name: int(match[1]) for name in names if (match := NUMBERED.search(name))}
    numbers = sorted(set(blocks.values()))  # ResNet's stages count from 1
    top = len(numbers) + 1
    depths: dict[str, tuple[int, int]] = {}
    outside = 0  # depth of parameters in no block: 0 before the first, top after it
    for name in names:
        outside = top if name in blocks else outside
        depths[name] = (numbers.index(blocks[name]) + 1 if name in blocks else outside, top)
    return depths
