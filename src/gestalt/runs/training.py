"""Build the parts of training other than the model: the module with loss and optimiser, the data,
and the count of bad samples.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from gestalt.aggregation import mean_of_parts
from gestalt.config.schema import Experiment, to_plain
from gestalt.config.start import OF_CLASSIFIER
from gestalt.data_modules.image_text import CaptionReader, ImageTextDataModule
from gestalt.data_modules.keys import Data
from gestalt.data_modules.pixels.bad_samples import REASONS
from gestalt.data_modules.sources import Source
from gestalt.data_modules.validation import ImageSetDataModule
from gestalt.encoders.keys import train_size
from gestalt.encoders.text import TextTower
from gestalt.losses.build import build_loss, options_of
from gestalt.losses.captions import text_ids
from gestalt.losses.keys import Loss, terms_of
from gestalt.losses.noun_list import NounList, similar_nouns
from gestalt.losses.terms import Parts, Term
from gestalt.model import DualEncoder
from gestalt.runs.cache_key import kept_share
from gestalt.runs.source import check_shared, loading_processes, pairs_a_step
from gestalt.support.keys import refuse
from gestalt.tables import TERMS
from gestalt.training.bad_samples import FIRST_SAMPLES, BadSamples
from gestalt.training.micro_batches import batch_statistics
from gestalt.training.schedule import make_optimizer, rate_factor
from gestalt.training.trainer import on_cuda


def module_arguments(
    config: Experiment, model: DualEncoder, total_steps: int, nouns: NounList | None
) -> dict[str, Any]:
    """Return the arguments of ``ContrastiveModule``.

    Args:
        config: configuration of the run.
        model: model of the run.
        total_steps: number of steps of the run.
        nouns: nouns from ``list_nouns``.

    Raises:
        ValueError: batches are accumulated and the model's embeddings depend on the batch.
    """
    optimizer, parts = config.optimizer, config.trainer.accumulate_grad_batches
    mixing = batch_statistics(model)
    if parts > 1 and mixing:
        raise ValueError(
            f"trainer.accumulate_grad_batches={parts}: the batch norm {mixing[0]} takes its "
            "statistics from the images beside it, so that micro-batches would change the loss; "
            "choose 1, pretrained weights, whose statistics stay, or a backbone without batch norms"
        )
    if config.projection.order in OF_CLASSIFIER:
        _check_image_map(config)
        projection: Any = model.image.projection
        projection.train_names(optimizer.names_rate > 0)
    return {
        "model": model,
        "loss": build_loss(config.loss),
        "make_optimizer": partial(
            make_optimizer, keys=optimizer, fused=not config.trainer.precision.startswith("16")
        ),
        "rate_factor": partial(rate_factor, keys=optimizer, total=total_steps),
        "keep_share": kept_share(config.image),
        "seed": config.seed,
        "micro_batches": parts,
        "terms": build_terms(config, model, nouns),
        "weights": {
            "pairs": config.loss.pairs,
            **{_module_name(name): weight for name, weight in terms_of(config.loss).items()},
        },
        "crops": config.data.crops,
        "config": to_plain(config),
    }


def _check_image_map(config: Experiment) -> None:
    """Refuse a loss that does not train both the patches and the map of ``classifier_image``."""
    order, terms = config.projection.order, terms_of(config.loss)
    by_patches = "nouns" in terms and config.loss.nouns_pooling != "image"
    by_images = "nouns_of_images" in terms and config.image.aggregation == "cls"
    if order == "classifier_image" and not (by_patches and by_images):
        refuse(
            "projection.order",
            order,
            "needs loss.terms.nouns with loss.nouns_pooling=max or softmax for its patches, and "
            "loss.terms.nouns_of_images with image.aggregation=cls for its map",
        )


def build_data(
    config: Experiment, source: Source, validation: ImageSetDataModule | None
) -> ImageTextDataModule:
    """Build a Lightning data module with the training pairs and the validation sets.

    Its batch contains all pairs of a step, including those of accumulated batches.

    Raises:
        ConfigError: batches do not fit into shared memory.
    """
    workers = loading_processes(config, len(source))
    check_shared(config, workers)
    return ImageTextDataModule(
        source,
        size=train_size(config.image),
        batch_size=pairs_a_step(config),
        workers=workers,
        seed=config.seed,
        window=config.data.window_shards,
        validation=validation,
    )


def check_deterministic(config: Experiment) -> None:
    """Refuse deterministic training on CUDA if position embeddings are resized in every step.

    Resizing is bicubic, and torch has no deterministic CUDA kernel for its gradient (see the list
    of ``torch.use_deterministic_algorithms``).

    Raises:
        ConfigError: names the sizes and what to choose.
    """
    image = config.image
    resized = image.family == "vit" and image.subsampling and image.train_size != image.eval_size
    trained = not (image.frozen or image.frozen_blocks)
    if config.trainer.deterministic and resized and trained and on_cuda(config.trainer):
        refuse(
            "trainer.deterministic",
            True,
            "on CUDA the gradient of resized position embeddings is not deterministic; choose "
            f"image.train_size={image.eval_size} as image.eval_size, trainer.deterministic=false "
            "or trainer.accelerator=cpu",
        )


def caption_reader(model: DualEncoder, nouns: NounList | None = None) -> CaptionReader:
    """Build the function that hashes and tokenises captions, and finds their nouns.

    It runs in the loading processes, so that training steps do not wait for it.
    """
    return partial(_read_captions, tower=model.text_tower.without_weights(), nouns=nouns)


def _read_captions(
    texts: list[str], *, tower: TextTower, nouns: NounList | None
) -> dict[str, Tensor]:
    """Return ids and tokens of a batch's captions.

    A bad pair has an empty text. It gets the tokens of a good pair, which no step uses.
    """
    fields = {"text_id": text_ids(texts)}
    if nouns is not None:
        fields["nouns"] = nouns.mark(texts)
    good = next(filter(None, texts), None)
    if good is None:
        return fields
    ids, mask = tower.pad([text or good for text in texts])
    return {**fields, "token_ids": ids, "token_mask": mask}


HINTS_OF_TABLE = {
    "broken_row": "a caption that contains the separator must be in double quotes",
    "missing_image": (
        "if the folder is wrong, set data.options.images, which a table's file names are relative "
        "to"
    ),
}
"""Reason for bad samples in a table -> the fix to suggest."""


def build_bad_samples(data: Data, *, samples: int = FIRST_SAMPLES) -> BadSamples:
    """Build the callback that counts unreadable samples, and stops a run with too many.
    ``samples`` is the number of samples in the data.
    """
    sources = (data.source, *(part.source for part in data.mixture))
    return BadSamples(
        REASONS,
        max_share=data.max_bad_share,
        samples=samples,
        hints=HINTS_OF_TABLE if "table" in sources else {},
    )


def build_terms(config: Experiment, model: DualEncoder, nouns: NounList | None) -> dict[str, Term]:
    """Build the auxiliary losses with a weight above 0.  The initial parameters of each depend only
    on ``seed``.
    """
    if not terms_of(config.loss):
        return {}
    if nouns is not None and config.loss.nouns_alike is not None:
        nouns = NounList(nouns.nouns, similar=_similar(config.loss, model, nouns))
    parts = Parts(
        config.loss,
        nouns,
        pad=model.text_tower.without_weights().pad,
        tower_width=model.image_tower.width,
        width=config.projection.width,
        seed=config.seed,
    )
    terms = {}
    with torch.random.fork_rng(devices=[]):  # an auxiliary loss changes no other random draw
        for name in terms_of(config.loss):
            torch.manual_seed(config.seed)
            function = TERMS[name]
            term = function(parts, **options_of(config.loss, name, function))
            terms[_module_name(name)] = term
    return terms


def _module_name(term: str) -> str:
    """Return the submodule name of an auxiliary loss.

    torch allows no dot in the name of a submodule. Dots are replaced with colons, which no Python
    name has, so that names stay distinct.
    """
    return term.replace(".", ":")


def _similar(loss: Loss, model: DualEncoder, nouns: NounList) -> Tensor:
    """Return which nouns are too similar to be negatives of each other, (V, V) bool, from the text
    tower's embeddings before training.

    Raises:
        ConfigError: a noun would have no negative.
    """
    level = loss.nouns_alike
    assert level is not None
    tower = model.text_tower
    training = tower.training
    phrases = tower.pad([loss.nouns_phrase.replace("{}", noun) for noun in nouns.nouns])
    with torch.no_grad():
        embeddings = mean_of_parts(tower.eval()(phrases))
    tower.train(training)
    similar = similar_nouns(embeddings, level=level)
    alone = int(similar.all(dim=1).sum())
    if alone:
        refuse(
            "loss.nouns_alike",
            level,
            f"{alone} of {len(nouns)} nouns are like every other noun, which leaves them no "
            "negative; raise loss.nouns_alike, or choose a loss.nouns_phrase with fewer words "
            "besides the noun",
        )
    return similar
