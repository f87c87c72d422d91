"""open_clip's descriptions of models, by family of their text tower."""

from typing import Any

TEXTS: dict[str, dict[str, Any]] = {
    "open_clip": {},
    "open_clip_quickgelu": {"quick_gelu": True},
    "siglip": {
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {"timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "tokenizer_kwargs": {"clean": "canonicalize"},
        },
    },
}
TEXTS["siglip2"] = TEXTS["siglip"] | {
    "text_cfg": {**TEXTS["siglip"]["text_cfg"], "act_kwargs": {"approximate": "tanh"}}
}
"""The families of text towers that open_clip builds, two of CLIP and two of SigLIP -> what its
description of a model with such a tower has beside its sizes.
"""
