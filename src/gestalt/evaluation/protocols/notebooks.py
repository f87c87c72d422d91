"""Protocols that are published as notebooks: dino.txt, TIPS."""

from gestalt.evaluation.protocols.preset import PIXELS, TEMPLATES, Preset
from gestalt.evaluation.protocols.top_down import TopDownProtocol

DINOTXT = Preset(
    protocol=TopDownProtocol(
        name="dinotxt-512",
        input_size=512,
        resize="keep_ratio",
        rounding="truncate",
        window=384,
        stride=192,
        fit="stretch",
        scores="softmax",
        templates=TEMPLATES["openai_80"],
        lower_case=False,
        vocabulary="dinotxt",
        left_out=("the half of the text vector that is aligned with patches: the whole vector is used", PIXELS),
        source="facebookresearch/dinov3 at 6876159, notebooks/dinotxt_segmentation_inference.ipynb",
    )
)

TIPS = Preset(
    protocol=TopDownProtocol(
        name="tips-448",
        input_size=448,
        resize="keep_ratio",
        rounding="truncate",
        window=448,
        stride=336,
        fit="stretch",
        scores="softmax",
        templates=TEMPLATES["tcl_9"],
        lower_case=False,
        vocabulary="tips",
        left_out=("values instead of attention in the last block", "texts cut at 64 tokens: the text tower's own limit", PIXELS),
        source="google-deepmind/tips at 4db271d, pytorch/TIPS_zeroshot_segmentation.ipynb",
    )
)
