"""CLIPpy: one protocol after the paper, one after the public code."""

from gestalt.evaluation.protocols.preset import PIXELS, TEMPLATES, Preset
from gestalt.evaluation.protocols.top_down import TopDownProtocol

CLIPPY_PAPER = Preset(
    protocol=TopDownProtocol(
        name="clippy-paper",
        input_size=448,
        resize="short_side",
        ours=(
            "resolution: the larger of the two that the paper names, short side 448, aspect kept",
            "prompts: the label set's own phrases in one template",
            "background: prompts of its own, where the label set has them",
            "up-sampling: logits, bilinear, to the label's native size",
        ),
        source="Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; its appendices could not be read",
    )
)

CLIPPY_REPO = Preset(
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
)
