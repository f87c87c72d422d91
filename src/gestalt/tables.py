"""Tables of the built-in aggregations, projections, losses, auxiliary losses, dense inference
methods, towers and pretrained weights.  The configuration, ``gestalt list`` and the builders read
them.

To add one, write the function or class in its file, and add a row here. Nothing else changes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gestalt.support.plugins import OpenRegistry, Row


@dataclass(frozen=True)
class Aggregation(Row):
    """A row of ``AGGREGATIONS``.

    Attributes:
        needs_class_token: True if the aggregation reads the summary.
        images_only: True if it cannot aggregate texts.
        beside: True if it concatenates the summary and the pooled parts, which is twice as wide as
            a token.
    """

    needs_class_token: bool = False
    images_only: bool = False
    beside: bool = False


@dataclass(frozen=True)
class Projecting(Row):
    """A row of ``PROJECTIONS``.  If ``after``, the pooled vectors are projected instead of the
    tokens.
    """

    after: bool = False


@dataclass(frozen=True)
class LossOfPairs(Row):
    """A row of ``LOSSES``.

    Attributes:
        one_direction: True if ``loss.directions`` must be "sum".
        scalars: initial logit scale and bias of the model, if they differ from those of the
            contrastive loss.
    """

    one_direction: bool = False
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FurtherTerm(Row):
    """A row of ``TERMS``, an auxiliary loss.  If ``reads_nouns``, it needs the list of the
    captions' nouns.
    """

    reads_nouns: bool = False


@dataclass(frozen=True)
class DenseReading(Row):
    """A row of ``READINGS``, a dense inference method.  If ``needs_proxy``, it uses the attention
    of a proxy model; if ``keeps_block``, it takes the last block as it is.
    """

    needs_proxy: bool = False
    keeps_block: bool = False


@dataclass(frozen=True)
class Init(Row):
    """A row of ``INITS``, pretrained weights.  ``tags`` are timm's; the first tag that a backbone
    has is used.
    """

    tags: tuple[str, ...] = ()


AGGREGATIONS: OpenRegistry[Any] = OpenRegistry(
    "aggregations",
    [
        Aggregation(
            "cls",
            "the class token, or a text's summary token",
            "gestalt.aggregation:summary_token",
            needs_class_token=True,
        ),
        Aggregation("avg", "mean of the tokens", "gestalt.aggregation:mean_of_parts"),
        Aggregation(
            "max", "maximum of each channel, as in the paper", "gestalt.aggregation:max_of_parts"
        ),
        Aggregation(
            "max_with_cls",
            "maximum of each channel, with the class token among the tokens",
            "gestalt.aggregation:max_with_summary",
            needs_class_token=True,
            images_only=True,
        ),
        Aggregation(
            "cls_and_avg",
            "the class token concatenated with the mean of the patch tokens, as in dino.txt",
            "gestalt.aggregation:summary_and_mean",
            needs_class_token=True,
            images_only=True,
            beside=True,
        ),
        Aggregation(
            "cls_and_max",
            "the class token concatenated with the maximum of each channel over the patch tokens",
            "gestalt.aggregation:summary_and_max",
            needs_class_token=True,
            images_only=True,
            beside=True,
        ),
        Aggregation(
            "attention", "attention with one learned query", "gestalt.aggregation:AttentionPooling"
        ),
        Aggregation(
            "log_sum_exp",
            "soft maximum of each channel with learned sharpness",
            "gestalt.aggregation:LogSumExp",
        ),
        Aggregation(
            "top_k",
            "mean of the highest tenth of the values of each channel",
            "gestalt.aggregation:mean_of_top_tenth",
        ),
        Aggregation(
            "top_5",
            "mean of the five highest values of each channel",
            "gestalt.aggregation:mean_of_top_5",
        ),
        Aggregation(
            "generalised_mean",
            "power mean of each channel with a learned exponent",
            "gestalt.aggregation:GeneralisedMean",
        ),
    ],
)
"""Functions of ``Tokens``, or modules that are constructed with a width."""

PROJECTIONS: OpenRegistry[Any] = OpenRegistry(
    "projections",
    [
        Projecting(
            "before", "a linear map of each token, as in the paper", "gestalt.projection:LINEAR"
        ),
        Projecting(
            "after",
            "a linear map of the aggregated vector, as in CLIP",
            "gestalt.projection:LINEAR",
            after=True,
        ),
        Projecting("none", "no projection, as in the paper's code", "gestalt.projection:NONE"),
        Projecting(
            "text",
            "a linear map of each word, and no projection of images, as in LiT",
            "gestalt.projection:TEXT",
        ),
        Projecting(
            "text_mlp",
            "two layers after aggregation for texts, and no projection of images, as in Talk2DINO",
            "gestalt.projection:TEXT_MLP",
            after=True,
        ),
        Projecting(
            "blocks",
            "two new blocks over the image tokens and a linear map of each word, as in dino.txt",
            "gestalt.projection:BLOCKS",
        ),
        Projecting(
            "blocks_trunk",
            "as blocks, but scored with the patch tokens of the trunk, as in dino.txt's notebook",
            "gestalt.projection:BLOCKS_TRUNK",
        ),
        Projecting(
            "glu",
            "gated layers after aggregation, as in SAIL",
            "gestalt.projection:GATED",
            after=True,
        ),
        Projecting(
            "siglip",
            "for a start from SigLIP: its attention pooling for images, a linear map for texts",
            "gestalt.projection:SIGLIP",
        ),
        Projecting(
            "classifier",
            "for a start from a classifier: its class names for images, no projection of texts",
            "gestalt.projection:CLASSIFIER",
        ),
        Projecting(
            "classifier_image",
            "as classifier, and for a whole image a linear map of its mean feature besides",
            "gestalt.projection:CLASSIFIER_IMAGE",
        ),
    ],
)
"""Objects of class ``Maps``: the projections of both sides to the embedding width."""

LOSSES: OpenRegistry[Any] = OpenRegistry(
    "losses",
    [
        LossOfPairs(
            "contrastive",
            "symmetric cross-entropy between the images and texts of a batch, over all ranks",
            "gestalt.losses.contrastive:contrastive_loss",
        ),
        LossOfPairs(
            "sigmoid",
            "SigLIP's sigmoid loss of each image with each text, over all ranks, with a learned "
            "bias",
            "gestalt.losses.sigmoid:sigmoid_loss",
            one_direction=True,
            scalars={"logit_scale": math.log(10), "logit_bias": -10.0},
        ),
    ],
)
"""Functions that take the arguments of ``contrastive_loss``.  Source of SigLIP's scalars: Zhai et
al. 2023 (arXiv:2303.15343), section 3.2.
"""

TERMS: OpenRegistry[Any] = OpenRegistry(
    "terms",
    [
        FurtherTerm(
            "nouns",
            "contrasts each noun of a caption with other nouns and other images, with its "
            "best-matching patch or a softmax-weighted mean of patches",
            "gestalt.losses.nouns:Nouns",
            reads_nouns=True,
        ),
        FurtherTerm(
            "nouns_of_images",
            "the same contrast of each noun with the pooled vectors of images",
            "gestalt.losses.nouns:NounsOfImages",
            reads_nouns=True,
        ),
        FurtherTerm(
            "self_distillation",
            "patches of a masked image predict the prototypes of the same patches in the whole "
            "image",
            "gestalt.losses.self_distillation:SelfDistillation",
        ),
    ],
)
"""Functions of ``Parts`` that build a ``Term``."""

READINGS: OpenRegistry[Any] = OpenRegistry(
    "readings",
    [
        DenseReading(
            "plain",
            "the last block as it is",
            "gestalt.encoders.readings:PLAIN",
            keeps_block=True,
        ),
        DenseReading(
            "maskclip",
            "each token attends to itself alone, as in MaskCLIP",
            "gestalt.encoders.readings:MASKCLIP",
        ),
        DenseReading(
            "values",
            "as maskclip without residual and MLP, as MaskCLIP in ClearCLIP's code",
            "gestalt.encoders.readings:VALUES",
        ),
        DenseReading(
            "sclip",
            "query-query plus key-key attention, as in SCLIP",
            "gestalt.encoders.readings:SCLIP",
        ),
        DenseReading(
            "clearclip",
            "query-query attention without residual and MLP, as in ClearCLIP",
            "gestalt.encoders.readings:CLEARCLIP",
        ),
        DenseReading(
            "naclip",
            "key-key attention that favours near patches, without residual and MLP, as in NACLIP",
            "gestalt.encoders.readings:NACLIP",
        ),
        DenseReading(
            "proxyclip",
            "attention from the features of a second model, without residual and MLP, as in "
            "ProxyCLIP",
            "gestalt.encoders.readings:PROXYCLIP",
            needs_proxy=True,
        ),
        DenseReading(
            "affinity",
            "the last block as it is; locations are averaged with those of similar features",
            "gestalt.encoders.readings:AFFINITY",
            keeps_block=True,
        ),
    ],
)
"""Objects of class ``Reading``."""

IMAGE_TOWERS: OpenRegistry[Any] = OpenRegistry(
    "image_towers",
    [
        Row("vit", "a ViT of timm", "gestalt.encoders.image:build_timm_tower"),
        Row("cnn", "a CNN of timm", "gestalt.encoders.image:build_timm_tower"),
    ],
)
"""Functions of the configuration's ``Image``.  ``gestalt.encoders.towers`` documents what functions
from packages or from your own code must return.
"""

TEXT_TOWERS: OpenRegistry[Any] = OpenRegistry(
    "text_towers",
    [
        Row(
            "sentence",
            "a model of sentence-transformers without its pooling",
            "gestalt.encoders.text:SentenceTower",
        ),
        Row("open_clip", "CLIP's text transformer", "gestalt.encoders.text:OpenClipTower"),
        Row(
            "open_clip_quickgelu",
            "CLIP's text transformer with QuickGELU",
            "gestalt.encoders.text:OpenClipTower",
        ),
        Row("siglip", "the text tower of a start from SigLIP", "gestalt.encoders.text:SiglipTower"),
        Row(
            "siglip2",
            "the text tower of a start from SigLIP 2",
            "gestalt.encoders.text:SiglipTower",
        ),
    ],
)
"""Classes or functions that build a ``TextTower`` from the configuration's ``Text``."""

INITS = {
    row.name: row
    for row in (
        Init("random", "random weights"),
        Init(
            "supervised",
            "ImageNet classification, or classification of scenes for weights that come with the "
            "package",
            # ImageNet-1K only, if possible
            tags=("augreg_in1k", "augreg_in21k_ft_in1k", "fb_in1k", "a1_in1k", "in1k"),
        ),
        Init(
            "dino",
            "DINO self-distillation on ImageNet, or on scenes for weights that come with the "
            "package",
            tags=("dino",),
        ),
        Init("dinov2", "DINOv2", tags=("lvd142m",)),
        Init("mae", "masked autoencoder", tags=("mae",)),
        Init("clip", "OpenAI's CLIP", tags=("openai",)),
    )
}
"""The values of ``image.init``.  timm's tags are accepted too."""
