"""Where mIoU is lost: planted faults, sums, and the jackknife against a loop over images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.__main__ import main
from gestalt.measures.segmentation.mean_iou import BAND_EDGES, MeanIoU
from gestalt.results.causes import (
    ABSENT,
    BAND_NAMES,
    FROM_BACKGROUND,
    OTHER,
    TO_BACKGROUND,
    UNNAMED,
    diagnose,
)
from gestalt.results.intervals import pseudo_values
from gestalt.results.plots import stacked
from tests.gestalt.ablation.fake_run import leave, record
from tests.gestalt.tiny_config import tiny_config

CLASSES, SIDE = 4, 24
FAULTS = {  # the predicted class of each true one, 255 for none; class 3 is in no truth
    FROM_BACKGROUND: (1, 1, 2),
    TO_BACKGROUND: (0, 0, 2),
    ABSENT: (0, 3, 2),
    OTHER: (0, 2, 1),
    UNNAMED: (255, 1, 255),
}


def truth(index=0):
    """Background with two classes, an ignored strip."""
    label = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    label[4 + index : 12, 4:12], label[14:20, 10:20] = 1, 2
    label[:2] = 255
    return label


def diagnosed(*pairs, background=0):
    metric = MeanIoU(CLASSES, unnamed=True)
    for index, (prediction, label) in enumerate(pairs):
        metric.update([prediction], [label], torch.tensor([index]))
    score = metric.compute()
    found = diagnose(score.rows, images=len(pairs), classes=CLASSES, background=background)
    assert found.miou == pytest.approx(score.miou, abs=1e-15)
    return found


@pytest.mark.parametrize("background", [0, None])
def test_a_perfect_map_loses_nothing_and_ignored_pixels_do_not_count(background):
    prediction = truth().masked_fill(truth() == 255, 3)
    found = diagnosed((prediction, truth()), background=background)
    assert (found.miou, len(found.shares)) == (1, 2 if background is None else 4)
    assert not found.shares.any()
    assert found.marks.sum() == SIDE * (SIDE - 2)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_has_the_whole_gap(fault):
    label = truth()
    prediction = torch.tensor([*FAULTS[fault], *[0] * 253], dtype=torch.uint8)[label.long()]
    found = diagnosed((prediction, label))
    shares = dict(zip(found.causes, found.shares.tolist(), strict=True))
    assert found.miou < 1
    assert shares.pop(fault) == pytest.approx(1 - found.miou)
    assert not any(shares.values())
    mended = dict(zip(found.causes, found.mended.tolist(), strict=True))
    assert mended.pop(fault) == 1
    assert set(mended.values()) <= {found.miou}


def random_rows(images=31, background=0):
    draw = np.random.default_rng(3)
    part = [np.repeat(np.arange(images), 9)]
    part += [draw.integers(0, high, 9 * images) for high in (CLASSES, CLASSES + 1, 5)]
    rows = np.unique(np.stack(part, axis=1), axis=0)
    rows = rows[rows[:, 1] != 2]  # a class that is predicted and never true
    rows = rows[(rows[:, 1] != 3) | (rows[:, 0] == 0)]  # true in a single image
    return np.column_stack([rows, draw.integers(1, 99, len(rows))])


def counts_of(rows, images, mended):
    """Counts of each image when rows are mended, row by row."""
    counts = np.zeros((images, 3, CLASSES + 1), dtype=np.int64)
    for (image, true, predicted, _, pixels), mend in zip(rows, mended, strict=True):
        counts[image, 1, true if mend else predicted] += pixels
        counts[image, 2, true] += pixels
        counts[image, 0, true] += pixels * (mend or true == predicted)
    return counts[..., :CLASSES]


@pytest.mark.parametrize("background", [0, None])
def test_shares_add_up_and_their_jackknife_equals_that_of_the_counts(background):
    rows = random_rows()
    found = diagnose(rows, images=31, classes=CLASSES, background=background)
    assert found.shares.sum() == pytest.approx(1 - found.miou, abs=1e-12)
    np.testing.assert_allclose(found.class_shares.sum(axis=1), 1 - found.iou, atol=1e-12)
    none, everything = (
        pseudo_values(counts_of(rows, 31, [mend] * len(rows))) for mend in (False, True)
    )
    np.testing.assert_allclose(found.samples.sum(axis=1), everything - none, atol=1e-9)
    # with two players, a share is the mean of what it adds first and last
    alone = rows[(rows[:, 1] == rows[:, 2]) | (rows[:, 2] == CLASSES) | (rows[:, 1] == 0)]
    found = diagnose(alone, images=31, classes=CLASSES, background=0)
    unnamed = alone[:, 2] == CLASSES
    values = [
        pseudo_values(counts_of(alone, 31, mended))
        for mended in (~unnamed * False, unnamed, ~unnamed, unnamed | True)
    ]
    expected = (values[1] - values[0] + values[3] - values[2]) / 2
    np.testing.assert_allclose(found.samples[:, found.causes.index(UNNAMED)], expected, atol=1e-9)


def test_moved_borders_lie_in_the_bands_up_to_their_distance():
    assert (*(f"{edge} px" for edge in BAND_EDGES), "beyond") == BAND_NAMES
    prediction = torch.roll(truth(), 3, dims=1)
    prediction[:2] = 0
    found = diagnosed((prediction, truth()))
    pixels = np.nan_to_num(found.band_pixels)
    assert pixels[[FROM_BACKGROUND, TO_BACKGROUND], :3].sum(axis=1) == pytest.approx([1, 1])
    assert not pixels[:, 3:].any()
    assert found.bands[3:].tolist() == [1, 1]
    images, miou = found.by_classes
    assert images.tolist() == [0, 0, 1, 0, 0]
    assert miou[2] == pytest.approx(np.nanmean(found.iou))
    areas, right = found.by_area  # 64 and 60 of 528 pixels
    assert areas.tolist() == [0, 0, 124, 0, 0]
    assert right[2] == pytest.approx((64 - 24 + 60 - 18) / 124)


def test_a_share_is_divided_among_images_by_their_wrong_pixels_of_each_class():
    one, two = truth(), truth()
    one[21:22], two[21:24] = 1, 2
    found = diagnosed((one, truth()), (truth(), truth()), (two, truth()))
    background, first, second, _ = found.class_shares[:, 0] / 3
    parts = {2: background * 3 / 4 + second, 0: background / 4 + first}
    assert found.costly == [pytest.approx(parts), {}, {}, {}]
    assert [*found.costly[0]] == [*parts]


def test_the_parts_of_a_bar_adjoin_and_keep_their_colours():
    rows = {"all": {"a": 0.2, "b": 0.5, "c": 0.3}, "one": {"a": 0.7, "c": 0.3}}
    colours = set()
    for shown in (rows, {"one": rows["one"]}):
        figure = stacked(shown, heads=("a", "b", "c"), title="d")
        *_, last = figure.axes[0].containers
        colours.add(last[0].get_facecolor())
        for bar in last:
            assert (bar.get_x(), bar.get_x() + bar.get_width()) == pytest.approx((0.7, 1))
        assert [text.get_text() for text in figure.legends[0].get_texts()] == sorted(
            {head for row in shown.values() for head in row}
        )
    assert len(colours) == 1


def test_the_command_prints_shares_and_refuses_results_without_rows(cwd, capsys):
    config = tiny_config()
    made, _ = record(config, 0.5)
    rows = random_rows()
    rows[:, 1] = rows[:, 0] % CLASSES  # so many images have each class that there are intervals
    counts = counts_of(rows, 31, [False] * len(rows))
    total = counts.sum(axis=0)
    miou = np.nanmean(total[0] / (total[1] + total[2] - total[0]))
    names = ["grass", "cat", "dog", "bird"]
    made["metrics"]["scenes/miou"] = miou
    made["benchmarks"][0] |= {"images": 31, "names": names, "constant_class": 0}
    made["benchmarks"][0]["counts"] = {"model": total.tolist()}
    made["benchmarks"][0]["iou"] = (total[0] / (total[1] + total[2] - total[0])).tolist()
    leave(cwd / "new" / "version_0", config, made, counts, rows=rows)
    leave(cwd / "old" / "version_0", config, made, counts)
    entry = made["benchmarks"][0]
    for folder, change in (
        ("others", {"image_names": "0" * 16}),
        ("none", {"measure": "matching"}),
    ):
        changed = {**made, "benchmarks": [{**entry, **change}]}
        leave(cwd / folder / "version_0", config, changed, counts, rows=rows)
    leave(cwd / "changed" / "version_0", config, made, counts, rows=rows[1:])
    capsys.readouterr()
    assert main(["diagnose", "new/version_0", "--details"]) == 0
    page = capsys.readouterr().out
    found = diagnose(rows, images=31, classes=CLASSES, background=0)
    for words in (f"| {miou:.3f} |", f"{found.shares[ABSENT]:.3f}", "other class of the image"):
        assert words in page
    assert f"| grass | {found.iou[0]:.3f} |" in page
    image, part = next(iter(found.costly[ABSENT].items()))
    assert f"| class absent from the image | {image} ({part:.4f})" in page
    assert main(["diagnose", "new/version_0", "--latex", "--output", "shares.png"]) == 0
    assert Path("shares.png").read_bytes().startswith(b"\x89PNG")
    shares = " & ".join(f"{100 * share:.1f}" for share in (miou, *found.shares))
    said = capsys.readouterr()
    assert f"version\\_0 & {shares} \\\\" in said.out
    assert said.err == "shares.png\n"
    assert main(["diagnose", "new/version_0", "--csv"]) == 0
    interval = found.interval(2)
    line = f"absent from the image,{found.shares[2]},{interval.low},{interval.high},"
    assert f"{line}{found.mended[2]}\n" in capsys.readouterr().out
    for words, sentence in (
        (["old/version_0"], "score it again: gestalt eval"),
        (["new/version_0", "--output", "shares.jpg"], "a file that ends in .png"),
        (["new/version_0", "--details", "--csv"], "written as Markdown only"),
        (["new/version_0", "--metric", "recall_at_10"], "not the mIoU of a segmentation set"),
        (["changed/version_0"], "but the record has"),
        (["none/version_0"], "no segmentation set was scored"),
        (["new/version_0", "others/version_0"], "not of the same images and classes"),
    ):
        assert main(["diagnose", *words]) == 2
        assert sentence in capsys.readouterr().err
