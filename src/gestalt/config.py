"""The schema, whose defaults are the paper's run, and ``load``: schema <- scale <- experiment <- command line.

Source of the defaults: Ranasinghe et al. 2023 (arXiv:2210.09996), tables 1 and 6 and section 3.  What its main text does not state
(optimiser, rates, batch, warm-up) follows kahnchana/clippy at 04bf78b where it says so, and is ours otherwise; each comment tells.
"""

import difflib
import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.protocols import GROUPING_PROTOCOLS, PROTOCOLS

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
LOGS = Path("lightning_logs")  # under the working directory

AggregationName = Literal["cls", "avg", "max", "max_with_cls", "attention", "log_sum_exp", "top_k", "generalised_mean"]
InitName = Literal["random", "supervised", "dino", "dinov2", "mae", "clip"]
MADE = "made"  # what an init may resolve to at a scale, besides another init: the file that ``pretrain`` makes for it there
MADE_INITS = ("dino", "supervised")
SOURCES = ("flickr", "scenes", "tars")  # tars: the name that the cc12m scale asks for; its reader is not written yet
SUMMARY_AGGREGATIONS = ("cls", "max_with_cls")  # those that need a class token


class ConfigError(ValueError):
    """A configuration that cannot run.  One line: the key, what it was, and what it may be."""


@dataclass
class Image:
    """The image tower and how its tokens become one vector."""

    backbone: str = "vit_base_patch16_224"  # a timm architecture
    family: Literal["vit", "cnn"] = "vit"
    patch_size: int | None = None  # pixels; these four override the architecture of a ViT, null keeps it
    width: int | None = None  # channels
    depth: int | None = None  # blocks
    heads: int | None = None
    stem: Literal["patch", "conv"] = "patch"  # conv: strided convolutions in place of a ViT's patch embedding, to learn faster from random
    init: InitName = "dino"
    inits: dict[str, str] = field(default_factory=dict)  # what each init resolves to at this scale, an init or made; empty: each to itself
    weights: str | None = None  # a checkpoint file in place of the init's own
    aggregation: AggregationName = "max"
    subsampling: bool = True  # train on train_size with keep_tokens of the patches; false: on eval_size with all
    train_size: int = 448  # pixels a side
    keep_tokens: float = 0.2  # share of patch tokens, (0, 1]
    eval_size: int = 224  # pixels a side
    frozen: bool = False
    gradient_checkpointing: bool = False


@dataclass
class Text:
    """The text tower and how its tokens become one vector."""

    family: Literal["sentence", "open_clip"] = "sentence"
    model: str = "sentence-transformers/sentence-t5-base"  # hub name, folder, or package:NAME of a pip package that ships one
    init: Literal["sentence", "random"] = "sentence"  # random: the same architecture, fresh weights
    layers: int | None = None  # keep the first n, 0 only the word embeddings; null keeps all
    width: int | None = None  # open_clip only, channels
    heads: int | None = None  # open_clip only
    max_length: int = 77  # tokens
    aggregation: AggregationName = "avg"
    frozen: bool = False


@dataclass
class Projection:
    """From the towers' widths to the shared one."""

    order: Literal["before", "after", "none"] = "before"  # before or after aggregation; the paper has none
    width: int = 768  # channels shared by both towers


@dataclass
class Loss:
    """The symmetric contrastive loss."""

    directions: Literal["sum", "mean"] = "sum"  # image-to-text and text-to-image: the paper sums, its public code averages
    equal_texts: Literal["negatives", "positives"] = "negatives"  # what another image with the very same caption is


@dataclass
class Optimizer:
    """Optimiser and schedule.  The paper's main text states none: rate and decay are the public code's, betas and eps CLIP's for ViTs."""

    name: Literal["adamw", "lamb"] = "adamw"
    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.2  # matrices only
    warmup_steps: int = 2000  # ours; the public code says 10,000, and stops at 5,000
    final_rate: float = 0.0  # the cosine ends at this share of the learning rate
    image_rate: float = 1.0  # times the learning rate, for the image tower
    text_rate: float = 1.0  # times the learning rate, for the text tower
    layer_decay: float = 1.0  # the rate shrinks by this factor a block, from the last to the first
    ema: float | None = None  # decay of the averaged weights that validation uses; null: no averaging


