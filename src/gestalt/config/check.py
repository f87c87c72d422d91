"""Combinations that cannot run, refused in one line before anything heavy is imported."""

import json
import math
import re
from pathlib import Path
from typing import get_args

from gestalt.config.check_data import check_data
from gestalt.config.check_evaluation import check_evaluation, refuse
from gestalt.config.schema import MADE, MADE_INITS, AggregationName, Experiment, Image, InitName, uses_made
from gestalt.support.names import nearest

SUMMARY_AGGREGATIONS = ("cls", "max_with_cls")  # those that need a class token
TRAINER_CHOICES = {  # Lightning's own words, of those that this program was run with or can be
    "accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "strategy": ("auto", "ddp", "ddp_find_unused_parameters_true"),
    "precision": ("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true"),
    "profiler": ("simple", "advanced", "pytorch"),
}


def check(config: Experiment) -> None:
    """Refuse combinations that cannot run, before anything heavy is imported.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    for rule in (_check_image, _check_text, _check_numbers, check_data, _check_pretraining, check_evaluation, _check_trainer):
        rule(config)


def _check_image(config: Experiment) -> None:
    image = config.image
    for init, used in image.inits.items():
        for name in (init, used):
            if name not in get_args(InitName) and (name, init in MADE_INITS) != (MADE, True):
                choices = [*get_args(InitName), *([MADE] if init in MADE_INITS else [])]
                refuse(f"image.inits.{init}", used, f"not an init; {nearest(name, choices)}")
    if image.inits and image.init not in image.inits:
        refuse("image.init", image.init, f"scale {config.scale} cannot give it; {nearest(image.init, sorted(image.inits))}")
    if image.family == "cnn":
        able = [name for name in get_args(AggregationName) if name not in SUMMARY_AGGREGATIONS]
        if image.aggregation in SUMMARY_AGGREGATIONS:
            refuse("image.aggregation", image.aggregation, f"needs a class token, and a cnn has none; choose one of {', '.join(able)}")
        if image.keep_tokens < 1 and image.subsampling:
            refuse("image.keep_tokens", image.keep_tokens, "a cnn cannot drop tokens; choose 1.0, or a backbone with image.family=vit")
        for key in ("patch_size", "width", "depth", "heads"):
            if getattr(image, key) is not None:
                refuse(f"image.{key}", getattr(image, key), "only a vit's architecture can be changed; choose null")
        if image.stem != "patch":
            refuse("image.stem", image.stem, "a cnn has no patch embedding to replace; choose patch")
    if not 0 < image.keep_tokens <= 1:
        refuse("image.keep_tokens", image.keep_tokens, "a share of the patch tokens: choose a number above 0 and at most 1")
    _check_sizes(image)


def _check_sizes(image: Image) -> None:
    """Sizes that do not fit each other, where the configuration gives both."""
    if image.patch_size is not None and image.patch_size > 0:
        for key in ("train_size", "eval_size"):
            if getattr(image, key) % image.patch_size:
                refuse(f"image.{key}", getattr(image, key), f"choose a multiple of image.patch_size={image.patch_size}")
    if image.width is not None and image.heads is not None and image.heads > 0 and image.width % image.heads:
        refuse("image.heads", image.heads, f"choose a divisor of image.width={image.width}")


def _check_text(config: Experiment) -> None:
    text = config.text
    if text.aggregation == "max_with_cls":
        refuse("text.aggregation", "max_with_cls", "a text tower's parts hold its summary token already; choose max")
    t5 = text.family == "sentence" and is_t5(text.model)
    if t5 and config.trainer.precision.startswith(("16", "transformer-engine-float16")):
        refuse("trainer.precision", config.trainer.precision, "T5 gives NaN in fp16; choose one of bf16-mixed, bf16-true, 32-true")
    if t5 and text.aggregation in SUMMARY_AGGREGATIONS:
        refuse("text.aggregation", text.aggregation, "needs a summary token, and T5 has none; choose avg, max or another")
    if text.family == "open_clip" and text.init != "random":
        refuse("text.init", text.init, "family open_clip starts from random only; choose random, or text.family=sentence")
    if text.family == "open_clip" and (text.layers is None or text.width is None or text.heads is None):
        refuse("text.family", text.family, "needs text.layers, text.width and text.heads, such as 12, 512 and 8")
    if text.family == "sentence" and (text.width is not None or text.heads is not None):
        refuse("text.width", text.width or text.heads, "the model fixes width and heads; choose null, or text.family=open_clip")


def is_t5(model: str) -> bool:
    """Whether a text model is a T5, from its folder's ``config.json`` where there is one and from its name elsewhere."""
    for path in (Path(model) / "config.json", Path(model) / "0_Transformer" / "config.json"):
        if path.is_file():
            return "t5" in str(json.loads(path.read_text()).get("model_type", "")).lower()
    return "t5" in model.lower()


