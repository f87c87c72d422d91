"""Values and combinations that cannot run, refused in one line before anything heavy is
imported.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from gestalt.config.check_data import check_data
from gestalt.config.check_evaluation import check_evaluation
from gestalt.config.keys import Key
from gestalt.config.schema import Experiment, is_file_of_weights, logger_parts, refuse
from gestalt.config.schema_loss import terms_of
from gestalt.support.names import nearest
from gestalt.tables import AGGREGATIONS, INITS, LOSSES, TERMS


def check(config: Experiment) -> None:
    """Refuse values that the schema does not allow, then combinations of keys that cannot run.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    check_values(config)
    for rule in (
        *(
            _check_image,
            _check_cnn,
            _check_sizes,
            _check_frozen,
            _check_text,
            _check_t5,
            check_data,
        ),
        *(check_evaluation, _check_loss, _check_terms, _check_trainer),
    ):
        rule(config)
    logger_parts(config.logger)


def check_values(group: Any, prefix: str = "") -> None:
    """Check each value of a group, and of the groups in it, by its
    :class:`~gestalt.config.keys.Key`.

    Raises:
        ConfigError: names the key, its value and what to choose.
    """
    for item in dataclasses.fields(group) if dataclasses.is_dataclass(group) else ():
        name, value = prefix + item.name, getattr(group, item.name)
        if dataclasses.is_dataclass(value):
            check_values(value, f"{name}.")
        elif isinstance(value, list) and any(map(dataclasses.is_dataclass, value)):
            for number, part in enumerate(value):
                check_values(part, f"{name}[{number}].")
        elif value is not None:
            complaint = item.metadata["key"].complaint(value)
            if complaint:
                refuse(name, list(value) if isinstance(value, tuple) else value, complaint)


def _check_image(config: Experiment) -> None:
    """Check the words; ``gestalt.encoders.inits`` checks timm's tags, which fit timm's own
    architecture only.
    """
    image = config.image
    takes_tags = image.stem == "patch" and {
        image.patch_size,
        image.width,
        image.depth,
        image.heads,
    } == {None}
    for word, used in image.inits.items():
        if word not in INITS:
            refuse(f"image.inits.{word}", used, f"{word} is not an init; {nearest(word, INITS)}")
        if used not in INITS and not is_file_of_weights(used) and not takes_tags:
            refuse(f"image.inits.{word}", used, f"not an init; {nearest(used, INITS)}")
    if image.inits and image.init not in image.inits and (image.init in INITS or not takes_tags):
        refuse(
            "image.init",
            image.init,
            f"not available at scale {config.scale}; {nearest(image.init, sorted(image.inits))}",
        )


def _check_cnn(config: Experiment) -> None:
    image = config.image
    if image.family != "cnn":
        return
    if AGGREGATIONS.fact(image.aggregation, "needs_class_token", False):
        usable = [
            name
            for name, row in AGGREGATIONS.built_in.items()
            if not row.facts.get("needs_class_token")
        ]
        refuse(
            "image.aggregation",
            image.aggregation,
            f"needs a class token, and a cnn has none; choose one of {', '.join(usable)}",
        )
    if image.keep_tokens < 1 and image.subsampling:
        refuse(
            "image.keep_tokens",
            image.keep_tokens,
            "a cnn cannot drop tokens; choose 1.0, or a backbone with image.family=vit",
        )
    for key in ("patch_size", "width", "depth", "heads"):
        if getattr(image, key) is not None:
            refuse(
                f"image.{key}",
                getattr(image, key),
                "only a vit's architecture can be changed; choose null",
            )
    if image.stem != "patch":
        refuse("image.stem", image.stem, "a cnn has no patch embedding to replace; choose patch")


def _check_sizes(config: Experiment) -> None:
    """Check image sizes against the patch size, and heads against the width, where the
    configuration gives both.
    """
    image = config.image
    if image.patch_size is not None:
        for key in ("train_size", "eval_size"):
            if getattr(image, key) % image.patch_size:
                refuse(
                    f"image.{key}",
                    getattr(image, key),
                    f"choose a multiple of image.patch_size={image.patch_size}",
                )
    if image.width is not None and image.heads is not None and image.width % image.heads:
        refuse("image.heads", image.heads, f"choose a divisor of image.width={image.width}")


