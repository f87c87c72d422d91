"""The choice of images of a set."""


def spread(length: int, count: int) -> tuple[int, ...]:
    """Return indices spread evenly over a set: the middle of each of ``count`` equal stretches, or
    fewer of a smaller set.
    """
    return tuple(sorted({(2 * k + 1) * length // (2 * count) for k in range(count)}))
