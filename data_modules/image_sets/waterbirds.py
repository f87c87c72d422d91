"""Waterbirds: landbirds and waterbirds pasted on land and water backgrounds.  H W pixels.

Download ``waterbird_complete95_forest2water2.tar.gz`` (0.5 GB), linked from
kohpangwei/group_DRO.  Made of CUB and Places, for non-commercial research.

``waterbird_complete95_forest2water2/metadata.csv`` lists the photographs with y (0 landbird, 1
waterbird), place (0 land, 1 water) and split (0 train, 1 val, 2 test).  Group = 2 y + place.  The
test split is balanced by place and the training split is not, so the original paper weights the
accuracies of the groups by their shares of the training split, which the table gives.
"""

import io

from gestalt.data_modules.image_sets import plain_labels, select_label_sets, select_split
from gestalt.data_modules.labels.described_photographs import (
    Described,
    DescribedPhotographs,
    evenly,
)
from gestalt.data_modules.labels.folders import check_files, find_folder
from gestalt.support.files import read_whole

_FOLDER = "waterbird_complete95_forest2water2"
_SPLITS = {"train": "0", "val": "1", "test": "2"}
_OFFICIAL = {"train": 4_795, "val": 1_199, "test": 5_794}

LABELS = {"waterbirds": plain_labels(["landbird", "waterbird"])}
"""Source: kohpangwei/group_DRO, data/cub_dataset.py @ e80fe20."""


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> DescribedPhotographs:
    """Open ``test`` (default), ``val`` or ``train``; ``limit`` keeps photographs spread evenly,
    since they are sorted by species.

    Raises:
        ValueError: no root, unknown split or label set, an invalid table, or a missing photograph.
    """
    import pandas as pd

    split = select_split("waterbirds", split, known=_SPLITS, default="test")
    folder = find_folder(
        root,
        image_set="waterbirds",
        places=(_FOLDER, f"waterbirds/{_FOLDER}"),
        holds=("metadata.csv",),
        get=f"unpack {_FOLDER}.tar.gz there",
    )
    table = folder / "metadata.csv"
    known = {"y": ("0", "1"), "place": ("0", "1"), "split": tuple(_SPLITS.values())}
    try:
        content = io.BytesIO(read_whole(table))
        rows = pd.read_csv(content, dtype=str, index_col=False, na_filter=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"waterbirds: {table} cannot be read: {error}") from error
    for name in ("img_filename", *known):
        if name not in rows:
            raise ValueError(f"waterbirds: {table} has no column {name!r}; it has {list(rows)}")
    for name, values in known.items():
        for row in rows.index[~rows[name].isin(values)]:
            raise ValueError(
                f"waterbirds: {table}, row {row + 1}: {name} is {rows[name][row]!r}, "
                f"not one of {', '.join(values)}"
            )
    chosen = rows[rows["split"] == _SPLITS[split]]
    photographs: list[Described] = [
        (folder / name, {"class_label": int(y), "place": int(place)})
        for name, y, place in zip(chosen["img_filename"], chosen["y"], chosen["place"], strict=True)
    ]
    check_files([path for path, _ in photographs], required_by=table)
    train = rows[rows["split"] == _SPLITS["train"]]
    if train.empty:
        raise ValueError(
            f"waterbirds: {table} names no photograph of split 0, train, whose groups are the "
            "weights of the adjusted accuracy"
        )
    groups = list(train["y"] + train["place"])
    return DescribedPhotographs(
        "waterbirds",
        evenly(photographs, limit),
        label_sets=select_label_sets(LABELS, label_sets),
        official_length=_OFFICIAL[split],
        train_groups=[[groups.count(y + place) for place in known["place"]] for y in known["y"]],
    )
