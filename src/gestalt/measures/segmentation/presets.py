"""Segmentation's protocols by name: the published ones, each with its exceptions, and our own.

To add one: a row here.  Every number is from the repository that its ``source`` names;
our own choices are named in ``ours``.
"""

from dataclasses import replace
from typing import Any

from gestalt.measures.dense.protocol import USUAL_PROXY, Preset, TopDownProtocol
from gestalt.measures.evaluation.protocols import TEMPLATES
from gestalt.support.names import nearest
from gestalt.support.plugins import Registry

PIXELS = "normalisation of pixels: the tower's own"
NARROW = (
    "an image so long that it is narrower than a window: stretched to whole patches, not padded "
    "with zeros"
)

MMSEG: dict[str, Any] = {
    "input_size": 448,
    "resize": "keep_ratio",
    "long_limit": 2048,
    "rounding": "half_up",
    "interpolation": "bilinear",
    "antialias": False,
    "window": 448,
    "stride": 224,
    "fit": "stretch",
    "lower_case": False,
}
"""Resize, windows and merge of the mmsegmentation lineage.  OpenCV's bilinear, in fixed point, may
differ by a grey level.
"""

_TCL_LEFT_OUT = (
    "its decoder, which makes a grid four times as fine",
    "scale and bias of its sigmoid as learned: their values at the start stand here",
    NARROW,
    PIXELS,
)

SCLIP: dict[str, Any] = {
    **MMSEG,
    "input_size": 336,
    "window": 224,
    "stride": 112,
    "templates": TEMPLATES["openai_80"],
    "background": "probability",
    "threshold": 0.0,
    "logit_scale": 40.0,
    "positions": "scale_factor",
}
"""The lineage of SCLIP: SCLIP, NACLIP and ProxyCLIP at 336 pixels, ClearCLIP and its MaskCLIP at
448.
"""

CLEARCLIP = Preset(
    protocol=TopDownProtocol(
        **{**SCLIP, "input_size": 448, "window": 448, "stride": 224, "logit_scale": 50.0},
        name="clearclip-448/clearclip",
        vocabulary="clearclip",
        reading="clearclip",
        left_out=(NARROW, PIXELS),
        ours=(
            "the lists of Context, COCO-Stuff, ADE20K and Cityscapes are SCLIP's; those of VOC20 "
            "and COCO-Object are the label sets' own",
        ),
        source="mc-lan/ClearCLIP at afe06b8, configs/*.py, clearclip_segmentor.py",
    ),
    label_sets={
        "voc21": {"threshold": 0.5},
        "context60": {"threshold": 0.15},
        "coco_object_81": {"threshold": 0.4},
        "cityscapes_19": {"window": 224},
    },
)

MASKCLIP = replace(
    CLEARCLIP,
    protocol=replace(
        CLEARCLIP.protocol,
        name="clearclip-448/maskclip",
        reading="values",
        source=(
            "mc-lan/ClearCLIP at afe06b8, its model_type MaskCLIP, by which that lineage's tables "
            "compare"
        ),
    ),
)

NOTEBOOK: dict[str, Any] = {
    "resize": "keep_ratio",
    "rounding": "truncate",
    "fit": "stretch",
    "scores": "softmax",
    "lower_case": False,
}

