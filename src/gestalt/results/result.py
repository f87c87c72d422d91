"""Results: a record, and the arrays beside it, checked by the hashes in the record.  torch is not
imported.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.pictures import EXTREMES, Predictions, read_predictions
from gestalt.models.names import RESULT
from gestalt.results.intervals import Contribution, Interval, contribution
from gestalt.results.record import read_record
from gestalt.results.supervision import FIELDS, UNKNOWN
from gestalt.results.text import NONE, baselines_text, interval_text, part_text
from gestalt.support.arrays import Array, read_arrays
from gestalt.support.files import Fields, file_hash
from gestalt.support.typed import ConfigError

HEADS = ("metric", "value", "95 % over images", "baselines")
"""Heads of ``Result.metric_rows``."""


VARIED = ("evaluation.", "image.")
"""Prefixes of the words of an evaluation's command that say how it was measured."""


@dataclass(frozen=True, eq=False)
class Result:
    """The score of a run, or of one evaluation of it.

    Attributes:
        label: its name in tables and messages.
        path: the JSON file.
        record: the content of that file.
        model: what was scored: the run, or the system whose label maps were.
    """

    label: str
    path: Path
    record: Fields
    model: str = ""

    @property
    def is_evaluation(self) -> bool:
        """True for an evaluation, False for the run's own score."""
        return self.path.name != RESULT

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.path.parents[1] if self.is_evaluation else self.path.parent

    @property
    def varied(self) -> list[str]:
        """The checkpoint of an evaluation, or the share of a run in its weights, and the words of
        its command that say how it was measured; of a run, its checkpoint.
        """
        checkpoint = self.record.get("checkpoint")
        words = [] if checkpoint is None else [f"checkpoint={Path(checkpoint).name}"]
        if mixed := self.record.get("interpolation"):
            words = [f"{key}={str(value)[:12]}" for key, value in mixed.items()]
        if self.is_evaluation:
            words += [word for word in self.record["overrides"] if word.startswith(VARIED)]
        return [word for word in words if not word.startswith("evaluation.benchmarks=")]

    @property
    def commit(self) -> str:
        """Commit of the code; ``unknown`` outside a git checkout."""
        return str(self.record["provenance"]["commit"])

    @property
    def supervision(self) -> dict[str, str]:
        """Supervision of training and scoring; ``unknown`` in results files of earlier versions,
        which do not have it.
        """
        return dict.fromkeys(FIELDS, UNKNOWN) | self.record.get("supervision", {})

    @property
    def substituted_init(self) -> str:
        """The requested image init and what it was resolved to; empty if they are the same."""
        init = self.record.get("image_init", {})
        requested, resolved = init.get("requested"), init.get("resolved")
        if requested == resolved:
            return ""
        return f"image.init requested {requested}, resolved to {resolved}"

    def value(self, metric: str) -> float | None:
        """Return a metric by its key; None if it was not measured."""
        value = self.record["metrics"].get(metric)
        return None if value is None else float(value)

    def entries(self, metric: str) -> list[Fields]:
        """Return the record's entries on how a metric was measured; all entries of its set if none
        lists it, as for single classes.
        """
        entries = [
            entry
            for entry in self.record["benchmarks"]
            if metric.startswith(f"{entry['set']}/") and "left_out" not in entry
        ]
        return [entry for entry in entries if metric in entry["metric_keys"]] or entries

    def entry(self, metric: str) -> Fields:
        """Return the first of these entries."""
        return self.entries(metric)[0]

    def part(self, metric: str) -> str:
        """Return the number of images that a metric was measured on, if not on all of the published
        set; else empty.
        """
        return next(filter(None, map(part_text, self.entries(metric))), "")

    def metric_rows(self, metrics: Iterable[str]) -> list[list[str]]:
        """Return a row for each of some metrics that is no baseline of another: its key, value,
        interval and baselines.
        """
        values = self.record["metrics"]
        baselines = {key: companions(values, key) for key in metrics}
        shown_beside = {f"{key}_{name}" for key, names in baselines.items() for name in names}
        return [
            [
                key,
                f"{values[key]:.4f}",
                interval_text(self.interval(key), sign=""),
                baselines_text(names) or NONE,
            ]
            for key, names in baselines.items()
            if key not in shown_beside
        ]

    @lru_cache(maxsize=1)  # noqa: B019  # the metrics of a set share it
    def arrays(self, name: str) -> dict[str, Array]:
        """Return the arrays of a set; empty if none were kept.

        Raises:
            ConfigError: the file is missing, or not the one whose hash the record has.
        """
        if name not in self.record["arrays"]:
            return {}
        path = self._arrays_path(name)
        problem = ""
        if not path.is_file():
            problem = f"not found, but {self.path} was written with it"
        elif file_hash(path) != self.record["arrays"][name]["sha256"]:
            problem = f"not the file that {self.path} was written with"
        if problem:
            raise ConfigError(f"{path}: {problem}; evaluate again, or restore the file")
        return read_arrays(path)

    def _arrays_path(self, name: str) -> Path:
        return self.path.parent / str(self.record["arrays"][name]["file"])

    def extremes(self, name: str) -> Predictions | None:
        """Return the best, then the worst images of a set, with their predictions; None if none
        were kept.
        """
        folder = self.path.with_suffix("") if self.is_evaluation else self.run
        return read_predictions(folder / EXTREMES / f"{name}.npz")

    def interval(self, metric: str) -> Interval | None:
        """Return the 95 % interval of a metric over images; None if there is none, for the reason
        ``why_no_interval``.
        """
        contribution = self.contribution(metric)
        return None if contribution is None else contribution.interval(contribution.samples)

    def why_no_interval(self, metric: str) -> str:
        """Return the reason for which a metric has no interval, for a note."""
        contribution = self.contribution(metric)
        if contribution is not None:
            return contribution.reason or "the jackknife's interval is outside of 0 to 1"
        if self.arrays(metric.partition("/")[0]):
            return "none is computed from the arrays that were kept"
        return "no arrays of each image were kept"

    @lru_cache(maxsize=32)  # noqa: B019  # some MB each, without the arrays
    def contribution(self, metric: str) -> Contribution | None:
        """Return what each image contributed to a metric; None if no arrays were kept.

        Raises:
            ConfigError: the arrays do not belong to the record.
        """
        image_set, _, name = metric.partition("/")
        value = self.value(metric)
        if value is None:
            return None
        entry = self.entry(metric)
        found = contribution(self.arrays(image_set), name, entry)
        if found is None:
            return None
        scored, images = len(found.marks), entry["images"]
        # images without captions are no queries, and have a row
        counted = entry["measure"] != "retrieval"
        if (counted and scored != images) or abs(found.value - value) > 1e-6:
            raise ConfigError(
                f"{self._arrays_path(image_set)}: its {scored} images give {metric} "
                f"{found.value:.6f}, but the record has {value:.6f} of {images}; evaluate again"
            )
        return found


