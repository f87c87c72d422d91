"""Configurations that ``gestalt pretrain`` cannot run."""

from gestalt.config.schema import Experiment
from gestalt.support.keys import Complaints, refuse_first

PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def check_pretraining(config: Experiment, *, init: str) -> None:
    """Refuse keys with which an init cannot be made.

    Raises:
        ConfigError: names the key and what to choose.
    """
    refuse_first(config, _complaints(config, init=init))


def _complaints(config: Experiment, *, init: str) -> Complaints:
    image, crop = config.image, config.pretraining.crop_size
    if image.init != init:
        yield "image.init", f"--init {init} says what is made; leave the key out"
    if config.start is not None:
        yield "start", "pretraining starts from random weights; choose null"
    if image.weights is not None:
        yield "image.weights", "pretraining starts from random weights; choose null"
    if image.family != "vit":
        yield "image.family", "pretraining is for ViTs; choose a backbone with image.family=vit"
    if crop is not None and image.patch_size is not None and crop % image.patch_size:
        yield "pretraining.crop_size", f"choose a multiple of image.patch_size={image.patch_size}"
    if config.trainer.precision not in PRECISIONS:
        why = f"pretraining needs finer numbers; choose one of {', '.join(PRECISIONS)}"
        yield "trainer.precision", why