@dataclass
class Data:
    """Image-text pairs to train on."""

    source: str = "tars"  # a file under data_modules/sources
    root: str | None = None  # folder of the source; scenes take a folder of cut-outs, or nothing for the embedded pictures
    recipe: str = "scenes_v1"  # scenes only: which recipe
    limit: int | None = None  # use the first n pairs; scenes are endless, there it is the number of pairs an epoch
    batch_size: int = 8192  # pairs a step, over all ranks
    workers: int = 8  # loader processes a rank


@dataclass
class Pretraining:
    """How ``pretrain`` makes an init: by self-distillation (dino) or classification (supervised).  Images are those of ``data``.

    Source of the defaults: DINO (arXiv:2104.14294) for ViTs: facebookresearch/dino, README at 00e1bcc (300 epochs on 16 GPUs) and
    main_dino.py at 04c0ad9, with 1,251 steps as an epoch of ImageNet.  Its stochastic depth is left out.
    """

    steps: int = 375_300
    batch_size: int = 1024  # images a step, over all ranks
    learning_rate: float = 2e-3  # peak
    final_learning_rate: float = 1e-6  # where the cosine ends
    warmup_steps: int = 12_510
    weight_decay: float = 0.04  # of matrices, at the start
    final_weight_decay: float = 0.4  # a cosine leads there
    gradient_clip: float | None = 3.0  # largest norm of one parameter's gradient; null: no clipping
    object_centred: bool = True  # scenes only: one large object an image, as in ImageNet, which gives labels; false: the recipe's scenes
    limit: int | None = None  # use the first n images; scenes are endless, there it is the number of images an epoch
    image_size: int = 256  # pixels a side of the image that crops are cut from
    global_size: int = 224  # pixels a side; the position embeddings are made for it
    global_area: tuple[float, float] = (0.4, 1.0)  # least and most of the image's area in a crop
    local_size: int = 96  # pixels a side; local crops are dino's only
    local_area: tuple[float, float] = (0.05, 0.4)
    local_crops: int = 8  # beside the two global ones
    head_width: int = 2048  # channels of the projection head
    bottleneck: int = 256  # channels in front of the prototypes
    prototypes: int = 65_536  # outputs of the head
    frozen_head_steps: int = 1251  # so long the prototypes stay as they are
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    warmup_teacher_temperature: float = 0.04  # a straight line leads from here to teacher_temperature
    warmup_teacher_steps: int = 37_530
    momentum: float = 0.996  # of the teacher's weights; a cosine leads to 1
    centre_momentum: float = 0.9
    seed: int = 0  # of weights, order and crops; not the experiment's, so that runs with other seeds share the file
    score_every_steps: int = 1251  # how often k-NN is scored, tokens are drawn and the state is saved
    knn_bank: int = 4096  # labelled training images that vote; an eighth as many give patches that vote
    knn_queries: int = 1024  # held-out images that are classified; an eighth as many give patches


@dataclass
class Evaluation:
    """What is measured after each epoch, and by ``eval``."""

    benchmarks: list[str] = field(default_factory=lambda: ["pascal_voc"])
    protocol: str | None = None  # null: each benchmark's own
    grouping_protocol: str | None = None  # null: each benchmark's own, where its files hold objects; a name asks for them
    background: Literal["prompts", "threshold"] | None = None  # null: the protocol's rule
    threshold: float | None = None  # cosine below which a pixel is background, with background=threshold
    split: str | None = None  # null: the one that is reported; scenes also have tune, flickr has dev and test
    batch_size: int = 16
    limit: int | None = None  # use the first n images of each set
    pictures: int = 6  # images drawn in TensorBoard and as PNG


