"""Results: a results file (``result.json``), and the arrays in files beside it, which are checked
against the hashes in the results file.  torch is not imported.
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
"""Heads of the columns of ``Result.metric_rows``."""


VARIED = ("evaluation.", "image.")
"""Prefixes of the words in the command of an evaluation that set how it was measured."""


@dataclass(frozen=True, eq=False)
class Result:
    """The metrics of a run, or of one evaluation of a run.

    Attributes:
        label: name of the result in tables and messages.
        path: the JSON file.
        record: content of the JSON file.
        model: name of what was scored: the run, or the system that made the label maps.
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
        """The folder of the run."""
        return self.path.parents[1] if self.is_evaluation else self.path.parent

    @property
    def varied(self) -> list[str]:
        """Words that describe what was varied: the checkpoint, or the share of a run in mixed
        weights. For an evaluation, the words of the command that set how it was measured are added.
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
        """The commit of the code; ``unknown`` outside a git checkout."""
        return str(self.record["provenance"]["commit"])

    @property
    def supervision(self) -> dict[str, str]:
        """The supervision of training and scoring; ``unknown`` in results files of earlier
        versions, which did not store it.
        """
        return dict.fromkeys(FIELDS, UNKNOWN) | self.record.get("supervision", {})

    @property
    def substituted_init(self) -> str:
        """The requested pretrained weights of the image tower and the weights that were used; empty
        if they are the same.
        """
        init = self.record.get("image_init", {})
        requested, resolved = init.get("requested"), init.get("resolved")
        if requested == resolved:
            return ""
        return f"image.init requested {requested}, resolved to {resolved}"

    def value(self, metric: str) -> float | None:
        """Return the value of a metric; None if it was not measured."""
        value = self.record["metrics"].get(metric)
        return None if value is None else float(value)

    def entries(self, metric: str) -> list[Fields]:
        """Return the entries of the results file that describe how a metric was measured.

        If no entry lists the metric, as for single classes, all entries of its set are returned.
        """
        entries = [
            entry
            for entry in self.record["benchmarks"]
            if metric.startswith(f"{entry['set']}/") and "left_out" not in entry
        ]
        return [entry for entry in entries if metric in entry["metric_keys"]] or entries

    def entry(self, metric: str) -> Fields:
        """Return the first entry of ``entries``."""
        return self.entries(metric)[0]

    def part(self, metric: str) -> str:
        """Return the number of images that a metric was measured on as text; empty for the whole
        published set.
        """
        return next(filter(None, map(part_text, self.entries(metric))), "")

    def metric_rows(self, metrics: Iterable[str]) -> list[list[str]]:
        """Return a row for each metric: its key, value, interval and baselines.  Metrics that are
        baselines of another have no row.
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

    @lru_cache(maxsize=1)  # noqa: B019  # all metrics of a set use these arrays
    def arrays(self, name: str) -> dict[str, Array]:
        """Return the arrays of a set; empty if none were stored.

        Raises:
            ConfigError: the file is missing, or its hash differs from the hash in the results file.
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
        """Return the best and then the worst images of a set, with their predictions; None if none
        were stored.
        """
        folder = self.path.with_suffix("") if self.is_evaluation else self.run
        return read_predictions(folder / EXTREMES / f"{name}.npz")

    def interval(self, metric: str) -> Interval | None:
        """Return the 95 % interval of a metric over images.  If it is None, ``why_no_interval``
        returns the reason.
        """
        contribution = self.contribution(metric)
        return None if contribution is None else contribution.interval(contribution.samples)

    def why_no_interval(self, metric: str) -> str:
        """Return the reason why a metric has no interval, for a note."""
        contribution = self.contribution(metric)
        if contribution is not None:
            return contribution.reason or "the jackknife's interval is outside of 0 to 1"
        if self.arrays(metric.partition("/")[0]):
            return "none is computed from the arrays that were kept"
        return "no arrays of each image were kept"

    @lru_cache(maxsize=32)  # noqa: B019  # some MB each, without the arrays
    def contribution(self, metric: str) -> Contribution | None:
        """Return the contribution of each image to a metric; None if no arrays were stored.

        Raises:
            ConfigError: the arrays do not belong to the results file.
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
        # In retrieval, images without captions are no queries, but have a row.
        counted = entry["measure"] != "retrieval"
        if (counted and scored != images) or abs(found.value - value) > 1e-6:
            raise ConfigError(
                f"{self._arrays_path(image_set)}: its {scored} images give {metric} "
                f"{found.value:.6f}, but the record has {value:.6f} of {images}; evaluate again"
            )
        return found


def read_result(path: Path) -> Result:
    """Read a results file.  The label of the result is experiment, scale and version, and for an
    evaluation its number.
    """
    record = read_record(path)
    result = Result("", path, record)
    # For label maps, this is the name of the system that made them.
    name = record.get("name", replace(result, path=path.resolve()).run.name)
    if "interpolation" in record:  # the run's name, so that all shares of a run have one model
        name = Path(str(record.get("run"))).name
    words = [record.get("experiment"), record.get("scale"), name]
    model = " ".join(str(word) for word in words if word)
    number = f" evaluation {path.stem}" if result.is_evaluation else ""
    return replace(result, label=model + number, model=model)


def name_by_difference(results: Sequence[Result]) -> list[Result]:
    """Label each evaluation with the settings that distinguish it from the other results, such as
    ``evaluation.protocol=sclip-336``, and with its model if there are several.

    An evaluation that no setting distinguishes keeps its number.
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
    """Return the keys of the metrics that at least one result has, in order."""
    keys = (key for one in results for key in one.record["metrics"] if one.value(key) is not None)
    return list(dict.fromkeys(keys))


def headlines(results: Iterable[Result]) -> list[str]:
    """Return the headline metrics that at least one result has, in the order of the benchmarks."""
    return headlines_of(measured(results))


def headlines_of(keys: Collection[str]) -> list[str]:
    """Return the keys that are headline metrics of a measure, in the order of the benchmarks."""
    shown = dict.fromkeys(name for measure in MEASURES.values() for name in measure.headline)
    image_sets = dict.fromkeys(key.partition("/")[0] for key in keys)
    return [
        f"{name}/{metric}" for name in image_sets for metric in shown if f"{name}/{metric}" in keys
    ]


def companions(metrics: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Return name -> value of the baselines of a metric, whose keys are ``<metric>_<name>``.

    A key that itself has baselines is another metric.  It is left out together with its baselines.
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
