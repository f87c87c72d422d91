"""Check values and combinations of keys of several packages.  Those that cannot run are refused in
one line before anything heavy is imported.
"""

import os
from pathlib import Path

from gestalt.config.schema import Experiment
from gestalt.config.start import OF_CLASSIFIER, start_of
from gestalt.data_modules.keys import check_options, check_source
from gestalt.encoders.keys import check_image, check_text, is_t5
from gestalt.losses.keys import check_loss, terms_of
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.segmentation.configured import check_evaluation
from gestalt.support.keys import Complaints, check_values, refuse, refuse_first
from gestalt.tables import AGGREGATIONS, IMAGE_TOWERS, TEXT_TOWERS
from gestalt.training.keys import Trainer, check_end, check_optimizer, class_paths


def check(config: Experiment) -> None:
    """Refuse values that the schema does not allow, and combinations of keys that cannot run.

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
    check_optimizer(config.optimizer)
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


CACHE = "a cache of data.features"


def check_features(config: Experiment) -> None:
    """Check that features of images can be cached: a part of the tower is frozen, and numbered
    images have a fixed number of crops.

    Raises:
        ConfigError: names the key and what to choose.
    """
    refuse_first(config, _of_features(config))


def _of_features(config: Experiment) -> Complaints:
    if config.image.family not in IMAGE_TOWERS.built_in:
        why = f"{CACHE} holds what the first half of a tower of timm computes; choose vit or cnn"
        yield "image.family", why
    if not (config.image.frozen or config.image.frozen_blocks):
        why = f"{CACHE} holds the output of frozen blocks; choose 1 or more, or image.frozen=true"
        yield "image.frozen_blocks", why
    if config.data.crops is None:
        yield "data.crops", f"{CACHE} holds a number of crops of each image; choose it, such as 1"
    if config.data.source == "mixture":
        why = f"its parts have epochs of their own, and {CACHE} has those of one source"
        yield "data.source", f"{why}; choose one of them"


def _of_start(config: Experiment) -> Complaints:
    """Yield complaints about keys that need another ``start`` or precision."""
    text, order = config.text, config.projection.order
    if order not in OF_CLASSIFIER:
        if config.optimizer.names_rate:
            why = "a classifier's names are trained; set start=classifier:ARCHITECTURE, or 0"
            yield "optimizer.names_rate", why
        if (
            config.image.family == "cnn"
            and AGGREGATIONS.row(config.image.aggregation).needs_class_token
        ):
            usable = (
                name
                for name in AGGREGATIONS.built_in
                if not AGGREGATIONS.row(name).needs_class_token
            )
            why = f"needs a class token, and a cnn has none; choose one of {', '.join(usable)}"
            yield "image.aggregation", why
    if start_of(config.start, "projection") is None:
        if order == "siglip":
            why = "needs start=open_clip:ARCHITECTURE:TAG of a SigLIP"
            yield "projection.order", why
        if order in OF_CLASSIFIER:
            why = "needs a classifier's names; set start=classifier:ARCHITECTURE"
            yield "projection.order", why
    if start_of(config.start, "text") is None:
        if text.family in ("siglip", "siglip2"):
            why = "needs start=open_clip:ARCHITECTURE:TAG of a SigLIP, or text: before it"
            yield "text.family", why
        built = text.family in TEXT_TOWERS.built_in and text.family != "sentence"
        if built and text.init != "random":
            why = "family open_clip has random weights only; choose random, or text.family=sentence"
            yield "text.init", why
    t5 = text.family == "sentence" and is_t5(text.model)
    if t5 and config.trainer.precision.startswith("16"):
        why = "T5 gives NaN in fp16; choose one of bf16-mixed, bf16-true, 32-true"
        yield "trainer.precision", why


def _of_terms(config: Experiment) -> Complaints:
    """Yield complaints about auxiliary losses that do not fit the towers or the trainer."""
    loss = config.loss
    random = config.text.init == "random" and start_of(config.start, "text") is None
    if loss.nouns_alike is not None and random:
        why = "a random text tower does not know which nouns are alike"
        yield "loss.nouns_alike", f"{why}; choose text.init=sentence, or null"
    if "self_distillation" in terms_of(loss):
        for key, why in _of_self_distillation(config):
            yield key, f"loss.terms.self_distillation: {why}"


def _of_self_distillation(config: Experiment) -> Complaints:
    if config.image.family != "vit":
        yield "image.family", "only of a vit can patches be hidden; choose vit"
    if AGGREGATIONS.row(config.image.aggregation).beside:
        why = "its patches have another width than projection.width; choose max, avg or cls"
        yield "image.aggregation", why
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
    """Yield complaints about benchmarks whose files are missing, and about protocols and dense
    inference methods that the image tower does not support.
    """
    evaluation, family = config.evaluation, config.image.family
    for row in (BENCHMARKS[name] for name in evaluation.benchmarks):
        # If the source is the same, data.root is also the root of the benchmark.
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


LAUNCHERS = {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "NODE_RANK", "GROUP_RANK"}
"""Environment variables that tell Lightning which launcher started the process."""

NOT_A_PATH = ("://", "{", "*", "?", "[")
"""Characters that occur in URLs and patterns."""


def check_nodes(trainer: Trainer) -> None:
    """Refuse several nodes if no launcher has started their processes, because the run would wait
    for these processes.

    Raises:
        ConfigError: names the launchers.
    """
    nodes = trainer.num_nodes
    if nodes > 1 and LAUNCHERS.isdisjoint(os.environ):
        refuse(
            "trainer.num_nodes",
            nodes,
            f"no launcher started the other nodes; call it under torchrun --nnodes {nodes} or "
            "SLURM, or choose 1",
        )


def check_training(config: Experiment) -> None:
    """Refuse a training run that would learn nothing, or that would ignore a key.

    Raises:
        ConfigError: names the key, its value and what to choose.
    """
    check_options(config.data)
    if config.data.features is not None:
        check_features(config)
    refuse_first(config, _of_training(config))


def _of_training(config: Experiment) -> Complaints:
    batch = config.data.batch_size
    if batch * config.trainer.accumulate_grad_batches == 1:
        why = "the other pairs of a batch are a pair's negatives, and there would be none"
        yield "data.batch_size", f"{why}; choose 2 or more"
    ranks = (config.trainer.named_devices() or 1) * config.trainer.num_nodes
    if batch % ranks:
        why = (
            f"cannot be shared by {ranks} ranks (trainer.devices={config.trainer.devices}, "
            f"trainer.num_nodes={config.trainer.num_nodes}); choose a multiple, such as "
            f"{batch // ranks * ranks or ranks}"
        )
        yield "data.batch_size", why
    steps = config.trainer.max_steps
    if 0 < steps < config.optimizer.warmup_steps:
        why = f"the run ends after trainer.max_steps={steps}; choose no more"
        yield "optimizer.warmup_steps", why
    if config.evaluation.calibration is not None:
        why = "a threshold is calibrated for trained weights; leave it out, and pass it to"
        yield "evaluation.calibration", f"{why} `gestalt eval`"


def check_places(config: Experiment) -> None:
    """Refuse a folder or a file that does not exist, before anything heavy is imported to read it.

    Raises:
        ConfigError: names the key and the path.
    """
    places = {
        "data.manifest": config.data.manifest,
        "data.include": config.data.include,
        "image.weights": config.image.weights,
        "benchmark_root": config.benchmark_root,
        "data.features": config.data.features,
    }
    if config.data.source != "hub":
        places["data.root"] = config.data.root
    if config.data.captions is not None:
        places["data.captions.root"] = config.data.captions.root
    # else resume is last or auto, or ``resolve_resume`` refuses it
    if config.resume is not None and "/" in config.resume:
        places["resume"] = config.resume
    for key, place in places.items():
        if place is None or any(sign in place for sign in NOT_A_PATH):
            continue
        path = Path(place).expanduser()
        if not path.exists():
            refuse(key, place, f"not found (looked for {path.absolute()})")


PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def check_pretraining(config: Experiment, *, init: str) -> None:
    """Refuse keys for which pretrained weights cannot be made.

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