@dataclass
class Trainer:
    """Lightning's own keywords, passed on whole."""

    accelerator: str = "auto"
    strategy: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    precision: str = "bf16-mixed"
    max_epochs: int | None = 32
    max_steps: int = -1
    max_time: str | None = None
    fast_dev_run: bool = False
    limit_train_batches: int | None = None
    check_val_every_n_epoch: int = 1
    num_sanity_val_steps: int = 0
    log_every_n_steps: int = 10
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = 1.0
    deterministic: bool = False
    benchmark: bool = False
    detect_anomaly: bool = False
    profiler: str | None = None
    enable_progress_bar: bool = True
    enable_model_summary: bool = False


@dataclass
class Experiment:
    """A method at a scale."""

    image: Image = field(default_factory=Image)
    text: Text = field(default_factory=Text)
    projection: Projection = field(default_factory=Projection)
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    data: Data = field(default_factory=Data)
    pretraining: Pretraining = field(default_factory=Pretraining)
    evaluation: Evaluation = field(default_factory=Evaluation)
    trainer: Trainer = field(default_factory=Trainer)
    seed: int = 0
    checkpoint_every_steps: int | None = None  # besides the one at each epoch's end
    resume: str | None = None  # last, a run's folder, or a checkpoint
    benchmark_root: str | None = None  # folder that holds the benchmarks' files
    benchmark_subset: bool = False  # accept another number of images than the official one
    name: str = ""  # the experiment file; set by load
    scale: str = ""  # the scale file; set by load


TRAINER_CHOICES = {  # Lightning's own words, of those that this program was run with or can be
    "accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "strategy": ("auto", "ddp", "ddp_find_unused_parameters_true"),
    "precision": ("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true"),
    "profiler": ("simple", "advanced", "pytorch"),
}

# What does not change a result's expected value: where files lie, and how the work is spread and shown.
NOT_HASHED = (
    *("resume", "benchmark_root", "data.workers", "checkpoint_every_steps", "evaluation.pictures"),
    *(f"trainer.{key}" for key in ("accelerator", "strategy", "devices", "num_nodes", "max_time", "log_every_n_steps", "profiler")),
    *(f"trainer.{key}" for key in ("enable_progress_bar", "enable_model_summary", "detect_anomaly", "num_sanity_val_steps")),
    "image.gradient_checkpointing",
    *(f"pretraining.{key}" for key in ("score_every_steps", "knn_bank", "knn_queries")),
)

# What decides the weights that ``pretrain`` makes; of ``pretraining``, every key that is not in NOT_HASHED.
DECIDES_MADE = (
    *(f"image.{key}" for key in ("backbone", "patch_size", "width", "depth", "heads", "stem")),
    *("data.source", "data.recipe", "trainer.precision"),
)
DINO_ONLY = tuple(
    f"pretraining.{key}"
    for key in (
        *("local_size", "local_area", "local_crops", "head_width", "bottleneck", "prototypes", "frozen_head_steps", "momentum"),
        *("student_temperature", "teacher_temperature", "warmup_teacher_temperature", "warmup_teacher_steps", "centre_momentum"),
    )
)


def load(name: str | None, *, scale: str, overrides: list[str] | None = None, folder: Path = EXPERIMENTS) -> Experiment:
    """Merge schema <- scale <- experiment <- command line, and check the whole.

    Args:
        name: experiment, the stem of a YAML in ``folder``; None for a scale alone.
        scale: the stem of a YAML in ``folder / "scales"``.
        overrides: ``key.sub=value`` words.
        folder: where the files lie.

    Raises:
        ConfigError: an unknown name or key, a wrong type or value, or a combination that cannot run.
    """
    files = [_file(folder / "scales", scale, what="SCALE"), *([] if name is None else [_file(folder, name, what="EXP")])]
    layers = [(path.name, _read(path)) for path in files]
    layers += [("command line", _override(word)) for word in overrides or []]
    merged = OmegaConf.structured(Experiment)
    for origin, layer in layers:
        merged = _merge(merged, layer, origin=origin)
    merged.name, merged.scale = name or "", scale
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Experiment)
    check(config)
    return config