def _check_numbers(config: Experiment) -> None:
    above_zero = {
        **{f"image.{key}": getattr(config.image, key) for key in ("train_size", "eval_size", "patch_size", "width", "depth", "heads")},
        **{f"text.{key}": getattr(config.text, key) for key in ("width", "heads", "max_length")},
        **{"projection.width": config.projection.width, "optimizer.learning_rate": config.optimizer.learning_rate},
        **{f"data.{key}": getattr(config.data, key) for key in ("batch_size", "limit", "window_shards", "cache_gib")},
        **{"evaluation.batch_size": config.evaluation.batch_size, "evaluation.limit": config.evaluation.limit},
        **{f"optimizer.{key}": getattr(config.optimizer, key) for key in ("layer_decay", "image_rate", "text_rate", "eps")},
        **{"checkpoint_every_steps": config.checkpoint_every_steps, "trainer.gradient_clip_val": config.trainer.gradient_clip_val},
        **{f"trainer.{key}": getattr(config.trainer, key) for key in ("num_nodes", "check_val_every_n_epoch", "log_every_n_steps")},
        "trainer.limit_train_batches": config.trainer.limit_train_batches,
    }
    for key, value in above_zero.items():
        if value is not None and not 0 < value < math.inf:
            refuse(key, value, "choose a number above 0")
    not_below: dict[str, float] = {f"optimizer.{key}": getattr(config.optimizer, key) for key in ("weight_decay", "final_rate")}
    not_below |= {"data.workers": config.data.workers, "seed": config.seed, "optimizer.warmup_steps": config.optimizer.warmup_steps}
    not_below |= {"text.layers": config.text.layers or 0, "evaluation.pictures": config.evaluation.pictures}
    for key, value in not_below.items():
        if not 0 <= value < math.inf:
            refuse(key, value, "choose 0 or more")
    for key in ("final_rate", "layer_decay"):
        if getattr(config.optimizer, key) > 1:
            refuse(f"optimizer.{key}", getattr(config.optimizer, key), "a share: choose at most 1")
    if config.optimizer.ema is not None and not 0 < config.optimizer.ema < 1:
        refuse("optimizer.ema", config.optimizer.ema, "a decay: choose a number between 0 and 1, such as 0.999, or null")
    if not all(0 <= beta < 1 for beta in config.optimizer.betas):
        refuse("optimizer.betas", list(config.optimizer.betas), "two decays: choose numbers from 0 to below 1, such as [0.9, 0.98]")


