"""Export: a checkpoint as a folder that loads anywhere, written whole and read back before it
appears.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gestalt.config.loading import code_of
from gestalt.config.schema import Experiment
from gestalt.evaluation.weights import weights_hash
from gestalt.model import DualEncoder
from gestalt.publishing.card import CardFacts, gather, provenance_of, write_card
from gestalt.publishing.folder import CARD, load_folder, read_description, save_folder
from gestalt.support.files import partial_beside

PROBE = ["a photo of a dog", "Zebras, 2 of them; ünïcode", "x " * 200]
"""Texts that the exported tokenizer must tokenise as the model's does."""


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside ``folder`` that takes its place when the block ends without an error.

    A symbolic link stays: the folder that it names is written.
    """
    folder = folder.resolve()
    partial = partial_beside(folder)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():  # empty, or the system refuses
            folder.rmdir()
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def export_checkpoint(
    model: DualEncoder,
    config: Experiment,
    *,
    checkpoint: Path,
    folder: Path,
    license: str | None,
    datasets: Sequence[str],
) -> Path:
    """Write a run's checkpoint as a folder with weights, configuration, tokenizer and model card.

    Args:
        model: the checkpoint's model, in eval mode.
        config: configuration of its run.
        checkpoint: in the ``checkpoints/`` of the run.
        folder: missing or empty.
        license: an identifier of the hub's list, for the card; None to state none.
        datasets: names on the hub of the training data, for the card.

    Raises:
        ValueError: the folder holds something, a record cannot be read, or what was written does
            not load as the same model.
    """
    folder = folder.absolute()
    evidence = gather(checkpoint, weights=weights_hash(model))
    provenance = provenance_of(evidence, config, checkpoint=checkpoint)
    name = config.data.options.get("name")
    if not datasets and config.data.source == "hub" and isinstance(name, str):
        datasets = [name]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with _new_folder(folder) as partial:
        save_folder(model, config, path=partial, provenance=provenance)
        written = read_description(partial)["provenance"]
        facts = CardFacts(folder.name, config, parameters, written, license, datasets)
        (partial / CARD).write_text(write_card(facts, evidence), encoding="utf-8")
        # which compares the weights with their hash
        again = load_folder(partial, code_of(config))
        if again.text_tower.tokenise(PROBE) != model.text_tower.tokenise(PROBE):
            raise ValueError(
                "export: the exported tokenizer tokenises texts differently from the model's; "
                "nothing was written"
            )
    return folder
