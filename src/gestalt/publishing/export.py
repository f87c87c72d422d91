"""Export a checkpoint as a folder that loads anywhere.

The folder is read back before it appears, and appears only when complete. It contains a model card,
``README.md``, with metadata for the hub. The card has only results that belong to the weights of
the checkpoint.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import ModelCard, ModelCardData

from gestalt.config.schema import Experiment
from gestalt.config.start import read_start
from gestalt.config.trust import code_of
from gestalt.data_modules.keys import ONLY_SCENES, Data, only_scenes
from gestalt.encoders.weights import weights_hash
from gestalt.model import DualEncoder
from gestalt.models.between import TEXTS
from gestalt.models.folder import CARD, load_folder, portable, read_description, save_folder
from gestalt.models.names import RESULT, progress, run_of
from gestalt.results.record import commit, evaluations_in, package_version
from gestalt.results.result import HEADS, Result, headlines, read_result
from gestalt.results.templates import render
from gestalt.results.text import OVER_IMAGES, Table, images_text, span
from gestalt.support.addresses import published
from gestalt.support.files import Fields, partial_folder


def gather(config: Experiment, checkpoint: Path, *, weights: str) -> tuple[Fields, list[Result]]:
    """Return the provenance of a checkpoint's weights for an exported folder, and the results of
    its run that belong to these weights.

    The provenance describes how the weights were made, from which data, and with which versions
    they were exported. Untrained weights have no results.

    Raises:
        ValueError: a results file was edited or has a newer version, or the checkpoint cannot be
            read.
    """
    steps, planned = progress(checkpoint)
    folder = checkpoint.resolve().parent.parent
    paths = (folder / RESULT, *evaluations_in(folder)) if run_of(checkpoint) else ()
    results = [read_result(path) for path in paths if path.is_file()]
    run = next((result.record for result in results if not result.is_evaluation), {})
    made = run.get("provenance", {})
    provenance = {
        "experiment": config.name,
        "scale": config.scale,
        "seed": config.seed,
        "config_hash": run.get("config_hash"),
        "commit": made.get("commit"),
        "packages": {
            name: version
            for name, version in made.get("packages", {}).items()
            if version != "not installed"
        },
        "steps": steps or 0,
        "steps_planned": planned,
        "seconds": run.get("seconds"),
        "tokens_kept": run.get("tokens_kept"),
        "data": {
            key: run["data"][key] for key in ("digest", "samples") if key in run.get("data", {})
        },
        "run": f"{config.name}/{config.scale}/{folder.name}",
        "checkpoint": checkpoint.name,
        "weights_sha256": weights,
        "exported_by": {"gestalt": package_version("gestalt-grouping"), "commit": commit()},
    }
    matching = [result for result in results if result.record.get("weights_sha256") == weights]
    return provenance, matching if steps else []


def measurements(results: Sequence[Result]) -> list[tuple[Result, str]]:
    """Return the headline metrics of the results, each with its result.

    If several results measure the same, such as two equal evaluations, the last is used.
    """
    last = {}
    for result in results:
        for metric in headlines([result]):
            entry = result.entry(metric)
            known = (entry.get(key) for key in ("images", "label_set", "benchmark_hash"))
            last[metric, entry["protocol"]["digest"], *known] = result, metric
    return list(last.values())


TAGS = [
    "gestalt",
    "clip",
    "zero-shot",
    "open-vocabulary",
    "semantic-segmentation",
    "perceptual-grouping",
]


class CardFacts(NamedTuple):
    """The facts that a model card states.

    Attributes:
        name: name of the model.
        config: configuration of its run.
        parameters: number of parameters.
        provenance: provenance in ``config.json``.
        license: identifier from the hub's list; None if none was given.
        datasets: names of the training data on the hub.
    """

    name: str
    config: Experiment
    parameters: int
    provenance: Fields
    license: str | None
    datasets: list[str]


def write_card(facts: CardFacts, results: Sequence[Result]) -> str:
    """Return the model card as Markdown.  ``results`` are the results of the weights."""
    measured, config = measurements(results), facts.config
    head = ModelCardData(
        library_name="gestalt",
        license=facts.license,
        datasets=facts.datasets or None,
        pipeline_tag="image-segmentation",
        tags=TAGS,
    )
    seconds = facts.provenance["seconds"]
    time = ""
    if seconds:
        time = f"{span(seconds['training'])} of training, {span(sum(seconds.values()))} in all"
    heads = (*HEADS, "protocol", "images scored")
    body = render(
        Path(__file__).with_name("card.jinja"),
        **facts._asdict(),
        quoted_name=json.dumps(facts.name, ensure_ascii=False),
        text_model=config.text.model.rpartition(":")[2].rpartition("/")[2]
        if config.text.family == "sentence"
        else config.text.family,
        table=Table("", heads, [_row(*row) for row in measured]).markdown() if measured else "",
        over_images=OVER_IMAGES,
        time=time,
        notes=_notes(config.data, results),
        manifest=portable(config.data.manifest),
        started=read_start(config.start or "").tower,
    )
    return published(str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n{body}")))


def _row(result: Result, metric: str) -> list[str]:
    """Return a row of the card's table for one metric of a result."""
    entry = result.entry(metric)
    protocol = entry["protocol"]
    ((name, *numbers),) = result.metric_rows([metric])
    # None is the set's default split, on which results are published
    split = result.record["config"].get("evaluation", {}).get("split")
    return [
        f"{name}, split {split}" if split else name,
        *numbers,
        f"{protocol['name']} `{protocol['digest']}`",
        images_text(entry),
    ]


