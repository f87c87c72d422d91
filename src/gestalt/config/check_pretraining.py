"""Configurations that ``gestalt pretrain`` cannot run."""

from gestalt.config.schema import Experiment, refuse

PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def check_pretraining(config: Experiment, *, init: str) -> None:
    """Refuse keys with which an init cannot be made.

    Raises:
        ConfigError: names the key and what to choose.
    """
    image, crop = config.image, config.pretraining.crop_size
    if image.init != init:
        refuse("image.init", image.init, f"--init {init} says what is made; leave the key out")
    if image.weights is not None:
        refuse(
            "image.weights", image.weights, "pretraining starts from random weights; choose null"
        )
    if image.family != "vit":
        refuse(
            "image.family",
            image.family,
            "pretraining is for ViTs; choose a backbone with image.family=vit",
        )
    if crop is not None and image.patch_size is not None and crop % image.patch_size:
        refuse(
            "pretraining.crop_size",
            crop,
            f"choose a multiple of image.patch_size={image.patch_size}",
        )
    if config.trainer.precision not in PRECISIONS:
        why = f"pretraining needs finer numbers; choose one of {', '.join(PRECISIONS)}"
        refuse("trainer.precision", config.trainer.precision, why)
