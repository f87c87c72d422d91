"""The model card: ``README.md`` with a head that the hub reads, and results from records alone."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gestalt.config.schema import Experiment
from gestalt.config.schema_data import ONLY_SCENES, only_scenes
from gestalt.publishing.evidence import Evidence, Measurement, measurements
from gestalt.publishing.folder import portable
from gestalt.results.text import NONE, OVER_IMAGES, images_text, markdown_lines, span

TASKS = {
    "classification": "zero-shot-image-classification",
    "robustness": "zero-shot-image-classification",
    "retrieval": "zero-shot-retrieval",
}
SEGMENTATION = "image-segmentation"
"""Task of the other measures, and of the model."""

TAGS = ("gestalt", "clip", "zero-shot", "open-vocabulary", "semantic-segmentation", "perceptual-grouping")


class Described(NamedTuple):
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


def write_card(described: Described, evidence: Evidence) -> str:
    """Return the card as Markdown."""
    measured = measurements(evidence)
    head = ModelCardData(
        library_name="gestalt",
        license=described.license,
        datasets=list(described.datasets) or None,
        pipeline_tag=SEGMENTATION,
        tags=list(TAGS),
        model_name=described.name if measured else None,
        eval_results=[_eval_result(row) for row in measured] or None,
    )
    limits = _limits(described, measured, evidence)
    sections = [_opening(described), _use(described), _results(measured, evidence), limits, _training(described)]
    body = "\n\n".join("\n".join(lines) for lines in sections)
    return str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n{body}\n"))


def _eval_result(row: Measurement) -> EvalResult:
    """Return a measurement as the head lists it."""
    protocol, name = row.entry.get("protocol", {}), row.metric.partition("/")[2]
    facts = {"protocol": protocol.get("name"), "protocol_digest": protocol.get("digest"), "images": row.entry.get("images")}
    facts |= {"images_official": row.entry.get("images_official"), "label_set": row.entry.get("label_set")}
    facts |= {"interval_95": None if row.interval is None else [round(end, 6) for end in row.interval]}
    facts |= {"commit": row.result.commit}
    return EvalResult(
        task_type=TASKS.get(row.entry["measure"], SEGMENTATION),
        dataset_type=row.entry.get("image_set") or row.entry["set"],
        dataset_name=row.entry["set"],
        dataset_config=row.entry["set"],  # the hub puts results of equal type, config and split under one name
        dataset_split=_split(row),
        metric_type=name,
        metric_name=name,
        metric_value=round(row.value, 6),
        metric_args={key: value for key, value in facts.items() if value is not None},
    )


def _split(row: Measurement) -> str | None:
    """Return the split that was asked for; None for the set's default, on which results are published."""
    split: str | None = row.result.record["config"].get("evaluation", {}).get("split")
    return split


def _opening(described: Described) -> list[str]:
    image, text = described.config.image, described.config.text
    words = text.model.rpartition(":")[2].rpartition("/")[2] if text.family == "sentence" else text.family
    licence = described.license or "not stated; ask the authors before you use the weights"
    return [
        f"# {described.name}",
        "",
        "A contrastive vision-language model with a vector for each location of an image. It segments by phrases, and saw no masks.",
        "",
        f"- Experiment `{described.config.name}` at scale `{described.config.scale}`, {described.parameters:,} parameters.",
        f"- Image tower `{image.backbone}`, aggregation `{image.aggregation}`; text tower `{words}`, aggregation `{text.aggregation}`.",
        f"- Licence: {licence}.",
    ]


def _use(described: Described) -> list[str]:
    return [
        *("## Use", "", "```python", "import gestalt"),
        f"model = gestalt.load({json.dumps(described.name, ensure_ascii=False)})  # this folder, or its name on the hub, org/name",
        'print(model.segment("photo.jpg", ["dog", "grass"]).areas)',
        "```",
    ]


def _results(measured: Sequence[Measurement], evidence: Evidence) -> list[str]:
    if not measured:
        why = "The weights are not trained" if not evidence.steps else "No record was made with exactly these weights"
        return ["## Results", "", f"{why}: there are no results to state."]
    rows = []
    for row in measured:
        interval = NONE if row.interval is None else f"{row.interval.low:.3f} to {row.interval.high:.3f}"
        protocol = row.entry.get("protocol", {})
        named = f"{protocol.get('name', NONE)} `{protocol.get('digest', NONE)}`"
        scored, metric = row.metric.split("/", 1)
        split = _split(row)
        rows.append([f"{scored}, split {split}" if split else scored, metric, f"{row.value:.3f}", interval, named, images_text(row.entry)])
    heads = ["set", "metric", "value", "95 % interval", "protocol", "images scored"]
    return ["## Results", "", *markdown_lines(heads, rows), "", f"{OVER_IMAGES} All values are of single runs."]


def _limits(described: Described, measured: Sequence[Measurement], evidence: Evidence) -> list[str]:
    """Return the caveat of the training data, and what the records say was left out, or chosen here."""
    notes: dict[str, None] = {}
    if only_scenes(described.config.data):
        notes[f"{ONLY_SCENES[0].upper()}{ONLY_SCENES[1:]}."] = None
    for row in measured:
        protocol = row.entry.get("protocol", {})
        for key, words in (("left_out", "leaves out a step of the original"), ("ours", "makes a choice that the original does not state")):
            notes |= {f"Protocol {protocol.get('name')} {words}: {text}.": None for text in protocol.get(key, ())}
        if row.entry.get("images_official") not in (None, row.entry.get("images")):
            notes[f"{row.entry['set']} was scored on {images_text(row.entry)}; its numbers do not compare with published ones."] = None
    for result in evidence.results:
        left_out = [entry for entry in result.record["benchmarks"] if "left_out" in entry]
        notes |= {f"{entry['set']}: {entry['left_out']} was not measured, {portable(entry.get('why', ''))}.": None for entry in left_out}
    fixed = "Labels compete: every pixel takes the label that it resembles most, also where none fits, unless a threshold is given."
    return ["## Limits", "", *(f"- {note}" for note in (*notes, fixed))]


def _training(described: Described) -> list[str]:
    """Return the facts of the run; those that its record lacks are left out."""
    made, config = described.provenance, described.config
    data, seconds, planned = made.get("data", {}), made.get("seconds"), made.get("steps_planned")
    source = f"source `{config.data.source}`" + (f", digest `{data['digest']}`, {data['samples']:,} pairs" if data else "")
    source += f", manifest `{portable(config.data.manifest)}`" if config.data.manifest else ""
    lines = [f"run `{made['run']}`, checkpoint `{made['checkpoint']}`"] if made.get("run") else []
    lines += [
        f"{made['steps']:,} steps"
        + (f" of {planned:,} planned" if planned else "")
        + f", batches of {config.data.batch_size * config.trainer.accumulate_grad_batches}, seed {config.seed}",
        f"data: {source}",
        f"image init asked: `{config.image.init}`, used: `{made['origins']['image']['used']}`",
    ]
    lines += [f"the run took {span(seconds['training'])} of training, {span(sum(seconds.values()))} in all"] if seconds else []
    lines += [f"image tokens in a step: {made['tokens_kept']}"] if made.get("tokens_kept") else []
    lines += [f"code: commit `{made['commit']}`"] if made.get("commit") else ["the run is not finished, or its record is missing"]
    lines += [f"weights: SHA-256 `{made['weights_sha256']}` over all tensors"]
    return ["## Training", "", *(f"- {line[0].upper()}{line[1:]}." for line in lines)]
