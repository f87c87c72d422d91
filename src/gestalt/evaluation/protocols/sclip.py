"""The lineage of SCLIP: SCLIP, NACLIP and ProxyCLIP at 336 pixels, ClearCLIP and its MaskCLIP at 448."""

from dataclasses import replace
from typing import Any

from gestalt.evaluation.protocols.preset import MMSEG, NARROW, NOTHING_IS_BACKGROUND, PIXELS, TEMPLATES, Preset
from gestalt.evaluation.protocols.top_down import USUAL_PROXY, TopDownProtocol

SCLIP: dict[str, Any] = {
    **{**MMSEG, "input_size": 336, "window": 224, "stride": 112, "templates": TEMPLATES["openai_80"], "ensembling": "normalised_mean"},
    **{"background": "probability", "threshold": 0.0, "logit_scale": 40.0, "positions": "scale_factor"},
}

SCLIP_OWN = Preset(
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
    no_background=NOTHING_IS_BACKGROUND,
)

NACLIP = Preset(
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
    no_background=NOTHING_IS_BACKGROUND,
    fixed={"fit": "stretch"},  # strict: what is left of a side after whole patches is dropped, and the grid stretched over it
)

PROXYCLIP = Preset(
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
    no_background=NOTHING_IS_BACKGROUND,
)

CLEARCLIP = Preset(
    protocol=TopDownProtocol(
        **{**SCLIP, "input_size": 448, "window": 448, "stride": 224, "logit_scale": 50.0},
        name="clearclip-448/clearclip",
        vocabulary="clearclip",
        reading="clearclip",
        left_out=(NARROW, PIXELS),
        ours=(
            "the lists of Context, COCO-Stuff, ADE20K and Cityscapes are SCLIP's; those of VOC20 and COCO-Object are the label sets' own",
        ),
        source="mc-lan/ClearCLIP at afe06b8, configs/*.py, clearclip_segmentor.py",
    ),
    label_sets={
        "voc21": {"threshold": 0.5},
        "context60": {"threshold": 0.15},
        "coco_object_81": {"threshold": 0.4},
        "cityscapes_19": {"window": 224},
    },
    no_background=NOTHING_IS_BACKGROUND,
)

MASKCLIP = replace(
    CLEARCLIP,
    protocol=replace(
        CLEARCLIP.protocol,
        name="clearclip-448/maskclip",
        reading="values",
        source="mc-lan/ClearCLIP at afe06b8, its model_type MaskCLIP, by which that lineage's tables compare",
    ),
)