def _check_frozen(config: Experiment) -> None:
    """Check that one key alone freezes; ``gestalt.encoders.boundary`` checks the number of
    blocks.
    """
    if config.image.frozen_blocks and config.image.frozen:
        why = "image.frozen=true freezes the whole tower; choose 0, or image.frozen=false"
        refuse("image.frozen_blocks", config.image.frozen_blocks, why)


def _check_text(config: Experiment) -> None:
    text = config.text
    if AGGREGATIONS.fact(text.aggregation, "images_only", False):
        refuse(
            "text.aggregation",
            text.aggregation,
            "the parts of a text already include its summary token; choose max",
        )
    if text.family == "sentence":
        for key in ("width", "heads"):
            if getattr(text, key) is not None:
                refuse(
                    f"text.{key}",
                    getattr(text, key),
                    "the model fixes it; choose null, or text.family=open_clip",
                )
        return
    if text.init != "random":
        refuse(
            "text.init",
            text.init,
            "family open_clip has random weights only; choose random, or text.family=sentence",
        )
    if text.layers is None or text.width is None or text.heads is None:
        refuse(
            "text.family",
            text.family,
            "needs text.layers, text.width and text.heads, such as 12, 512 and 8",
        )


def _check_t5(config: Experiment) -> None:
    if config.text.family != "sentence" or not is_t5(config.text.model):
        return
    if config.trainer.precision.startswith("16"):
        refuse(
            "trainer.precision",
            config.trainer.precision,
            "T5 gives NaN in fp16; choose one of bf16-mixed, bf16-true, 32-true",
        )
    if AGGREGATIONS.fact(config.text.aggregation, "needs_class_token", False):
        refuse(
            "text.aggregation",
            config.text.aggregation,
            "needs a summary token, and T5 has none; choose avg, max or another",
        )


def is_t5(model: str) -> bool:
    """Return True if a text model is a T5: by the ``config.json`` in its folder, or by its name if
    it is not a folder with one.
    """
    for path in (Path(model) / "config.json", Path(model) / "0_Transformer" / "config.json"):
        if path.is_file():
            try:
                return "t5" in str(json.loads(path.read_text()).get("model_type", "")).lower()
            except (ValueError, AttributeError, RecursionError) as error:
                refuse("text.model", model, f"{path} is not the configuration of a model ({error})")
    return "t5" in model.lower()


def _check_loss(config: Experiment) -> None:
    loss = config.loss
    if loss.directions != "sum" and LOSSES.fact(loss.name, "one_direction", False):
        refuse(
            "loss.directions",
            loss.directions,
            f"loss.name={loss.name} compares a pair once, in no direction; choose sum",
        )


def _check_terms(config: Experiment) -> None:
    """Check names and weights of the loss's terms."""
    for name, weight in config.loss.terms.items():
        if complaint := Key("", choices=TERMS).complaint(name):
            refuse(f"loss.terms.{name}", weight, f"not a term of the loss; {complaint}")
        if complaint := Key("", at_least=0).complaint(weight):
            refuse(f"loss.terms.{name}", weight, f"{complaint}; 0 leaves the term out")
    if config.loss.nouns_alike is not None and config.text.init == "random":
        why = (
            "a random text tower does not know which nouns are alike; choose text.init=sentence, "
            "or null"
        )
        refuse("loss.nouns_alike", config.loss.nouns_alike, why)
    if "self_distillation" not in terms_of(config.loss):
        return
    half = config.trainer.precision in ("bf16-true", "16-true")
    for key, value, ok, choice in (
        (
            "image.family",
            config.image.family,
            config.image.family == "vit",
            "a cnn has no patches to hide; choose vit",
        ),
        (
            "image.frozen",
            config.image.frozen,
            not config.image.frozen,
            "a frozen tower cannot learn from its patches; choose false",
        ),
        (
            "data.features",
            config.data.features,
            config.data.features is None,
            "hides patches of images; choose null",
        ),
        (
            "trainer.precision",
            config.trainer.precision,
            not half,
            "its average needs finer numbers; choose 32-true or bf16-mixed",
        ),
        (
            "trainer.compile",
            config.trainer.compile,
            config.trainer.compile == "none",
            "masks are not compiled; choose none",
        ),
    ):
        if not ok:
            refuse(key, value, f"loss.terms.self_distillation: {choice}")


def _check_trainer(config: Experiment) -> None:
    trainer = config.trainer
    if trainer.max_steps == -1 and trainer.max_epochs in (None, -1):
        refuse(
            "trainer.max_steps",
            -1,
            "the learning rate's schedule needs an end; "
            "set trainer.max_steps or trainer.max_epochs",
        )