def _check_pretraining(config: Experiment) -> None:
    made = config.pretraining
    optional = ("gradient_clip", "limit")
    counts = ("steps", "batch_size", "image_size", "global_size", "local_size", "head_width", "bottleneck", "prototypes")
    rates = ("learning_rate", "student_temperature", "teacher_temperature", "warmup_teacher_temperature")
    for key in (*counts, *rates, *optional, "score_every_steps", "knn_bank", "knn_queries"):
        value = getattr(made, key)
        if value is not None and value <= 0:
            refuse(f"pretraining.{key}", value, "choose a number above 0")
    warmups = ("warmup_steps", "frozen_head_steps", "warmup_teacher_steps")
    for key in ("final_learning_rate", "weight_decay", "final_weight_decay", "local_crops", "seed", *warmups):
        if getattr(made, key) < 0:
            refuse(f"pretraining.{key}", getattr(made, key), "choose 0 or more")
    for key in warmups:
        if getattr(made, key) > made.steps:
            refuse(f"pretraining.{key}", getattr(made, key), f"the run has pretraining.steps={made.steps}; choose no more")
    if made.final_learning_rate > made.learning_rate:
        refuse("pretraining.final_learning_rate", made.final_learning_rate, "choose no more than pretraining.learning_rate")
    for key in ("momentum", "centre_momentum"):
        if not 0 <= getattr(made, key) <= 1:
            refuse(f"pretraining.{key}", getattr(made, key), "a share of what was: choose a number in 0 to 1")
    for key in ("global_area", "local_area"):
        least, most = getattr(made, key)
        if not 0 < least <= most <= 1:
            refuse(f"pretraining.{key}", [least, most], "shares of the image's area, the smaller first: choose two above 0 and at most 1")
    if uses_made(config):
        _check_made(config)


def _check_made(config: Experiment) -> None:
    """What concerns only a run that pretrains, or starts from what was made so."""
    image, made = config.image, config.pretraining
    if image.family != "vit":
        refuse(f"image.inits.{image.init}", MADE, "pretraining is for ViTs; choose another init, or a backbone with image.family=vit")
    for key in ("global_size", *(("local_size",) if image.init == "dino" and made.local_crops else ())):
        if image.patch_size is not None and getattr(made, key) % image.patch_size:
            refuse(f"pretraining.{key}", getattr(made, key), f"choose a multiple of image.patch_size={image.patch_size}")
    if image.init == "dino" and config.trainer.precision in ("bf16-true", "16-true"):
        why = "the teacher moves by less than such numbers can hold; choose 32-true or bf16-mixed"
        refuse("trainer.precision", config.trainer.precision, f"pretraining dino: {why}")
    if image.init == "supervised" and config.data.source == "scenes" and not made.object_centred:
        refuse("pretraining.object_centred", made.object_centred, "init supervised needs one label an image; choose true")


def _check_trainer(config: Experiment) -> None:
    trainer = config.trainer
    if trainer.accumulate_grad_batches != 1:
        why = "gradients of small batches do not add up to a large batch's: its pairs would not be each other's negatives"
        refuse("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, f"{why}; choose 1 and more devices")
    if trainer.max_steps == -1 and trainer.max_epochs in (None, -1):
        refuse("trainer.max_steps", -1, "the learning rate's schedule needs an end; set trainer.max_steps or trainer.max_epochs")
    for key, value in {"max_steps": trainer.max_steps, "max_epochs": trainer.max_epochs}.items():
        if value is not None and value != -1 and value <= 0:
            refuse(f"trainer.{key}", value, "choose a number above 0, or -1 for no such end")
    for key, known in TRAINER_CHOICES.items():
        value = getattr(trainer, key)
        if value is not None and value not in known:
            refuse(f"trainer.{key}", value, nearest(str(value), list(known)))
    if not re.fullmatch(r"auto|-1|[1-9]\d*|\d+(,\d+)+", str(trainer.devices)):
        refuse("trainer.devices", trainer.devices, "choose auto, a number of devices above 0, or the devices' numbers such as '0,2'")
    if trainer.max_time is not None and not re.fullmatch(r"\d{2}:\d{2}:\d{2}:\d{2}", trainer.max_time):
        refuse("trainer.max_time", trainer.max_time, "choose days:hours:minutes:seconds, such as 00:12:00:00")
