"""A grid as its tables show it, with the paper's numbers.  Nothing heavy is imported, because a
grid is checked before torch is.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Paper:
    """The paper's numbers for the cells of a grid; never ours.

    Attributes:
        source: document and table.
        scale: data and models they were measured with.
        metrics: name of a metric -> its name in the paper, with the unit.
        cells: name of a cell -> name of a metric -> number.
    """

    source: str = ""
    scale: str = ""
    metrics: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[str, float]] = field(default_factory=dict)

    def number(self, cell: str, metric: str) -> float | None:
        """Return the paper's number for a cell; None if it has none."""
        return self.cells.get(cell, {}).get(metric)


@dataclass(frozen=True)
class Design:
    """A grid as its tables show it.

    Attributes:
        name: name of the grid.
        base: experiment that every cell starts from.
        scale: name of the scale.
        common: overrides of every cell.
        heads: the varied keys, or ``cell``.
        cells: name -> a value for each head.
        against: the cell that differences are to.
        metric: the metric that is drawn.
        sizes: further test sizes in pixels.
        paper: the paper's numbers, if it has any.
    """

    name: str
    base: str
    scale: str
    common: tuple[str, ...]
    heads: tuple[str, ...]
    cells: dict[str, tuple[str, ...]]
    against: str
    metric: str
    sizes: tuple[int, ...] = ()
    paper: Paper | None = None

    @property
    def title(self) -> str:
        """Name and scale."""
        return f"{self.name} at scale {self.scale}"

    def paper_beside(self, metric: str) -> Paper | None:
        """Return the paper if it has numbers for this metric and the metric is of the benchmark
        that is drawn.
        """
        image_set, _, name = metric.partition("/")
        same_set = image_set == self.metric.partition("/")[0]
        has_numbers = self.paper is not None and any(
            self.paper.number(cell, name) is not None for cell in self.cells
        )
        return self.paper if same_set and has_numbers else None
