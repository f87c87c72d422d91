"""The schema, whose defaults are the paper's run.

Source of the defaults: Ranasinghe et al. 2023 (arXiv:2210.09996), tables 1 and 6 and section 3.  What its main text does not state
(optimiser, rates, batch, warm-up) follows kahnchana/clippy at 04bf78b where it says so, and is ours otherwise; each comment tells.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

AggregationName = Literal["cls", "avg", "max", "max_with_cls", "attention", "log_sum_exp", "top_k", "generalised_mean"]
InitName = Literal["random", "supervised", "dino", "dinov2", "mae", "clip"]
MADE = "made"  # what an init may resolve to at a scale, besides another init: the file that ``pretrain`` makes for it there
MADE_INITS = ("dino", "supervised")


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
class MixturePart:
    """One source of a mixture."""

    source: str
    root: str | None = None
    weight: float | None = None  # its share of the pairs is this over the sum of all; null in all of them: the numbers of their pairs
    limit: int | None = None  # use its first n pairs
    manifest: str | None = None  # as data.manifest
    caption: str | None = None  # as data.caption, which it replaces here
    options: dict[str, Any] = field(default_factory=dict)  # as data.options


@dataclass
class Data:
    """Image-text pairs to train on."""

    source: str = "tars"  # a file under data_modules/sources
    root: str | None = None  # the source's folder, or tars such as 'cc12m-{0000..1242}.tar'; scenes: cut-outs, null for the embedded ones
    options: dict[str, Any] = field(default_factory=dict)  # keywords of that source alone, such as split or image_column
    mixture: list[MixturePart] = field(default_factory=list)  # source mixture only: what is mixed
    recipe: str = "scenes_v1"  # scenes only: which recipe; those that end in _spurious correlate Waterbirds' twins in training
    limit: int | None = None  # use the first n pairs; scenes are endless, there it is the number of pairs an epoch
    caption: str | None = None  # where captions are: a column, in tars txt or a key of the .json; null: the source's own
    caption_choice: Literal["first", "random"] = "random"  # where a pair has several: random is one in each epoch
    caption_template: str | None = None  # what a caption is put into, such as "a photo of {}"
    manifest: str | None = None  # what `gestalt data inspect` wrote: the samples that it calls bad are left out
    cache: str | None = None  # folder for indices of tars that cannot lie beside them, and for unpacked .tar.gz; null: ~/.cache/gestalt
    cache_gib: float = 50.0  # most GiB of unpacked tars there
    batch_size: int = 8192  # pairs a step, over all ranks
    workers: int = 8  # loader processes a rank
    window_shards: int = 16  # shards whose pairs are shuffled together; a source without shards is shuffled whole
    max_bad_share: float = 0.1  # the run stops when more of the samples cannot be read, [0, 1]


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
    classification_protocol: str | None = None  # null: each benchmark's own
    robustness_protocol: str | None = None  # null: each benchmark's own
    matching_protocol: str | None = None  # null: each benchmark's own
    background: Literal["prompts", "threshold"] | None = None  # null: the protocol's rule
    threshold: float | None = None  # null: the protocol's; what its background rule compares with, such as a cosine
    calibration: str | None = None  # a file of `gestalt calibrate`, whose threshold its benchmark is scored with; null: none
    defects: Literal["strict", "fixed"] = "strict"  # known defects of a protocol's original: kept, or mended
    refinement: Literal["none", "pamr", "crf"] | None = None  # null: the protocol's own
    split: str | None = None  # null: the one that is reported; scenes also have tune, flickr dev and test, files of masks train and val
    batch_size: int = 16
    # in training use n images of each set: the first, or of files with one class each some of every stretch; `eval` scores all of them,
    # unless its command line names a limit
    limit: int | None = None
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
    benchmark_root: str | None = None  # folder that holds the benchmarks' files, of several at once if wanted
    benchmark_subset: bool = False  # accept another number of images than the official one
    name: str = ""  # the experiment file; set by load
    scale: str = ""  # the scale file; set by load


def uses_made(config: Experiment) -> bool:
    """Whether the image tower starts from the file that ``pretrain`` makes."""
    return config.image.weights is None and config.image.inits.get(config.image.init) == MADE
