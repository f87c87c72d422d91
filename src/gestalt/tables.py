"""The built-in aggregations, losses, terms, readings, towers and inits: a row for each, read by
configuration, ``gestalt list`` and builders.

To add one: write the function or class in its file, and its row here.  Nothing else changes.
"""

import math
from typing import Any

from gestalt.support.plugins import OpenRegistry, Registry, Row

AGGREGATIONS: Registry[Any] = Registry(
    "aggregations",
    [
        Row(
            "cls",
            "the class token, or a text's summary token",
            "gestalt.aggregation:summary_token",
            {"needs_class_token": True},
        ),
        Row("avg", "mean of the tokens", "gestalt.aggregation:mean_of_parts"),
        Row("max", "maximum of each channel, the paper's", "gestalt.aggregation:max_of_parts"),
        Row(
            "max_with_cls",
            "maximum of each channel, with the class token among the tokens",
            "gestalt.aggregation:max_with_summary",
            {"needs_class_token": True, "images_only": True},
        ),
        Row(
            "attention", "attention with one learned query", "gestalt.aggregation:AttentionPooling"
        ),
        Row(
            "log_sum_exp",
            "soft maximum of each channel, its sharpness learned",
            "gestalt.aggregation:LogSumExp",
        ),
        Row(
            "top_k",
            "mean of the highest tenth of each channel",
            "gestalt.aggregation:mean_of_top_tenth",
        ),
        Row(
            "top_5", "mean of the five highest of each channel", "gestalt.aggregation:mean_of_top_5"
        ),
        Row(
            "generalised_mean",
            "power mean of each channel, its exponent learned",
            "gestalt.aggregation:GeneralisedMean",
        ),
    ],
)
"""Functions of ``Tokens``, or modules made for a width.  Facts: ``needs_class_token``;
``images_only``, not for texts.
"""

LOSSES: Registry[Any] = Registry(
    "losses",
    [
        Row(
            "contrastive",
            "symmetric cross-entropy between the images and texts of a batch, over all ranks",
            "gestalt.losses.contrastive:contrastive_loss",
        ),
        Row(
            "sigmoid",
            "SigLIP's logistic loss of each image with each text, over all ranks, with a learned "
            "bias",
            "gestalt.losses.sigmoid:sigmoid_loss",
            {"one_direction": True, "scalars": {"logit_scale": math.log(10), "logit_bias": -10.0}},
        ),
    ],
)
"""Functions called as ``contrastive_loss`` is.

Facts: ``one_direction``, ``loss.directions`` must be "sum"; ``scalars``, the initial logit scale
and bias of the model where they are not those of the contrastive loss.  Source of SigLIP's: Zhai et
al. 2023 (arXiv:2303.15343), section 3.2.
"""

TERMS: Registry[Any] = Registry(
    "terms",
    [
        Row(
            "nouns",
            "contrasts each noun with other nouns, and its image with other images, by its nearest "
            "patch, or by the mean of patches weighted by a softmax of their cosines",
            "gestalt.losses.nouns:Nouns",
            {"reads_nouns": True},
        ),
        Row(
            "self_distillation",
            "patches of a masked image predict the prototypes of the same patches of the whole "
            "image",
            "gestalt.losses.self_distillation:SelfDistillation",
        ),
    ],
)
"""Functions of ``Parts`` that build a ``Term``.  Fact: ``reads_nouns``, it needs the list of the
captions' nouns.
"""

READINGS: Registry[Any] = Registry(
    "readings",
    [
        Row("plain", "the last block as it is", "gestalt.encoders.readings:PLAIN"),
        Row(
            "maskclip",
            "each token attends to itself alone, MaskCLIP's",
            "gestalt.encoders.readings:MASKCLIP",
        ),
        Row(
            "values",
            "as maskclip, without residual and MLP: MaskCLIP's in ClearCLIP's code",
            "gestalt.encoders.readings:VALUES",
        ),
        Row(
            "sclip",
            "query-query plus key-key attention, SCLIP's",
            "gestalt.encoders.readings:SCLIP",
        ),
        Row(
            "clearclip",
            "query-query attention without residual and MLP, ClearCLIP's",
            "gestalt.encoders.readings:CLEARCLIP",
        ),
        Row(
            "naclip",
            "key-key attention that favours near patches, without residual and MLP, NACLIP's",
            "gestalt.encoders.readings:NACLIP",
        ),
        Row(
            "proxyclip",
            "attention of a second model's features, without residual and MLP, ProxyCLIP's",
            "gestalt.encoders.readings:PROXYCLIP",
            {"needs_proxy": True},
        ),
    ],
)
"""Objects of class ``Reading``.  Fact: ``needs_proxy``, its attention is that of a proxy model."""
IMAGE_TOWERS: OpenRegistry[Any] = OpenRegistry(
    "image_towers",
    [
        Row("vit", "a ViT of timm", "gestalt.encoders.image:build_timm_tower"),
        Row("cnn", "a CNN of timm", "gestalt.encoders.image:build_timm_tower"),
    ],
)
"""Functions of the configuration's ``Image`` and a size; those that a package adds, and of one's
own code, are called with the ``Image`` alone, and ``gestalt.encoders.own`` says what they return.
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
        Row("open_clip_quickgelu", "with QuickGELU", "gestalt.encoders.text:OpenClipTower"),
        Row("siglip", "that of a start from SigLIP", "gestalt.encoders.text:SiglipTower"),
        Row("siglip2", "that of a start from SigLIP 2", "gestalt.encoders.text:SiglipTower"),
    ],
)
"""Classes or functions that make a ``TextTower`` of the configuration's ``Text``."""

TEXTS: dict[str, dict[str, Any]] = {
    "open_clip": {},
    "open_clip_quickgelu": {"quick_gelu": True},
    "siglip": {
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg.timm_pool": "map",
        "vision_cfg.timm_proj": "none",
        "text_cfg.no_causal_mask": True,
        "text_cfg.proj_bias": True,
        "text_cfg.pool_type": "last",
        "text_cfg.norm_kwargs.eps": 1e-6,
        "text_cfg.tokenizer_kwargs.clean": "canonicalize",
    },
}
TEXTS["siglip2"] = {**TEXTS["siglip"], "text_cfg.act_kwargs.approximate": "tanh"}
"""The families of text towers that open_clip builds, two of CLIP and two of SigLIP -> what its
description of a model with such a tower has beside its sizes.
"""

INITS = {
    row.name: row
    for row in (
        Row("random", "random weights"),
        Row(
            "supervised",
            "classification of ImageNet, or of scenes where it is made here",
            # ImageNet-1K alone where possible
            facts={"tags": ("augreg_in1k", "augreg_in21k_ft_in1k", "fb_in1k", "a1_in1k", "in1k")},
        ),
        Row("dino", "self-distillation, of ImageNet or made here", facts={"tags": ("dino",)}),
        Row("dinov2", "DINOv2", facts={"tags": ("lvd142m",)}),
        Row("mae", "masked autoencoder", facts={"tags": ("mae",)}),
        Row("clip", "OpenAI's CLIP", facts={"tags": ("openai",)}),
    )
}
"""The words for an image init; timm's tags are accepted too.  Fact: ``tags``, timm's; a backbone
starts from the first that it has.
"""