_ROWS = (
    Preset(
        protocol=TopDownProtocol(name="whole_square"),
        sized_by_tower=True,
    ),
    Preset(
        protocol=TopDownProtocol(name="whole_short_side", input_size=448, resize="short_side"),
        sized_by_tower=True,
    ),
    Preset(
        protocol=TopDownProtocol(
            name="clippy-paper",
            input_size=448,
            resize="short_side",
            ours=(
                "resolution: the larger of the two that the paper names, short side 448, aspect "
                "kept",
                "prompts: the label set's own phrases in one template",
                "background: prompts of its own, where the label set has them",
                "up-sampling: logits, bilinear, to the label's native size",
            ),
            source=(
                "Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; its appendices could not be "
                "read"
            ),
        )
    ),
    Preset(
        protocol=TopDownProtocol(
            name="clippy-repo",
            input_size=224,
            resize="centre_crop",
            label_resolution="squashed",
            templates=TEMPLATES["clippy"],
            article="letter",
            vocabulary="clippy_repo",
            left_out=(
                "an absent class counts as nan here, as 0 there",
                "its default split is train: the split here is the benchmark's",
                "features are up-sampled there, logits here: the same to 1e-7",
                PIXELS,
            ),
            ours=("the label is squashed by nearest neighbour",),
            source="kahnchana/clippy at 04bf78b, src/evaluation/*.py",
        ),
        fixed={
            "resize": "square",
            "label_resolution": "native",
        },  # strict: the image is cropped and the label squashed, so that they do not meet
    ),
    Preset(
        protocol=TopDownProtocol(
            **MMSEG,
            name="mmseg-448",
            templates=TEMPLATES["one"],
            left_out=(NARROW, PIXELS),
            ours=(
                "what the variants share is size and windows: here with cosines, and the label "
                "set's own phrases, background too",
            ),
            source=(
                "mmsegmentation 1.1.1 on PyPI, and what GroupViT, TCL and Talk2DINO have in common"
            ),
        )
    ),
    Preset(
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
            source=(
                "NVlabs/GroupViT at 13b7861, segmentation/configs/_base_/datasets, "
                "segmentation/evaluation/group_vit_seg.py"
            ),
        ),
        label_sets={"context60": {"threshold": 0.35}},
    ),
    Preset(
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
            left_out=(
                _TCL_LEFT_OUT[0],
                "30 % of the mask from a frozen CLIP (kp_weight 0.3)",
                *_TCL_LEFT_OUT[1:],
            ),
            source=(
                "kakaobrain/tcl at bc2b551, configs/eval.yml, configs/tcl.yml, models/tcl/tcl.py"
            ),
        ),
        unrefined={  # its setting without PAMR, which takes nothing from a frozen CLIP either
            "threshold": 0.5,
            "left_out": _TCL_LEFT_OUT,
            "source": (
                "khanrc/tcl at e643d68, configs/default.yml (pamr false, kp_w 0.0, bg_thresh 0.5); "
                "else kakaobrain/tcl at bc2b551"
            ),
        },
    ),
    Preset(
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
                "cleaning of the background by the attention of heads, on for voc21 and "
                "coco_object (lambda_bg 0.2)",
                "templates averaged before its text projection: here after the tower's own",
                "threshold 0.54 of its ViT-L",
                NARROW,
                PIXELS,
            ),
            source=(
                "lorebianchi98/Talk2DINO at 4918c2d, src/open_vocabulary_segmentation/configs, "
                "models/dinotext/dinotext.py"
            ),
        ),
    ),
    Preset(
        protocol=TopDownProtocol(
            **SCLIP,
            name="sclip-336/sclip",
            vocabulary="sclip",
            reading="sclip",
            left_out=(NARROW, PIXELS),
            source="wangf3014/SCLIP at b56bd30, configs/*.py, clip_segmentor.py",
        ),
        label_sets={
            "voc21": {"logit_scale": 65.0, "threshold": 0.1, "area_threshold": 0.1},
            "context60": {"logit_scale": 50.0, "threshold": 0.1},
            "coco_object_81": {"logit_scale": 50.0, "threshold": 0.1},
            "coco_stuff_171": {"input_size": 448},
            "cityscapes_19": {"input_size": 560},
        },
    ),
    Preset(
        protocol=TopDownProtocol(
            **{**SCLIP, "fit": "crop"},
            name="sclip-336/naclip",
            vocabulary="naclip",
            refinement="pamr",
            refined_at="label",
            refinement_iterations=10,
            refinement_dilations=(8, 16),
            reading="naclip",
            left_out=("PAMR is not skipped where memory runs out: the run stops", PIXELS),
            source="sinahmr/NACLIP at 0cac3a6, configs/*.py, naclip.py, eval.py",
        ),
        label_sets={
            "voc21": {"window": None, "stride": None, "threshold": 0.1},
            "voc20": {"window": None, "stride": None},
            "context60": {"threshold": 0.1},
            "coco_object_81": {"threshold": 0.1},
            "cityscapes_19": {"input_size": 560},
        },
        # strict: what is left of a side after whole patches is dropped, and the grid stretched
        fixed={"fit": "stretch"},
    ),
    Preset(
        protocol=TopDownProtocol(
            **{**SCLIP, "window": 336},
            name="sclip-336/proxyclip",
            vocabulary="proxyclip",
            reading="proxyclip",
            proxy=USUAL_PROXY,
            left_out=("windows padded to a multiple of 56: none is", NARROW, PIXELS),
            source="mc-lan/ProxyCLIP at e7b767f, configs/*.py, proxyclip_segmentor.py",
        ),
        label_sets={
            "voc21": {"threshold": 0.2},
            "context60": {"threshold": 0.15},
            "coco_object_81": {"threshold": 0.25},
            "ade20k_150": {"input_size": 448},
            "cityscapes_19": {"input_size": 448, "window": 224},
        },
    ),
    CLEARCLIP,
    MASKCLIP,
    Preset(
        protocol=TopDownProtocol(
            **NOTEBOOK,
            name="dinotxt-512",
            input_size=512,
            window=384,
            stride=192,
            templates=TEMPLATES["openai_80"],
            vocabulary="dinotxt",
            left_out=(
                "the half of the text vector that is aligned with patches: the whole vector is "
                "used",
                PIXELS,
            ),
            source=(
                "facebookresearch/dinov3 at 6876159, notebooks/dinotxt_segmentation_inference.ipynb"
            ),
        )
    ),
    Preset(
        protocol=TopDownProtocol(
            **NOTEBOOK,
            name="tips-448",
            input_size=448,
            window=448,
            stride=336,
            templates=TEMPLATES["tcl_9"],
            vocabulary="tips",
            reading="maskclip",
            left_out=("texts cut at 64 tokens: the text tower's own limit", PIXELS),
            source="google-deepmind/tips at 4db271d, pytorch/TIPS_zeroshot_segmentation.ipynb",
        )
    ),
)
_BY_NAME: dict[str, Preset] = {}
for _row in _ROWS:
    for _name in (_row.protocol.name.partition("/")[0], _row.protocol.name):
        _BY_NAME.setdefault(_name, _row)
PRESETS = Registry("protocols", _BY_NAME)
"""Presets by name; ``sclip-336`` and ``clearclip-448`` are their first variants.  Installed
packages may add some.
"""


def top_down_protocol(name: str, **changes: Any) -> TopDownProtocol:
    """Return the protocol of a name; ``changes`` are the arguments of ``Preset.build``.

    Raises:
        ValueError: an unknown name, or fields that contradict each other.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown protocol {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name].build(**changes)
