"""Experiment -> objects.  The only room that knows both the data and the model."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback

from data_modules.corpora.bad_samples import REASONS
from data_modules.image_sets import ImageSet, open_image_set
from data_modules.image_text import ImageTextDataModule
from data_modules.sources import Source
from data_modules.validation import ImageSetDataModule
from gestalt.aggregation import build_aggregation
from gestalt.building.evaluation import MEASURES, build_segmentation
from gestalt.building.pretraining import architecture, product_of
from gestalt.building.source import open_configured
from gestalt.callbacks.bad_samples import BadSamples
from gestalt.callbacks.exactness import OneThreadValidation
from gestalt.config.schema import ConfigError, Experiment, uses_made
from gestalt.encoders.image import build_image_tower, check_backbone
from gestalt.encoders.text import build_text_tower
from gestalt.encoders.text_sentence import check_layers
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.dense.windows import PatchCache
from gestalt.loss import contrastive_loss
from gestalt.measures.callback import Scorer
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.model import DualEncoder, Side
from gestalt.module import ContrastiveModule
from gestalt.projection import Projection
from gestalt.schedule import build_optimizer, parameter_groups, warmup_cosine


def used_init(config: Experiment) -> str:
    """What ``image.init`` resolves to at this scale."""
    return config.image.inits.get(config.image.init, config.image.init) if config.image.weights is None else config.image.init


def image_weights(config: Experiment) -> tuple[str, str | None]:
    """The init of the image tower, and the file it is read from where that is a local one; what is made here is such a file.

    Raises:
        ValueError: it was not made yet.
    """
    if not uses_made(config):
        return used_init(config), config.image.weights
    product, init = product_of(config), config.image.init
    if not product.exists():
        command = f"gestalt pretrain --init {init} --scale {config.scale}"
        raise ConfigError(f"image.init={init}: {product.file} is not there; `gestalt train` makes it, and so does `{command}`")
    return init, str(product.file)


def check_names(config: Experiment) -> None:
    """Refuse a backbone that timm does not know and layers that the text model has not, before any data or weights are read.

    Raises:
        ValueError: names the key and the nearest backbones, or how many layers there are.
    """
    check_backbone(config.image.backbone, family=config.image.family)
    if config.text.family == "sentence" and config.text.layers is not None:
        check_layers(config.text.model, layers=config.text.layers)


def check_machine(config: Experiment) -> None:
    """Refuse an accelerator that this machine has not, and a precision that its own has not, before a run's folder is made.

    Raises:
        ValueError: names the key and what would be right.
    """
    asked, there = config.trainer.accelerator, {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there["gpu"] = there["cuda"] or there["mps"]
    if not there.get(asked, True):
        raise ValueError(f"trainer.accelerator={asked}: torch finds none on this machine; choose auto or cpu")
    if config.trainer.precision.startswith("16") and (asked == "cpu" or not there["gpu"]):
        raise ValueError(f"trainer.precision={config.trainer.precision}: a CPU has no float16; choose bf16-mixed or 32-true")


def build_model(config: Experiment) -> DualEncoder:
    """Both towers with their weights; fresh weights are drawn from ``seed``."""
    torch.manual_seed(config.seed)
    image, text = config.image, config.text
    init, weights = image_weights(config)
    image_tower = build_image_tower(
        image.backbone,
        family=image.family,
        init=init,
        weights=weights,
        size=image.eval_size,
        **architecture(config),
        frozen=image.frozen,
        gradient_checkpointing=image.gradient_checkpointing,
    )
    if uses_made(config):
        image_tower.origin = replace(image_tower.origin, source=f"made here, {weights}")
    text_tower = build_text_tower(
        text.family,
        model=text.model,
        init=text.init,
        layers=text.layers,
        width=text.width,
        heads=text.heads,
        max_length=text.max_length,
        frozen=text.frozen,
    )
    return DualEncoder(
        _side(image_tower, image_tower.width, aggregation=image.aggregation, config=config),
        _side(text_tower, text_tower.width, aggregation=text.aggregation, config=config),
    )


def _side(tower: torch.nn.Module, width: int, *, aggregation: str, config: Experiment) -> Side:
    order, shared = config.projection.order, config.projection.width
    if order == "none" and width != shared:
        raise ConfigError(f"projection.order=none: a tower is {width} wide and projection.width is {shared}; choose before or after")
    projection = None if order == "none" else Projection(width, shared)
    pooled = width if order == "after" else shared
    return Side(tower, projection, aggregation=build_aggregation(aggregation, pooled), project_first=order != "after")


def train_size(config: Experiment) -> int:
    """Side of the images that are trained on, pixels."""
    return config.image.train_size if config.image.subsampling else config.image.eval_size


def build_source(config: Experiment) -> Source:
    """The training pairs, at the size that the image tower trains on."""
    return open_configured(config, size=train_size(config), seed=config.seed, limit=config.data.limit)


def steps(config: Experiment, source: Source) -> tuple[int, int]:
    """Steps an epoch, and steps of the whole run.

    Raises:
        ConfigError: fewer pairs than one batch.
    """
    epoch = len(source) // config.data.batch_size
    if epoch == 0:
        raise ConfigError(f"data.batch_size={config.data.batch_size}: the source has {len(source)} pairs; choose a batch that it fills")
    if config.trainer.limit_train_batches is not None:
        epoch = min(epoch, config.trainer.limit_train_batches)
    ends = [config.trainer.max_steps] if config.trainer.max_steps > 0 else []
    ends += [config.trainer.max_epochs * epoch] if config.trainer.max_epochs not in (None, -1) else []
    total = min(ends)
    warmup_cosine(0, warmup=config.optimizer.warmup_steps, total=total, final=config.optimizer.final_rate)  # refuses what does not fit
    return epoch, total


def build_module(config: Experiment, model: DualEncoder, *, total_steps: int) -> ContrastiveModule:
    """The model with its loss, optimiser and schedule."""
    optimizer = config.optimizer

    def make_optimizer(trained: DualEncoder) -> torch.optim.Optimizer:
        groups = parameter_groups(
            trained,
            learning_rate=optimizer.learning_rate,
            weight_decay=optimizer.weight_decay,
            image_rate=optimizer.image_rate,
            text_rate=optimizer.text_rate,
            layer_decay=optimizer.layer_decay,
        )
        scaled = config.trainer.precision.startswith("16")
        return build_optimizer(optimizer.name, groups, betas=optimizer.betas, eps=optimizer.eps, fused=not scaled)

    return ContrastiveModule(
        model,
        loss=partial(contrastive_loss, directions=config.loss.directions, equal_texts=config.loss.equal_texts),
        make_optimizer=make_optimizer,
        rate_factor=partial(warmup_cosine, warmup=optimizer.warmup_steps, total=total_steps, final=optimizer.final_rate),
        keep_share=config.image.keep_tokens if config.image.subsampling else 1.0,
        seed=config.seed,
    )


def build_image_sets(config: Experiment) -> dict[str, ImageSet]:
    """The image sets of all benchmarks by name, each opened once with the label sets that are asked for."""
    wanted: dict[str, list[str]] = {}
    for benchmark in (BENCHMARKS[name] for name in config.evaluation.benchmarks):
        wanted.setdefault(benchmark.image_set, []).extend([benchmark.label_set] if benchmark.label_set else [])
    return {name: _build_image_set(config, name, label_sets=label_sets) for name, label_sets in wanted.items()}


def _build_image_set(config: Experiment, name: str, *, label_sets: list[str]) -> ImageSet:
    benchmark = next(row for row in BENCHMARKS.values() if row.image_set == name)
    shared = benchmark.source == config.data.source  # its files are those that are trained on
    root = config.data.root if shared else config.benchmark_root if benchmark.needs_root else None
    options: dict[str, Any] = {"recipe": config.data.recipe} if benchmark.source == "scenes" else {}
    split, limit, subset = config.evaluation.split, config.evaluation.limit, config.benchmark_subset
    return open_image_set(name, root=root, split=split, limit=limit, subset=subset, label_sets=label_sets, **options)


def build_evaluation(config: Experiment) -> tuple[ImageSetDataModule, list[Callback]]:
    """Validation data, and the callbacks that score it exactly."""
    image_sets = build_image_sets(config)
    callbacks: list[Callback] = []
    caches = {key: PatchCache() for key in image_sets}
    for name in config.evaluation.benchmarks:
        image_set = image_sets[BENCHMARKS[name].image_set]
        if "segmentation" in BENCHMARKS[name].measures:
            callbacks.append(build_segmentation(config, name, image_set=image_set, cache=caches[BENCHMARKS[name].image_set]))
        wanted = [build for measure, build in MEASURES.items() if measure in BENCHMARKS[name].measures]
        callbacks += [build(config, name, image_set=image_set) for build in wanted]
    official = {one.name: one.official_length for one in image_sets.values()}
    for scorer in (one for one in callbacks if isinstance(one, Scorer)):
        scorer.official = official[scorer.image_set]
    windows = any(isinstance(one, Segmentation) and one.protocol.window is not None for one in callbacks)
    if config.image.family == "cnn" or config.image.stem == "conv" or windows:
        callbacks.insert(0, OneThreadValidation())
    data = ImageSetDataModule(list(image_sets.values()), batch_size=config.evaluation.batch_size, workers=min(config.data.workers, 2))
    return data, callbacks


def build_data(config: Experiment, source: Source, *, validation: ImageSetDataModule | None) -> ImageTextDataModule:
    """Training pairs and validation sets in one Lightning data module."""
    data = config.data
    return ImageTextDataModule(
        source,
        size=train_size(config),
        batch_size=data.batch_size,
        workers=data.workers,
        seed=config.seed,
        window=data.window_shards,
        validation=validation,
    )


def build_bad_samples(config: Experiment) -> BadSamples:
    """What counts the samples that cannot be read, and stops a run with too many."""
    return BadSamples(REASONS, max_share=config.data.max_bad_share)
