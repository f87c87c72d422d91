"""The 27 classes of COCO-Stuff against other people's tables, and the photographs on which they are
scored.
"""

import numpy as np
import pytest

from gestalt.data_modules.labels.class_tables import read_tables
from tests.data_modules.fakes.drawing import save_mask, write_list
from tests.data_modules.files import opened_set

GROUP_OF_THING = "9x1 11x8 8x6 7x10 6x8 10x10 5x8 2x10 3x10 0x6 1x6 4x8"
"""Class of the 27, and how many values in a row it has, from 0 to 90.  Source: mhamilton723/STEGO
src/data.py @ 8c1ad0a; likewise below.
"""
GROUP_OF_STUFF = """
17 17 22 20 20 22 15 25 16 13 12 12 17 17 23 15 15 17 15 21 15 25 13 13 13 13 13 22 26 14 14 15 22
21 21 24 20 22 15 17 16 15 22 24 21 17 25 16 21 17 22 16 21 21 25 21 26 21 24 20 17 14 21 26 15 23
20 21 24 15 24 22 25 15 20 17 17 22 14 18 18 18 18 18 18 18 26 26 19 19 24
"""
"""Class of the 27 of each value from 91 to 181."""


def test_the_27_classes_equal_the_grouping_of_stego(tmp_path):
    values = np.array(
        [value for value in range(182) if value not in (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)]
    )
    groups = []
    for run in GROUP_OF_THING.split():
        group, count = map(int, run.split("x"))
        groups += [group] * count
    groups += map(int, GROUP_OF_STUFF.split())
    expected = np.array(groups)[values]
    grouped = read_tables("coco")["coco_27"].maps[""](values[None], path=tmp_path)[0]
    assert len(values) == 171
    assert grouped.tolist() == expected.tolist()


STUFF, THING, UNLABELLED = 181, 0, 255
CURATED = {
    1: (np.array([[STUFF] * 3 + [THING]] * 4), 90, True),  # three quarters exactly
    2: (np.array([[STUFF] * 3 + [UNLABELLED]] * 4), 90, True),
    3: (np.array([[STUFF] * 2 + [THING, UNLABELLED]] * 4), 90, False),
    4: (np.array([[STUFF] * 4] * 4), 89, False),  # 356 pixels a side
}


def test_the_curated_subset_follows_the_rule_or_the_official_list_where_it_exists(tmp_path):
    for number, (cells, side, _) in CURATED.items():
        values = cells.repeat(side, 0).repeat(side, 1)
        save_mask(tmp_path / f"annotations/val2017/{number:012d}.png", values)
        save_mask(tmp_path / f"images/val2017/{number:012d}.jpg", values)
    images = opened_set("coco_curated", tmp_path)
    assert [int(images.sample(index)["name"]) for index in range(len(images))] == [
        number for number, row in CURATED.items() if row[2]
    ]
    assert (len(opened_set("coco_curated", tmp_path, limit=1)), images.name) == (1, "coco_curated")
    listed = tmp_path / "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt"
    write_list(listed, ["000000000004"])
    assert [opened_set("coco_curated", tmp_path).sample(0)["name"]] == ["000000000004"]
    write_list(listed, ["000000000004", "000000000005"])
    with pytest.raises(
        ValueError,
        match=r"no file .*which .*Coco164kFull_Stuff_Coarse_7\.txt requires",
    ):
        opened_set("coco_curated", tmp_path)
    with pytest.raises(ValueError, match="label set 'coco_stuff_171' is unknown; known: coco_27"):
        opened_set("coco_curated", tmp_path, "coco_stuff_171")
