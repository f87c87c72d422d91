"""Values and combinations that cannot run, refused in one line before anything heavy is
imported.
"""

import dataclasses
import json
from itertools import chain
from pathlib import Path
from typing import Any

from gestalt.config.check_data import check_data
from gestalt.config.check_evaluation import check_evaluation
from gestalt.config.keys import Key
from gestalt.config.schema import (
    CLASS_PATHS,
    Complaints,
    Experiment,
    Text,
    class_paths,
    is_file_of_weights,
    refuse,
    refuse_first,
)
from gestalt.config.schema_loss import terms_of
from gestalt.support.names import nearest
from gestalt.support.strange_files import read_whole
from gestalt.tables import (
    AGGREGATIONS,
    IMAGE_TOWERS,
    INITS,
    LOSSES,
    TERMS,
    TEXT_TOWERS,
)


def check(config: Experiment) -> None:
    """Refuse values that the schema does not allow, then combinations of keys that cannot run.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    check_values(config)
    refuse_first(config, chain(_of_image(config), _of_text(config)))
    check_data(config)
    check_evaluation(config)
    refuse_first(config, _of_training(config))
    for name in CLASS_PATHS:
        class_paths(config, name)


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


def _of_image(config: Experiment) -> Complaints:
    """Yield complaints about ``image``; ``gestalt.encoders.inits`` checks timm's tags, which fit
    timm's own architecture only, ``gestalt.encoders.boundary`` the number of frozen blocks, and
    ``gestalt.encoders.own`` a tower of one's own.
    """
    image = config.image
    own = image.family not in IMAGE_TOWERS.built_in
    takes_tags = own or (image.stem == "patch" and not image.changes())
    for word, used in image.inits.items():
        if is_file_of_weights(used):
            continue
        if word not in INITS:
            why = f"{word} is not an init; {nearest(word, INITS)}, or give it a file of weights"
            refuse(f"image.inits.{word}", used, why)
        if used not in INITS and not takes_tags:
            refuse(f"image.inits.{word}", used, f"not an init; {nearest(used, INITS)}")
    missing = image.inits and image.init not in image.inits and image.weights is None
    if missing and not own and (image.init in INITS or not takes_tags):
        why = f"not available at scale {config.scale}; {nearest(image.init, sorted(image.inits))}"
        yours = f"image.weights=FILE or image.inits.{image.init}=FILE"
        yield "image.init", f"{why}, or bring your own: {yours}"
    if image.family == "cnn":
        if AGGREGATIONS.fact(image.aggregation, "needs_class_token", False):
            usable = [
                name
                for name, row in AGGREGATIONS.built_in.items()
                if not row.facts.get("needs_class_token")
            ]
            why = f"needs a class token, and a cnn has none; choose one of {', '.join(usable)}"
            yield "image.aggregation", why
        if image.keep_tokens < 1 and image.subsampling:
            why = "a cnn cannot drop tokens; choose 1.0, or a backbone with image.family=vit"
            yield "image.keep_tokens", why
        for key in image.changes():
            yield f"image.{key}", "only a vit's architecture can be changed; choose null"
    if image.family != "vit" and image.stem != "patch":
        yield "image.stem", "only a vit's patch embedding can be replaced; choose patch"
    if image.patch_size is not None:
        for key in ("train_size", "eval_size") if image.subsampling else ("eval_size",):
            if getattr(image, key) % image.patch_size:
                yield f"image.{key}", f"choose a multiple of image.patch_size={image.patch_size}"
    if image.width is not None and image.heads is not None and image.width % image.heads:
        yield "image.heads", f"choose a divisor of image.width={image.width}"
    if image.frozen_blocks and image.frozen:
        why = "image.frozen=true freezes the whole tower; choose 0, or image.frozen=false"
        yield "image.frozen_blocks", why


def _of_text(config: Experiment) -> Complaints:
    text = config.text
    if AGGREGATIONS.fact(text.aggregation, "images_only", False):
        why = "the parts of a text already include its summary token; choose max"
        yield "text.aggregation", why
    siglip = text.family in ("siglip", "siglip2") or config.projection.order == "siglip"
    if config.start is None and siglip:
        why = "siglip, here or in projection.order, needs start=open_clip:ARCHITECTURE:TAG"
        yield "text.family", why
    if config.start is None and config.projection.order == "classifier":
        yield "projection.order", "needs a classifier's names; set start=classifier:ARCHITECTURE"
    if text.family not in TEXT_TOWERS.built_in:
        return
    if text.vocabulary is not None and "siglip" not in text.family:
        yield "text.vocabulary", "only a SigLIP has a vocabulary of its own; choose null"
    if text.family == "sentence":
        for key in ("width", "heads", "mlp_ratio"):
            usual = getattr(Text(), key)
            if getattr(text, key) != usual:
                why = f"the model fixes it; choose {json.dumps(usual)}, or text.family=open_clip"
                yield f"text.{key}", why
        if not is_t5(text.model):
            return
        if config.trainer.precision.startswith("16"):
            why = "T5 gives NaN in fp16; choose one of bf16-mixed, bf16-true, 32-true"
            yield "trainer.precision", why
        if AGGREGATIONS.fact(text.aggregation, "needs_class_token", False):
            why = "needs a summary token, and T5 has none; choose avg, max or another"
            yield "text.aggregation", why
        return
    if text.init != "random" and config.start is None:
        why = "family open_clip has random weights only; choose random, or text.family=sentence"
        yield "text.init", why
    if not text.layers or not text.width or not text.heads:
        why = "needs text.layers, text.width and text.heads, such as 12, 512 and 8"
        yield "text.family", why
    elif text.width % text.heads:
        yield "text.heads", f"choose a divisor of text.width={text.width}"
    if text.max_length < 3:
        yield "text.max_length", "family open_clip needs 3 tokens; CLIP has 77"


def is_t5(model: str) -> bool:
    """Return True if a text model is a T5: by the ``config.json`` in its folder, or by its name if
    it is not a folder with one.
    """
    for path in (Path(model) / "config.json", Path(model) / "0_Transformer" / "config.json"):
        if path.is_file():
            try:
                return "t5" in str(json.loads(read_whole(path)).get("model_type", "")).lower()
            except (ValueError, AttributeError, RecursionError) as error:
                refuse("text.model", model, f"{path} is not the configuration of a model ({error})")
    return "t5" in model.lower()


def _of_training(config: Experiment) -> Complaints:
    """Yield complaints about the loss, the names and weights of its terms, and the trainer."""
    loss, trainer = config.loss, config.trainer
    if loss.directions != "sum" and LOSSES.fact(loss.name, "one_direction", False):
        why = f"loss.name={loss.name} compares a pair once, in no direction; choose sum"
        yield "loss.directions", why
    for name, weight in loss.terms.items():
        if name not in TERMS:
            refuse(f"loss.terms.{name}", weight, f"not a term of the loss; {nearest(name, TERMS)}")
        if complaint := Key("", at_least=0).complaint(weight):
            refuse(f"loss.terms.{name}", weight, f"{complaint}; 0 leaves the term out")
    if loss.nouns_alike is not None and config.text.init == "random" and config.start is None:
        why = "a random text tower does not know which nouns are alike"
        yield "loss.nouns_alike", f"{why}; choose text.init=sentence, or null"
    if "self_distillation" in terms_of(loss):
        for key, why in _of_self_distillation(config):
            yield key, f"loss.terms.self_distillation: {why}"
    if trainer.max_steps == -1 and trainer.max_epochs in (None, -1):
        why = "the learning rate's schedule needs an end"
        yield "trainer.max_steps", f"{why}; set trainer.max_steps or trainer.max_epochs"


def _of_self_distillation(config: Experiment) -> Complaints:
    if config.image.family != "vit":
        yield "image.family", "only of a vit can patches be hidden; choose vit"
    if config.image.frozen:
        yield "image.frozen", "a frozen tower cannot learn from its patches; choose false"
    if config.data.features is not None:
        yield "data.features", "hides patches of images; choose null"
    if config.trainer.precision in ("bf16-true", "16-true"):
        why = "its average needs finer numbers; choose 32-true or bf16-mixed"
        yield "trainer.precision", why
    if config.trainer.compile != "none":
        yield "trainer.compile", "masks are not compiled; choose none"