def read_result(path: Path) -> Result:
    """Read a result's JSON by ``read_record``.  Its label is experiment, scale and version, and the
    number of an evaluation.
    """
    record = read_record(path)
    result = Result("", path, record)
    # of the system whose label maps were scored
    name = record.get("name", replace(result, path=path.resolve()).run.name)
    if "interpolation" in record:  # of the run, so that shares of it are of one model
        name = Path(str(record.get("run"))).name
    words = [record.get("experiment"), record.get("scale"), name]
    model = " ".join(str(word) for word in words if word)
    number = f" evaluation {path.stem}" if result.is_evaluation else ""
    return replace(result, label=model + number, model=model)


def name_by_difference(results: Sequence[Result]) -> list[Result]:
    """Name each evaluation by what tells it from the other results, such as
    ``evaluation.protocol=sclip-336``, and by its model if there are several; one that nothing
    tells apart keeps its number.
    """
    if len(results) < 2:
        return list(results)
    shared = set.intersection(*(set(result.varied) for result in results))
    several = len({result.model for result in results}) > 1
    labels = []
    for result in results:
        words = [result.model] if several else []
        words += [word for word in result.varied if word not in shared]
        labels.append(" ".join(words))
    return [
        replace(result, label=label)
        if result.is_evaluation and label != result.model and labels.count(label) == 1 and label
        else result
        for result, label in zip(results, labels, strict=True)
    ]


def measured(results: Iterable[Result]) -> list[str]:
    """Return the keys of the metrics that any result has, in order."""
    keys = (key for one in results for key in one.record["metrics"] if one.value(key) is not None)
    return list(dict.fromkeys(keys))


def headlines(results: Iterable[Result]) -> list[str]:
    """Return the headline metrics that any result has, in the order of the benchmarks."""
    return headlines_of(measured(results))


def headlines_of(keys: Collection[str]) -> list[str]:
    """Return the headline metrics of the measures among keys, in the order of the benchmarks."""
    shown = dict.fromkeys(name for measure in MEASURES.values() for name in measure.headline)
    image_sets = dict.fromkeys(key.partition("/")[0] for key in keys)
    return [
        f"{name}/{metric}" for name in image_sets for metric in shown if f"{name}/{metric}" in keys
    ]


def companions(metrics: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Return the baselines of a metric, ``<metric>_<name>``, by name.

    A key that has baselines itself is another metric; it is left out with its baselines.
    """
    longer = {
        key.removeprefix(f"{metric}_"): value
        for key, value in metrics.items()
        if key.startswith(f"{metric}_") and value is not None
    }
    other_metrics = [name for name in longer if any(key.startswith(f"{name}_") for key in longer)]
    return {
        name: float(value)
        for name, value in longer.items()
        if not any(f"{name}_".startswith(f"{key}_") for key in other_metrics)
    }
