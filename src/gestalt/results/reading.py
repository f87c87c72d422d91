"""Read results from disk: of runs, of evaluations, and of the cells of a grid.  torch is not
imported.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from gestalt.results.design import Design, Paper
from gestalt.results.record import read_record, result_paths, write_record
from gestalt.results.result import Result
from gestalt.support.addresses import change_texts, published
from gestalt.support.json_files import read_json
from gestalt.support.typed import ConfigError

PAGE = "page.json"
"""The file of what a grid's page shows, in its folder."""


Runs = Mapping[tuple[str, int], Result]
"""Results by cell and seed."""


class GridResults(NamedTuple):
    """The content of a grid's page.

    Attributes:
        design: the grid, as its tables show it.
        views: results of the finished runs under the same evaluation, by the change in it: none for
            the runs' own scores, which come first, then each test size.
        remarks: lines on chosen values and failed runs.
        walls: by cell and seed the seconds, with start-up, of the runs that were neither resumed
            nor run by another command.
    """

    design: Design
    views: Mapping[str, Runs]
    remarks: Sequence[str]
    walls: Mapping[tuple[str, int], float]

    def write(self, folder: Path) -> None:
        """Write ``page.json``, with the results' places relative to the folder of the page."""
        views = {
            name: [
                [*run, os.path.relpath(result.path, folder), self.walls.get(run)]
                for run, result in results.items()
            ]
            for name, results in self.views.items()
        }
        content = {"design": asdict(self.design), "remarks": list(self.remarks), "views": views}
        write_record(folder / PAGE, change_texts(content, published))

    @classmethod
    def read(cls, folder: Path) -> "GridResults":
        """Read ``page.json`` and the results that it names.

        Raises:
            ConfigError: the file is damaged; or as ``read_record``.
        """
        try:
            content = read_json(folder / PAGE, "page")
            paper = content["design"]["paper"]
            views = {
                name: {
                    (cell, seed): replace(read_result(folder / path), label=f"{cell} seed {seed}")
                    for cell, seed, path, _ in runs
                }
                for name, runs in content["views"].items()
            }
            walls = {
                (cell, seed): wall
                for cell, seed, _, wall in content["views"][""]
                if wall is not None
            }
            design = Design(**content["design"] | {"paper": paper and Paper(**paper)})
            return cls(design, views, list(content["remarks"]), walls)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{folder / PAGE}: damaged, or a run that it names is gone ({error}); repeat "
                "gestalt ablate"
            ) from error


def read_result(path: Path) -> Result:
    """Read a result's JSON; raises as ``read_record``.  Its label is experiment, scale and version,
    and the number of an evaluation.
    """
    record = read_record(path)
    result = Result("", path, record)
    # of the system whose label maps were scored
    name = record.get("name", replace(result, path=path.resolve()).run.name)
    words = [
        record.get("experiment"),
        record.get("scale"),
        name,
        f"evaluation {path.stem}" if result.is_evaluation else None,
    ]
    return replace(result, label=" ".join(str(word) for word in words if word))


def read_results(
    targets: Sequence[str], *, evaluations: bool = False
) -> tuple[list[Result], list[GridResults]]:
    """Read the results that the targets name, in order, each once, with different labels.

    Args:
        targets: a JSON file, a run's folder, an experiment's name for its newest finished plain
            run, or the folder of a grid's page for its runs.
        evaluations: True to add the evaluations of each run that is not of a grid.

    Returns:
        The results, and the grids among the targets.

    Raises:
        ConfigError: a target has no result; or as ``read_record``.
    """
    found: dict[Path, Result] = {}
    grids = []
    for target in targets:
        if (Path(target) / PAGE).is_file():
            grids.append(GridResults.read(Path(target)))
            results = list(grids[-1].views[""].values())
            if not results:
                raise ConfigError(f"{target}: none of its runs is finished; repeat gestalt ablate")
        else:
            results = list(map(read_result, result_paths(target, evaluations)))
        for result in results:
            found.setdefault(result.path.resolve(), result)
    labels = Counter(result.label for result in found.values())
    results = []
    for path, result in found.items():
        label = f"{result.label} ({path})" if labels[result.label] > 1 else result.label
        results.append(replace(result, path=path, label=label))
    return results, grids
