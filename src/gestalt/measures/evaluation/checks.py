"""Checks of ``evaluation`` that need no other keys."""

from pathlib import Path

from gestalt.measures.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.keys import Evaluation
from gestalt.measures.segmentation.configured import check_segmentation, read_calibration
from gestalt.support.keys import Complaints, refuse, refuse_first
from gestalt.support.names import nearest


def check_evaluation(evaluation: Evaluation) -> None:
    """Refuse benchmarks, splits, protocols and thresholds that do not fit each other.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    names = evaluation.benchmarks
    for name in names:
        if name not in BENCHMARKS:
            hint = f"for your own file write ./{name}.yaml; " * Path(f"{name}.yaml").is_file()
            refuse("evaluation.benchmarks", name, hint + nearest(name, sorted(BENCHMARKS)))
    rows = [BENCHMARKS[name] for name in names]
    refuse_first(evaluation, _complaints(evaluation, rows), "evaluation.")
    if evaluation.calibration is not None:
        calibration = read_calibration(evaluation.calibration)
        calibration.check_scored(evaluation, benchmarks=[row.name for row in rows])
    elif evaluation.background == "threshold" and evaluation.threshold is None:
        why = "background=threshold needs a cosine, such as evaluation.threshold=0.2"
        refuse("evaluation.threshold", None, why)
    for row in rows:
        if "segmentation" in row.measures:
            check_segmentation(evaluation, row)


def _complaints(evaluation: Evaluation, rows: list[Benchmark]) -> Complaints:
    if len({row.name for row in rows}) < len(rows):
        yield "benchmarks", "a benchmark is named twice; name each once, or set name: in its file"
    for row in rows:
        if evaluation.split is not None and evaluation.split not in row.splits:
            choices = nearest(evaluation.split, row.splits) if row.splits else "choose null"
            yield "split", f"{row.name} has no such split to measure on; {choices}"
    for measure in MEASURES.values():
        name = getattr(evaluation, measure.key)
        if name is not None and name not in measure.protocols:
            yield measure.key, nearest(name, measure.protocols)
