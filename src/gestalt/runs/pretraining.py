"""Pretrain an image tower, and write its weights with their provenance."""

from dataclasses import replace
from pathlib import Path
from time import monotonic

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from gestalt.config.schema import Experiment, to_plain
from gestalt.data_modules.loading import MultiCropDataset, TrainingData
from gestalt.data_modules.pixels.augment import USUAL
from gestalt.data_modules.pixels.views import View, two_views
from gestalt.data_modules.sources import open_data
from gestalt.encoders.backbones import build_trunk
from gestalt.encoders.checkpoints import read_resumable
from gestalt.encoders.image import ImageTower
from gestalt.encoders.towers import build_image_tower
from gestalt.models.names import CHECKPOINT
from gestalt.pretraining.keys import recipe_of
from gestalt.pretraining.module import Classification, PatchDistillation, Pretrainer
from gestalt.results.record import provenance, write_record
from gestalt.runs.source import loading_processes
from gestalt.runs.training import build_bad_samples
from gestalt.support.files import Fields, file_hash, replacing
from gestalt.support.keys import refuse
from gestalt.training.checkpoints import EpochCheckpoint, SaveOnSignal, StepCheckpoint, restoring
from gestalt.training.progress import Clock, RunProgressBar, Speed
from gestalt.training.trainer import keywords_of, make_trainer

NOT_READ = {
    "max_epochs": -1,
    "max_time": None,
    "limit_train_batches": None,
    "gradient_clip_val": None,
    "limit_val_batches": 0,
}
"""Keyword arguments of the trainer that replace keys that pretraining does not read."""


def build_pretraining(config: Experiment) -> tuple[Pretrainer, TrainingData, nn.Module]:
    """Build the module that trains the tower, the image data, and the trunk of ``build_trunk``.

    The trunk has all tensors of the weights file. Random weights are drawn from
    ``pretraining.seed``.

    Raises:
        ConfigError: labels are needed and the source has none.
    """
    image, recipe = config.image, recipe_of(config.image.init, config.pretraining)
    source = open_data(
        replace(config.data, limit=config.pretraining.limit, crops=None, **USUAL._asdict()),
        size=recipe.image_size,
        seed=recipe.seed,
        object_centred=recipe.object_centred,
    )
    torch.manual_seed(recipe.seed)
    fresh = replace(
        image,
        init="random",
        inits={},
        weights=None,
        eval_size=recipe.crop_size,
        frozen=False,
        frozen_blocks=0,
    )
    untrimmed, tower = build_trunk(fresh), build_image_tower(fresh)
    module: Pretrainer
    views: tuple[View, ...] = two_views(recipe.crop_size)
    if image.init == "dino":
        module = PatchDistillation(tower, recipe)
    elif source.classes:
        module, views = Classification(tower, recipe, classes=len(source.classes)), views[:1]
    else:
        refuse(
            "image.init",
            image.init,
            f"needs labels, and data.source={config.data.source} has none; choose "
            "data.source=scenes, or --init dino",
        )
    data = TrainingData(
        source,
        MultiCropDataset(source, views, recipe.seed),
        batch_size=recipe.batch_size,
        workers=loading_processes(config),
        seed=recipe.seed,
        window=config.data.window_shards,
    )
    return module, data, untrimmed


def make(file: Path, config: Experiment, command: str) -> None:
    """Pretrain an image tower, and write its weights on the first rank.

    An interrupted run continues from its checkpoint. The folder beside the file has the run's
    configuration, log and checkpoint.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the gradient is NaN or infinite.
        TooManyBad: the share of unreadable images exceeds ``data.max_bad_share``.
        ValueError: labels are needed and the source has none, or the checkpoint is damaged.
    """
    folder = file.with_suffix("")
    checkpoint = folder / CHECKPOINT
    resume = checkpoint.is_file()
    if resume:
        # A damaged checkpoint is refused in one line.  Prototypes are not trained in the first
        # steps.
        read_resumable(checkpoint, partly_trained=True)
    module, data, untrimmed = build_pretraining(config)
    source = data.source
    bad_samples = build_bad_samples(config.data, samples=len(source))
    clock = Clock(monotonic())
    speed = Speed()
    bar = [RunProgressBar(speed)] if config.trainer.enable_progress_bar else []
    steps = StepCheckpoint(every_steps=config.pretraining.save_every_steps)
    saving = [SaveOnSignal(), EpochCheckpoint(), steps]
    trainer = make_trainer(
        folder,
        rank_timeout=config.rank_timeout,
        logger=TensorBoardLogger(
            folder.parent, name="", version=folder.name, default_hp_metric=False
        ),
        callbacks=[bad_samples, clock, speed, *saving, *bar],
        **keywords_of(config.trainer) | NOT_READ | {"max_steps": module.recipe.steps},
    )
    with restoring(checkpoint):
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=checkpoint if resume else None,
            weights_only=resume or None,
        )
    if not trainer.is_global_zero:
        return
    record = {
        "init": config.image.init,
        "command": command,
        "data": {
            "source": config.data.source,
            "images": len(source),
            "digest": source.digest(),
        },
        "bad_samples": bad_samples.record(),
        "steps": trainer.global_step,
        "seconds": clock.seconds,
        "config": to_plain(config),
        "provenance": provenance(),
    }
    size = module.recipe.crop_size
    write_init(file, module.tower, untrimmed=untrimmed, size=size, record=record)
    checkpoint.unlink(missing_ok=True)


def write_init(
    file: Path, tower: ImageTower, *, untrimmed: nn.Module, size: int, record: Fields
) -> None:
    """Write the weights of a tower, and a JSON file with mean, std, size and the provenance,
    atomically.

    The tower reads mean, std and size. The weights are written last.
    """
    from safetensors.torch import save

    # The trunk's tensors have timm's names; ``untrimmed`` provides the tensors that the tower
    # lacks.
    state = untrimmed.state_dict()
    for name, value in tower.trunk.state_dict().items():
        # Models that normalise after averaging name this layer differently.
        target = name if name in state else name.replace("norm.", "fc_norm.", 1)
        assert state[target].shape == value.shape
        state[target] = value.detach().cpu()
    state = {name: value.contiguous() for name, value in state.items()}
    pixels = {name: getattr(tower, name).flatten().tolist() for name in ("mean", "std")}
    with replacing(file) as partial:
        # The writer of safetensors does not raise OSError.
        partial.write_bytes(save(state))
        write_record(
            file.with_name(f"{file.name}.json"),
            {**pixels, "size": size, "sha256": file_hash(partial), **record},
        )
