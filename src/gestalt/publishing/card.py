"""The model card: ``README.md`` with a head that the hub reads, and results from records alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gestalt.config.schema import Experiment
from gestalt.config.schema_data import ONLY_SCENES, only_scenes
from gestalt.publishing.evidence import Evidence, Measurement, measurements
from gestalt.publishing.folder import portable
from gestalt.results.page import render
from gestalt.results.text import NONE, images_text, markdown_lines
from gestalt.support.addresses import published

HEADS = ("set", "metric", "value", "95 % interval", "protocol", "images scored")
TASKS = {
    "classification": "zero-shot-image-classification",
    "robustness": "zero-shot-image-classification",
    "retrieval": "zero-shot-retrieval",
}
SEGMENTATION = "image-segmentation"
"""Task of the other measures, and of the model."""

TAGS = (
    "gestalt",
    "clip",
    "zero-shot",
    "open-vocabulary",
    "semantic-segmentation",
    "perceptual-grouping",
)


class CardFacts(NamedTuple):
    """The facts that a model card states.

    Attributes:
        name: name of the model.
        config: configuration of its run.
        parameters: their number.
        provenance: as in ``config.json``.
        license: an identifier of the hub's list; None if none was given.
        datasets: names on the hub of the training data.
    """

    name: str
    config: Experiment
    parameters: int
    provenance: dict[str, Any]
    license: str | None
    datasets: Sequence[str]


def write_card(facts: CardFacts, evidence: Evidence) -> str:
    """Return the card as Markdown."""
    measured, config = measurements(evidence), facts.config
    head = ModelCardData(
        library_name="gestalt",
        license=facts.license,
        datasets=list(facts.datasets) or None,
        pipeline_tag=SEGMENTATION,
        tags=list(TAGS),
        model_name=facts.name if measured else None,
        eval_results=[_eval_result(row) for row in measured] or None,
    )
    body = render(
        Path(__file__).with_name("card.jinja"),
        **facts._asdict(),
        quoted_name=json.dumps(facts.name, ensure_ascii=False),
        text_model=config.text.model.rpartition(":")[2].rpartition("/")[2]
        if config.text.family == "sentence"
        else config.text.family,
        table=markdown_lines(HEADS, [_row(row) for row in measured]) if measured else [],
        steps=evidence.steps,
        notes=_notes(facts, measured, evidence),
        manifest=portable(config.data.manifest),
    )
    return published(str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n{body}")))


def _eval_result(row: Measurement) -> EvalResult:
    """Return a measurement as the head lists it."""
    name = row.metric.partition("/")[2]
    facts = {
        "protocol": row.entry["protocol"]["name"],
        "protocol_digest": row.entry["protocol"]["digest"],
        "images": row.entry["images"],
        "images_official": row.entry.get("images_official"),
        "label_set": row.entry.get("label_set"),
        "interval_95": None if row.interval is None else [round(end, 6) for end in row.interval],
        "commit": row.commit,
    }
    return EvalResult(
        task_type=TASKS.get(row.entry["measure"], SEGMENTATION),
        dataset_type=row.entry.get("image_set") or row.entry["set"],
        dataset_name=row.entry["set"],
        # the hub puts results of equal type, config and split under one name
        dataset_config=row.entry["set"],
        dataset_split=row.split,
        metric_type=name,
        metric_name=name,
        metric_value=round(row.value, 6),
        metric_args={key: value for key, value in facts.items() if value is not None},
    )


def _row(row: Measurement) -> list[str]:
    """Return a measurement as a row of the table under ``HEADS``."""
    scored, metric = row.metric.split("/", 1)
    protocol = row.entry["protocol"]
    return [
        f"{scored}, split {row.split}" if row.split else scored,
        metric,
        f"{row.value:.3f}",
        NONE if row.interval is None else f"{row.interval.low:.3f} to {row.interval.high:.3f}",
        f"{protocol['name']} `{protocol['digest']}`",
        images_text(row.entry),
    ]


def _notes(facts: CardFacts, measured: Sequence[Measurement], evidence: Evidence) -> list[str]:
    """Return the caveat of the training data, and what the records say was left out, or chosen
    here; each once.
    """
    notes = []
    if only_scenes(facts.config.data):
        notes.append(f"{ONLY_SCENES[0].upper()}{ONLY_SCENES[1:]}.")
    for row in measured:
        protocol = row.entry["protocol"]
        name = f"Protocol {protocol['name']}"
        for text in protocol.get("left_out", ()):
            notes.append(f"{name} leaves out a step of the original: {text}.")
        for text in protocol.get("ours", ()):
            notes.append(f"{name} makes a choice that the original does not state: {text}.")
        if row.entry.get("images_official") not in (None, row.entry.get("images")):
            notes.append(
                f"{row.entry['set']} was scored on {images_text(row.entry)}; its numbers do not "
                "compare with published ones."
            )
    for result in evidence.results:
        for entry in result.record["benchmarks"]:
            if "left_out" in entry:
                notes.append(
                    f"{entry['set']}: {entry['left_out']} was not measured, "
                    f"{portable(entry.get('why', ''))}."
                )
    return list(dict.fromkeys(notes))
