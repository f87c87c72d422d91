"""Protocols that are published as notebooks: dino.txt, TIPS."""

from typing import Any

from gestalt.evaluation.protocols.preset import PIXELS, TEMPLATES, Preset
from gestalt.evaluation.protocols.top_down import TopDownProtocol

NOTEBOOK: dict[str, Any] = {"resize": "keep_ratio", "rounding": "truncate", "fit": "stretch", "scores": "softmax", "lower_case": False}

DINOTXT = Preset(
    protocol=TopDownProtocol(
        **NOTEBOOK,
        name="dinotxt-512",
        input_size=512,
        window=384,
        stride=192,
        templates=TEMPLATES["openai_80"],
        vocabulary="dinotxt",
        left_out=("the half of the text vector that is aligned with patches: the whole vector is used", PIXELS),
        source="facebookresearch/dinov3 at 6876159, notebooks/dinotxt_segmentation_inference.ipynb",
    )
)

TIPS = Preset(
    protocol=TopDownProtocol(
        **NOTEBOOK,
        name="tips-448",
        input_size=448,
        window=448,
        stride=336,
        templates=TEMPLATES["tcl_9"],
        vocabulary="tips",
        left_out=("values instead of attention in the last block", "texts cut at 64 tokens: the text tower's own limit", PIXELS),
        source="google-deepmind/tips at 4db271d, pytorch/TIPS_zeroshot_segmentation.ipynb",
    )
)