def load_saved(path: Path, *, overrides: list[str] | None = None) -> Experiment:
    """Read the resolved ``config.yaml`` of a run, with further overrides.

    Raises:
        ConfigError: the file is missing or does not fit the schema.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a run's folder holds config.yaml beside checkpoints/")
    merged = _merge(OmegaConf.structured(Experiment), _read(path), origin=path.name)
    for word in overrides or []:
        merged = _merge(merged, _override(word), origin="command line")
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Experiment)
    check(config)
    return config


def to_yaml(config: Experiment) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(to_plain(config), sort_keys=False)


def to_plain(config: Experiment) -> dict[str, Any]:
    """The resolved configuration as dicts and lists."""
    plain = json.loads(json.dumps(asdict(config)))
    assert isinstance(plain, dict)
    return plain


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def hashed_keys(config: Experiment) -> dict[str, Any]:
    """The keys, flat, that two runs must share to be the same run.

    Of folders and files the last name counts, so that data may move: ``data.root`` and ``image.weights``.  How an init is made counts where
    the run starts from a made one.
    """
    flat = {key: value for key, value in flatten(to_plain(config)).items() if key not in NOT_HASHED and not key.startswith("pretraining.")}
    if uses_made(config):
        flat |= {key: value for key, value in made_keys(config).items() if key.startswith("pretraining.")}  # the others are there
    return flat | {key: Path(flat[key]).name for key in ("data.root", "image.weights") if flat[key] is not None}


def uses_made(config: Experiment) -> bool:
    """Whether the image tower starts from the file that ``pretrain`` makes."""
    return config.image.weights is None and config.image.inits.get(config.image.init) == MADE


def made_keys(config: Experiment) -> dict[str, Any]:
    """The keys, flat, that decide the weights that ``pretrain`` makes for ``image.init``, beside what the data holds."""
    flat = flatten(to_plain(config))
    passed_over = (*NOT_HASHED, *(DINO_ONLY if config.image.init == "supervised" else ()))
    decides = [key for key in flat if key in DECIDES_MADE or key.startswith("pretraining.")]
    return {"init": config.image.init} | {key: flat[key] for key in decides if key not in passed_over}


def config_hash(config: Experiment) -> str:
    """12 hex digits over :func:`hashed_keys`."""
    return hashlib.sha256(json.dumps(hashed_keys(config), sort_keys=True).encode()).hexdigest()[:12]


def nearest(word: str, choices: list[str]) -> str:
    """``did you mean 'x'? choose one of a, b, c``, without the first half where nothing is near."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + "choose one of " + ", ".join(choices)


def _file(folder: Path, name: str, *, what: str) -> Path:
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"{what}={name}: no {folder.name}/{name}.yaml; {nearest(name, known)}")
    return folder / f"{name}.yaml"


def _read(path: Path) -> Any:
    try:
        return OmegaConf.create(yaml.safe_load(path.read_text()) or {})
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path.name}: not valid YAML: {' '.join(str(error).split())}") from error


def _override(word: str) -> Any:
    key, sign, _ = word.partition("=")
    if not sign or not key:
        raise ConfigError(f"{word!r}: an override is key=value, such as trainer.max_steps=100")
    try:
        return OmegaConf.from_dotlist([word])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{word!r}: the value cannot be read: {' '.join(str(error).split())}") from error


def _merge(base: Any, layer: Any, *, origin: str) -> Any:
    for key, value in flatten(OmegaConf.to_container(layer)).items():  # type: ignore[arg-type]
        _known_key(key, origin=origin, value=value)
    try:
        return OmegaConf.merge(base, layer)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "configuration"
        reason = str(error).split("\n")[0].split(", expected one of")[0]
        raise ConfigError(f"{key}: {reason} (in {origin}){_choices(str(key), layer)}") from error


