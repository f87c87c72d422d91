"""Coverage of the intervals of mIoU over images: the share of many sets drawn from a population
whose interval holds its mIoU.

``scenes_counts.npz`` has the pixel counts of 1,600 scenes (the recipe's validation scenes,
continued) by ``gestalt train gestalt --scale demo`` after one epoch and after nearly two.  These
scenes, with a probability each, are the population.  Sets are drawn with replacement, because a
real set is a small part of all images that it stands for.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from gestalt.measures.evaluation.confusion import iou_of
from gestalt.results.intervals import contribution

HERE = Path(__file__).with_name("scenes_counts.npz")
CLASSES, SCENES = 33, 1_600
RUNS = []
for rows in np.load(HERE).values():
    RUNS.append(np.zeros((SCENES, 3, CLASSES), dtype=np.int64))
    RUNS[-1][rows[:, 0], :, rows[:, 1]] = rows[:, 2:]
# from the most to the least frequent; 0 is the background
ORDER = np.random.default_rng(5).permutation(np.arange(1, CLASSES))


def frequencies(profile: str) -> np.ndarray:
    """Of the classes relative to those of the scenes, which are about equal."""
    relative = np.ones(CLASSES)
    if profile == "zipf":
        relative[ORDER] = 1 / np.arange(1, CLASSES)
    if profile == "four rare":
        relative[ORDER[:4]] = 1 / 40
    return relative


class Coverage(NamedTuple):
    """Shares of the sets that have intervals, and of those, that hold each run's mIoU and the
    difference of both.
    """

    printed: float
    first: float
    second: float
    difference: float


def coverage(profile: str, *, images: int, sets: int) -> Coverage:
    """Draw sets of images, and compute their intervals as ``gestalt compare``."""
    probability = np.where(RUNS[0][:, 2] > 0, frequencies(profile), 1.0).min(axis=1)
    probability /= probability.sum()
    first, second = (
        np.nanmean(iou_of(np.tensordot(probability, counts, axes=1))) for counts in RUNS
    )
    held = []
    for number in range(sets):
        drawn = np.random.default_rng([images, number]).choice(SCENES, images, p=probability)
        found = [contribution({"counts": counts[drawn]}, "miou", {}) for counts in RUNS]
        samples = [one.samples for one in found]
        intervals = [found[0].interval(spread) for spread in samples]
        intervals.append(found[0].interval(samples[1] - samples[0], least=-1.0))
        if None not in intervals:
            truths = (first, second, second - first)
            held.append(
                [
                    interval.low <= truth <= interval.high
                    for interval, truth in zip(intervals, truths, strict=True)
                ]
            )
    return Coverage(len(held) / sets, *(np.mean(held, axis=0) if held else (np.nan,) * 3))


def test_intervals_of_miou_cover_where_percentiles_of_resamples_do_not():
    found = coverage("uniform", images=125, sets=200)
    assert found.printed > 0.95
    assert min(found[1:]) > 0.92


def test_sets_that_lack_classes_have_no_interval():
    assert coverage("uniform", images=40, sets=20).printed < 0.1
    assert coverage("four rare", images=125, sets=20).printed < 0.1


@pytest.mark.nightly
@pytest.mark.parametrize("profile", ["uniform", "zipf", "four rare"])
@pytest.mark.parametrize("images", [60, 125, 307, 600, 1200])
def test_intervals_cover_at_every_size_and_profile(profile, images, capsys):
    """Where fewer than half of the sets have an interval, these are not a fair sample of the sets,
    and their coverage is only shown.
    """
    found = coverage(profile, images=images, sets=1000)
    with capsys.disabled():
        print(
            f"\n{profile}, {images} images: {found.printed:.3f} printed, {found.first:.3f} "
            f"{found.second:.3f} {found.difference:.3f}"
        )
    assert found.printed < 0.5 or min(found[1:]) >= 0.92
    assert found.printed > 0.95 or (profile, images) not in {
        ("uniform", 125),
        ("uniform", 307),
        ("zipf", 307),
    }
