"""Values and combinations of keys of several rooms that cannot run, refused in one line before
anything heavy is imported.
"""

from gestalt.config.schema import Experiment
from gestalt.data_modules.keys import check_source
from gestalt.encoders.keys import check_image, check_text, is_t5
from gestalt.losses.keys import check_loss, terms_of
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.checks import check_evaluation
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.support.keys import Complaints, check_values, refuse_first
from gestalt.tables import IMAGE_TOWERS, TEXT_TOWERS
from gestalt.training.keys import check_end, class_paths


def check(config: Experiment) -> None:
    """Refuse values that the schema does not allow, then combinations of keys that cannot run.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    check_values(config)
    check_image(config.image)
    refuse_first(config, _of_start(config))
    check_text(config.text)
    check_source(config.data)
    check_scoring(config)
    check_loss(config.loss)
    refuse_first(config, _of_terms(config))
    check_end(config.trainer)
    class_paths("logger", config.logger)
    class_paths("trainer.callbacks", config.trainer.callbacks)


def check_scoring(config: Experiment) -> None:
    """Refuse an evaluation that cannot be scored.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    check_evaluation(config.evaluation)
    refuse_first(config, _of_benchmarks(config))


def check_features(config: Experiment, *, name: str = "data.features") -> None:
    """Check that features of images can be kept: something is frozen, and there is a fixed number
    of crops of numbered images.

    Raises:
        ConfigError: names the key and what to choose.
    """
    refuse_first(config, _of_features(config, name))


def _of_features(config: Experiment, name: str) -> Complaints:
    if config.image.family not in IMAGE_TOWERS.built_in:
        why = f"{name} holds what the first half of a tower of timm computes; choose vit or cnn"
        yield "image.family", why
    if not (config.image.frozen or config.image.frozen_blocks):
        why = f"{name} holds the output of frozen blocks; choose 1 or more, or image.frozen=true"
        yield "image.frozen_blocks", why
    if config.data.crops is None:
        yield "data.crops", f"{name} holds a number of crops of each image; choose it, such as 1"
    if config.data.source == "mixture":
        why = f"its parts have epochs of their own, and {name} has those of one source"
        yield "data.source", f"{why}; choose one of them"


def _of_start(config: Experiment) -> Complaints:
    """Yield complaints about keys of the text that need a start, or another precision."""
    text, order = config.text, config.projection.order
    if config.start is None:
        if text.family in ("siglip", "siglip2") or order == "siglip":
            why = "siglip, here or in projection.order, needs start=open_clip:ARCHITECTURE:TAG"
            yield "text.family", why
        if order == "classifier":
            why = "needs a classifier's names; set start=classifier:ARCHITECTURE"
            yield "projection.order", why
        built = text.family in TEXT_TOWERS.built_in and text.family != "sentence"
        if built and text.init != "random":
            why = "family open_clip has random weights only; choose random, or text.family=sentence"
            yield "text.init", why
    t5 = text.family == "sentence" and is_t5(text.model)
    if t5 and config.trainer.precision.startswith("16"):
        why = "T5 gives NaN in fp16; choose one of bf16-mixed, bf16-true, 32-true"
        yield "trainer.precision", why


def _of_terms(config: Experiment) -> Complaints:
    """Yield complaints about terms of the loss that do not fit the towers or the trainer."""
    loss = config.loss
    if loss.nouns_alike is not None and config.text.init == "random" and config.start is None:
        why = "a random text tower does not know which nouns are alike"
        yield "loss.nouns_alike", f"{why}; choose text.init=sentence, or null"
    if "self_distillation" in terms_of(loss):
        for key, why in _of_self_distillation(config):
            yield key, f"loss.terms.self_distillation: {why}"


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


def _of_benchmarks(config: Experiment) -> Complaints:
    """Yield complaints about benchmarks whose files are missing, and about protocols and readings
    that the image tower cannot have.
    """
    evaluation, family = config.evaluation, config.image.family
    for row in (BENCHMARKS[name] for name in evaluation.benchmarks):
        # the same source: data.root is the root
        if row.layout and row.source != config.data.source and config.benchmark_root is None:
            why = f"benchmark {row.name} needs its files: benchmark_root=DIR, {row.layout}"
            yield "benchmark_root", why
    name = evaluation.grouping_protocol
    if name and MEASURES["grouping"].protocols[name].method == "attention" and family != "vit":
        why = "needs the attention of a class token, which only a vit has; choose pca_square"
        yield "evaluation.grouping_protocol", why
    if family not in IMAGE_TOWERS.built_in:
        for key, usual in {"reading": "plain", "positions": "timm"}.items():
            if getattr(evaluation, key) not in (None, usual):
                yield f"evaluation.{key}", "is for towers of timm; choose null"