def _notes(data: Data, results: Sequence[Result]) -> list[str]:
    """Return the notes of the card, each once: the caveat of the training data, the steps that
    protocols leave out or choose differently, and the parts of benchmarks that were not scored.
    """
    notes = [f"{ONLY_SCENES[0].upper()}{ONLY_SCENES[1:]}."] if only_scenes(data) else []
    for result, metric in measurements(results):
        entry = result.entry(metric)
        protocol = entry["protocol"]
        name = f"Protocol {protocol['name']}"
        for text in protocol.get("left_out", ()):
            notes.append(f"{name} leaves out a step of the original: {text}.")
        for text in protocol.get("ours", ()):
            notes.append(f"{name} makes a choice that the original does not state: {text}.")
        if entry.get("images_official") not in (None, entry["images"]):
            notes.append(
                f"{entry['set']} was scored on {images_text(entry)}; its numbers do not compare "
                "with published ones."
            )
    for result in results:
        for entry in result.record["benchmarks"]:
            if "left_out" in entry:
                why = portable(entry["why"])
                notes.append(f"{entry['set']}: {entry['left_out']} was not measured, {why}.")
    return list(dict.fromkeys(notes))


def export_checkpoint(
    model: DualEncoder,
    config: Experiment,
    *,
    checkpoint: Path,
    folder: Path,
    license: str | None,
    datasets: list[str],
    interpolation: Fields | None = None,
) -> Path:
    """Write a run's checkpoint as a folder with weights, configuration, tokenizer and model card.

    Args:
        model: the checkpoint's model, in eval mode.
        config: configuration of its run.
        checkpoint: file in the folder ``checkpoints/`` of the run.
        folder: folder to write; it must be empty or not exist.
        license: identifier from the hub's list, for the card; None to state none.
        datasets: names of the training data on the hub, for the card.
        interpolation: the share of the run in mixed weights, and the hashes of both models; None if
            the weights are those of the checkpoint.

    Raises:
        ValueError: the folder is not empty, a results file cannot be read, or the written folder
            does not load as the same model.
    """
    folder = folder.absolute()
    provenance, results = gather(config, checkpoint, weights=weights_hash(model))
    if interpolation is not None:
        provenance["interpolation"] = interpolation
    parameters = sum(parameter.numel() for parameter in model.parameters())
    place = folder.resolve()  # a symbolic link is kept, and its target is written
    with partial_folder(place) as partial:
        save_folder(model, config, path=partial, provenance=provenance)
        written = read_description(partial)
        facts = CardFacts(folder.name, config, parameters, written.provenance, license, datasets)
        (partial / CARD).write_text(write_card(facts, results), encoding="utf-8")
        # loading compares the weights with their hash
        again = load_folder(partial, [*code_of(config)], description=written)
        if again.text_tower.tokenise(TEXTS) != model.text_tower.tokenise(TEXTS):
            raise ValueError(
                "export: the exported tokenizer tokenises texts differently from the model's; "
                "nothing was written"
            )
        if place.exists():  # the system refuses to remove a folder with files
            place.rmdir()
        os.replace(partial, place)
    return folder
