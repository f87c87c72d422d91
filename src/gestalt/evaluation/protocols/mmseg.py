"""The mmsegmentation lineage at 448 pixels: GroupViT, TCL, Talk2DINO."""

from gestalt.evaluation.protocols.preset import MMSEG, NARROW, NOTHING_IS_BACKGROUND, PIXELS, TEMPLATES, Preset
from gestalt.evaluation.protocols.top_down import TopDownProtocol

SHARED = Preset(
    protocol=TopDownProtocol(
        **MMSEG,
        name="mmseg-448",
        templates=TEMPLATES["one"],
        left_out=(NARROW, PIXELS),
        ours=("what the variants share is size and windows: here with cosines, and the label set's own phrases, background too",),
        source="mmsegmentation 1.1.1 on PyPI, and what GroupViT, TCL and Talk2DINO have in common",
    )
)

GROUPVIT = Preset(
    protocol=TopDownProtocol(
        **MMSEG,
        name="mmseg-448/groupvit",
        templates=TEMPLATES["one"],
        ensembling="raw_mean",
        vocabulary="groupvit",
        scores="affinity",
        top_classes=5,
        window_upsample="nearest",
        background="affinity",
        threshold=0.95,
        left_out=("group tokens: each location is a group of its own", NARROW, PIXELS),
        source="NVlabs/GroupViT at 13b7861, segmentation/configs/_base_/datasets, segmentation/evaluation/group_vit_seg.py",
    ),
    label_sets={"context60": {"threshold": 0.35}},
    no_background=NOTHING_IS_BACKGROUND,
)

_TCL_LEFT_OUT = (
    "its decoder, which makes a grid four times as fine",
    "scale and bias of its sigmoid as learned: their values at the start stand here",
    NARROW,
    PIXELS,
)

TCL = Preset(
    protocol=TopDownProtocol(
        **MMSEG,
        name="mmseg-448/tcl",
        templates=TEMPLATES["tcl_9"],
        ensembling="raw_mean",
        vocabulary="tcl",
        scores="sigmoid",
        score_scale=10.0,
        score_bias=-2.5,
        background="constant",
        threshold=0.4,
        refinement="pamr",
        refined_at="grid",
        refinement_iterations=10,
        refinement_dilations=(1, 2, 4, 8, 12, 24),
        left_out=(_TCL_LEFT_OUT[0], "30 % of the mask from a frozen CLIP (kp_weight 0.3)", *_TCL_LEFT_OUT[1:]),
        source="kakaobrain/tcl at bc2b551, configs/eval.yml, configs/tcl.yml, models/tcl/tcl.py",
    ),
    unrefined={  # its setting without PAMR, which takes nothing from a frozen CLIP either
        "threshold": 0.5,
        "left_out": _TCL_LEFT_OUT,
        "source": "khanrc/tcl at e643d68, configs/default.yml (pamr false, kp_w 0.0, bg_thresh 0.5); else kakaobrain/tcl at bc2b551",
    },
    no_background=NOTHING_IS_BACKGROUND,
)

TALK2DINO = Preset(
    protocol=TopDownProtocol(
        **MMSEG,
        name="mmseg-448/talk2dino",
        templates=TEMPLATES["openai_7"],
        ensembling="raw_mean",
        vocabulary="talk2dino",
        scores="sigmoid",
        window_upsample="bilinear_aligned",
        background="constant",
        threshold=0.55,
        left_out=(
            "cleaning of the background by the attention of heads, on for voc21 and coco_object (lambda_bg 0.2)",
            "templates averaged before its text projection: here after the tower's own",
            "threshold 0.54 of its ViT-L",
            NARROW,
            PIXELS,
        ),
        source="lorebianchi98/Talk2DINO at 4918c2d, src/open_vocabulary_segmentation/configs, models/dinotext/dinotext.py",
    ),
    no_background=NOTHING_IS_BACKGROUND,
)