def _known_key(key: str, *, origin: str, value: Any) -> None:
    node: Any = Experiment
    seen: list[str] = []
    for part in key.split("."):
        if not is_dataclass(node):
            return  # inside a dict such as image.inits
        types = {item.name: item.type for item in fields(node)}
        if part not in types:
            where = ".".join(seen) or "the experiment"
            raise ConfigError(f"{key}: {where} has no key {part!r} (in {origin}); {nearest(part, sorted(types))}")
        node = types[part]
        seen.append(part)
    if is_dataclass(node) and value is not None:
        raise ConfigError(f"{key}: {value!r} given for a group (in {origin}); choose one of its keys, such as {key}.{fields(node)[0].name}")


def _choices(key: str, layer: Any) -> str:
    node: Any = Experiment
    for part in key.split("."):
        if not is_dataclass(node):
            return ""
        node = {item.name: item.type for item in fields(node)}.get(part)
    literals = [choice for option in (node, *get_args(node)) for choice in get_args(option) if isinstance(choice, str)]
    return f"; {nearest(str(OmegaConf.select(layer, key)), literals)}" if literals else ""


def check(config: Experiment) -> None:
    """Refuse combinations that cannot run, before anything heavy is imported.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    for rule in (_check_image, _check_text, _check_numbers, _check_data, _check_pretraining, _check_evaluation, _check_trainer):
        rule(config)


def _refuse(key: str, value: Any, why: str) -> None:
    raise ConfigError(f"{key}={value}: {why}")


def _check_image(config: Experiment) -> None:
    image = config.image
    for init, used in image.inits.items():
        for name in (init, used):
            if name not in get_args(InitName) and (name, init in MADE_INITS) != (MADE, True):
                choices = [*get_args(InitName), *([MADE] if init in MADE_INITS else [])]
                _refuse(f"image.inits.{init}", used, f"not an init; {nearest(name, choices)}")
    if image.inits and image.init not in image.inits:
        _refuse("image.init", image.init, f"scale {config.scale} cannot give it; {nearest(image.init, sorted(image.inits))}")
    if image.family == "cnn":
        able = [name for name in get_args(AggregationName) if name not in SUMMARY_AGGREGATIONS]
        if image.aggregation in SUMMARY_AGGREGATIONS:
            _refuse("image.aggregation", image.aggregation, f"needs a class token, and a cnn has none; choose one of {', '.join(able)}")
        if image.keep_tokens < 1 and image.subsampling:
            _refuse("image.keep_tokens", image.keep_tokens, "a cnn cannot drop tokens; choose 1.0, or a backbone with image.family=vit")
        for key in ("patch_size", "width", "depth", "heads"):
            if getattr(image, key) is not None:
                _refuse(f"image.{key}", getattr(image, key), "only a vit's architecture can be changed; choose null")
        if image.stem != "patch":
            _refuse("image.stem", image.stem, "a cnn has no patch embedding to replace; choose patch")
    if not 0 < image.keep_tokens <= 1:
        _refuse("image.keep_tokens", image.keep_tokens, "a share of the patch tokens: choose a number above 0 and at most 1")


def _check_text(config: Experiment) -> None:
    text = config.text
    if text.aggregation == "max_with_cls":
        _refuse("text.aggregation", "max_with_cls", "a text tower's parts hold its summary token already; choose max")
    t5 = text.family == "sentence" and is_t5(text.model)
    if t5 and config.trainer.precision.startswith(("16", "transformer-engine-float16")):
        _refuse("trainer.precision", config.trainer.precision, "T5 gives NaN in fp16; choose one of bf16-mixed, bf16-true, 32-true")
    if t5 and text.aggregation in SUMMARY_AGGREGATIONS:
        _refuse("text.aggregation", text.aggregation, "needs a summary token, and T5 has none; choose avg, max or another")
    if text.family == "open_clip" and text.init != "random":
        _refuse("text.init", text.init, "family open_clip starts from random only; choose random, or text.family=sentence")
    if text.family == "open_clip" and (text.layers is None or text.width is None or text.heads is None):
        _refuse("text.family", text.family, "needs text.layers, text.width and text.heads, such as 12, 512 and 8")
    if text.family == "sentence" and (text.width is not None or text.heads is not None):
        _refuse("text.width", text.width or text.heads, "the model fixes width and heads; choose null, or text.family=open_clip")


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
        **{f"data.{key}": getattr(config.data, key) for key in ("batch_size", "limit")},
        **{"evaluation.batch_size": config.evaluation.batch_size, "evaluation.limit": config.evaluation.limit},
        **{f"optimizer.{key}": getattr(config.optimizer, key) for key in ("layer_decay", "image_rate", "text_rate", "eps")},
        **{"checkpoint_every_steps": config.checkpoint_every_steps, "trainer.gradient_clip_val": config.trainer.gradient_clip_val},
        **{f"trainer.{key}": getattr(config.trainer, key) for key in ("num_nodes", "check_val_every_n_epoch", "log_every_n_steps")},
    }
    for key, value in above_zero.items():
        if value is not None and value <= 0:
            _refuse(key, value, "choose a number above 0")
    not_below: dict[str, float] = {f"optimizer.{key}": getattr(config.optimizer, key) for key in ("weight_decay", "final_rate")}
    not_below |= {"data.workers": config.data.workers, "seed": config.seed, "optimizer.warmup_steps": config.optimizer.warmup_steps}
    not_below |= {"text.layers": config.text.layers or 0, "evaluation.pictures": config.evaluation.pictures}
    for key, value in not_below.items():
        if value < 0:
            _refuse(key, value, "choose 0 or more")
    for key in ("final_rate", "layer_decay"):
        if getattr(config.optimizer, key) > 1:
            _refuse(f"optimizer.{key}", getattr(config.optimizer, key), "a share: choose at most 1")
    if config.optimizer.ema is not None and not 0 < config.optimizer.ema < 1:
        _refuse("optimizer.ema", config.optimizer.ema, "a decay: choose a number between 0 and 1, such as 0.999, or null")


def _check_data(config: Experiment) -> None:
    if config.data.source not in SOURCES:
        _refuse("data.source", config.data.source, nearest(config.data.source, list(SOURCES)))
    if config.data.source == "tars" and config.scale != "cc12m":
        _refuse("data.source", "tars", "its reader is not written yet; choose flickr or scenes")
    if config.data.source == "flickr" and config.data.root is None:
        _refuse("data.root", None, "source flickr needs the folder that holds Images/ and captions.txt, such as data.root=flickr8k")


def _check_pretraining(config: Experiment) -> None:
    made = config.pretraining
    optional = ("gradient_clip", "limit")
    counts = ("steps", "batch_size", "image_size", "global_size", "local_size", "head_width", "bottleneck", "prototypes")
    rates = ("learning_rate", "student_temperature", "teacher_temperature", "warmup_teacher_temperature")
    for key in (*counts, *rates, *optional, "score_every_steps", "knn_bank", "knn_queries"):
        value = getattr(made, key)
        if value is not None and value <= 0:
            _refuse(f"pretraining.{key}", value, "choose a number above 0")
    warmups = ("warmup_steps", "frozen_head_steps", "warmup_teacher_steps")
    for key in ("final_learning_rate", "weight_decay", "final_weight_decay", "local_crops", "seed", *warmups):
        if getattr(made, key) < 0:
            _refuse(f"pretraining.{key}", getattr(made, key), "choose 0 or more")
    for key in warmups:
        if getattr(made, key) > made.steps:
            _refuse(f"pretraining.{key}", getattr(made, key), f"the run has pretraining.steps={made.steps}; choose no more")
    if made.final_learning_rate > made.learning_rate:
        _refuse("pretraining.final_learning_rate", made.final_learning_rate, "choose no more than pretraining.learning_rate")
    for key in ("momentum", "centre_momentum"):
        if not 0 <= getattr(made, key) <= 1:
            _refuse(f"pretraining.{key}", getattr(made, key), "a share of what was: choose a number in 0 to 1")
    for key in ("global_area", "local_area"):
        least, most = getattr(made, key)
        if not 0 < least <= most <= 1:
            _refuse(f"pretraining.{key}", [least, most], "shares of the image's area, the smaller first: choose two above 0 and at most 1")
    if uses_made(config):
        _check_made(config)


def _check_made(config: Experiment) -> None:
    """What concerns only a run that pretrains, or starts from what was made so."""
    image, made = config.image, config.pretraining
    if image.family != "vit":
        _refuse(f"image.inits.{image.init}", MADE, "pretraining is for ViTs; choose another init, or a backbone with image.family=vit")
    for key in ("global_size", *(("local_size",) if image.init == "dino" and made.local_crops else ())):
        if image.patch_size is not None and getattr(made, key) % image.patch_size:
            _refuse(f"pretraining.{key}", getattr(made, key), f"choose a multiple of image.patch_size={image.patch_size}")
    if image.init == "dino" and config.trainer.precision in ("bf16-true", "16-true"):
        why = "the teacher moves by less than such numbers can hold; choose 32-true or bf16-mixed"
        _refuse("trainer.precision", config.trainer.precision, f"pretraining dino: {why}")
    if image.init == "supervised" and config.data.source == "scenes" and not made.object_centred:
        _refuse("pretraining.object_centred", made.object_centred, "init supervised needs one label an image; choose true")


def _check_evaluation(config: Experiment) -> None:
    if len(set(config.evaluation.benchmarks)) < len(config.evaluation.benchmarks):
        _refuse("evaluation.benchmarks", config.evaluation.benchmarks, "names one twice; choose each once")
    for name in config.evaluation.benchmarks:
        if name not in BENCHMARKS:
            _refuse("evaluation.benchmarks", name, nearest(name, sorted(BENCHMARKS)))
        own = BENCHMARKS[name].image_set == config.data.source  # its root is data.root
        if BENCHMARKS[name].needs_root and not own and config.benchmark_root is None:
            _refuse("benchmark_root", None, f"benchmark {name} needs its files: benchmark_root=DIR, {BENCHMARKS[name].layout}")
    if config.evaluation.protocol is not None and config.evaluation.protocol not in PROTOCOLS:
        _refuse("evaluation.protocol", config.evaluation.protocol, nearest(config.evaluation.protocol, list(PROTOCOLS)))
    wanted = config.evaluation.grouping_protocol
    if wanted is not None and wanted not in GROUPING_PROTOCOLS:
        _refuse("evaluation.grouping_protocol", wanted, nearest(wanted, list(GROUPING_PROTOCOLS)))
    if config.evaluation.background == "threshold" and config.evaluation.threshold is None:
        _refuse("evaluation.threshold", None, "background=threshold needs a cosine, such as evaluation.threshold=0.2")


def _check_trainer(config: Experiment) -> None:
    trainer = config.trainer
    if trainer.accumulate_grad_batches != 1:
        why = "gradients of small batches do not add up to a large batch's: its pairs would not be each other's negatives"
        _refuse("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, f"{why}; choose 1 and more devices")
    if trainer.max_steps == -1 and trainer.max_epochs in (None, -1):
        _refuse("trainer.max_steps", -1, "the learning rate's schedule needs an end; set trainer.max_steps or trainer.max_epochs")
    for key, value in {"max_steps": trainer.max_steps, "max_epochs": trainer.max_epochs}.items():
        if value is not None and value != -1 and value <= 0:
            _refuse(f"trainer.{key}", value, "choose a number above 0, or -1 for no such end")
    for key, known in TRAINER_CHOICES.items():
        value = getattr(trainer, key)
        if value is not None and value not in known:
            _refuse(f"trainer.{key}", value, nearest(str(value), list(known)))
    if trainer.devices in (0, "0"):
        _refuse("trainer.devices", trainer.devices, "choose auto or a number of devices above 0")
    if trainer.max_time is not None and not re.fullmatch(r"\d{2}:\d{2}:\d{2}:\d{2}", trainer.max_time):
        _refuse("trainer.max_time", trainer.max_time, "choose days:hours:minutes:seconds, such as 00:12:00:00")
