"""The schema of ``pretraining``, whose defaults are DINO's."""

from dataclasses import dataclass
from typing import Literal

from gestalt.config.keys import key


@dataclass
class Pretraining:
    """How `gestalt pretrain` makes an init from the images of `data`: by self-distillation (dino) or classification (supervised).

    `pretraining.dino.KEY` and `pretraining.supervised.KEY` set a key for that init alone.

    Source of the defaults: DINO (arXiv:2104.14294) for ViTs: facebookresearch/dino, README at 00e1bcc (300 epochs on 16 GPUs) and
    main_dino.py at 04c0ad9, with 1,251 steps as an epoch of ImageNet.  Its stochastic depth is left out.
    """

    steps: int = key(375_300, "Length of the run.", kind="steps", above=0)
    batch_size: int = key(1024, "Images a step, over all ranks.", kind="images", above=0)
    learning_rate: float = key(2e-3, "Peak learning rate.", above=0)
    final_learning_rate: float = key(1e-6, "Learning rate at which the cosine ends.", at_least=0)
    warmup_steps: int = key(12_510, "Linear warm-up of the learning rate.", kind="steps", at_least=0)
    weight_decay: float = key(0.04, "Weight decay of matrices at the start.", at_least=0)
    final_weight_decay: float = key(0.4, "Weight decay at which its cosine ends.", at_least=0)
    gradient_clip: float | None = key(3.0, "Largest norm of one parameter's gradient. `null`: no clipping.", above=0)
    object_centred: bool = key(
        True, "Of scenes: one large object an image, as in ImageNet, which gives labels. `false`: the recipe's scenes."
    )
    limit: int | None = key(
        None,
        "Use the first images only. Scenes are endless; there it is the length of an epoch. A scale's limit holds "
        "only for the data that the scale names. `null`: all.",
        kind="images",
        above=0,
    )
    image_size: int = key(256, "Side of the image that crops are cut from.", kind="pixels", above=0)
    global_size: int = key(224, "Side of global crops; the position embeddings are made for it.", kind="pixels", above=0)
    global_area: tuple[float, float] = key((0.4, 1.0), "Least and most share of the image's area in a global crop.", above=0, at_most=1)
    local_size: int = key(96, "Side of local crops.", kind="pixels", above=0, only_for="dino")
    local_area: tuple[float, float] = key(
        (0.05, 0.4), "Least and most share of the image's area in a local crop.", above=0, at_most=1, only_for="dino"
    )
    local_crops: int = key(8, "Local crops an image, beside two global ones.", at_least=0, only_for="dino")
    head_width: int = key(2048, "Width of the projection head.", kind="channels", above=0, only_for="dino")
    bottleneck: int = key(256, "Width in front of the prototypes.", kind="channels", above=0, only_for="dino")
    prototypes: int = key(65_536, "Outputs of the projection head.", above=0, only_for="dino")
    frozen_head_steps: int = key(1251, "The prototypes stay fixed at first.", kind="steps", at_least=0, only_for="dino")
    student_temperature: float = key(0.1, "Temperature of the student's softmax.", above=0, only_for="dino")
    teacher_temperature: float = key(0.07, "Temperature of the teacher's softmax after its warm-up.", above=0, only_for="dino")
    warmup_teacher_temperature: float = key(
        0.04, "Temperature of the teacher at the start; a straight line leads from it.", above=0, only_for="dino"
    )
    warmup_teacher_steps: int = key(37_530, "Length of that warm-up.", kind="steps", at_least=0, only_for="dino")
    momentum: float = key(0.996, "Momentum of the teacher's weights; a cosine leads to 1.", at_least=0, at_most=1, only_for="dino")
    centre_momentum: float = key(0.9, "Momentum of the centre of the teacher's outputs.", at_least=0, at_most=1, only_for="dino")
    summary: Literal["cls", "max"] = key(
        "cls",
        "Vector of an image in the loss of images: the class token, or the maximum over patches as in CLIPpy.",
        only_for="dino",
        later=True,
    )
    image_weight: float = key(1.0, "Weight of the loss of images.", at_least=0, only_for="dino", later=True)
    patch_weight: float = key(
        0.0,
        "Weight of the loss of patches: each predicts the teacher's patch at the same position of the same global crop.",
        at_least=0,
        only_for="dino",
        later=True,
    )
    across_weight: float = key(
        0.0,
        "Weight of the loss of patches across global crops: each predicts the teacher's patch of the other crop at the same place.",
        at_least=0,
        only_for="dino",
        later=True,
    )
    mask_share: float = key(
        0.0, "Share of a global crop's patches that the student does not see.", at_least=0, below=1, only_for="dino", later=True
    )
    patch_prototypes: int | None = key(
        None, "Prototypes of patches, behind the shared layers of the head. `null`: those of images.", above=0, only_for="dino", later=True
    )
    patch_centring: Literal["centre", "sinkhorn", "sinkhorn_by_position"] = key(
        "centre",
        "What keeps patches from one prototype: a centre, or equal shares of prototypes over all patches or over those of each position.",
        only_for="dino",
        later=True,
    )
    seed: int = key(0, "Seed of weights, order and crops; not the experiment's, so that runs of other seeds share the file.", at_least=0)
    score_every_steps: int = key(
        1251, "Steps from one k-NN score, drawing of tokens and saving of the state to the next.", kind="steps", above=0, hashed=False
    )
    knn_bank: int = key(
        4096, "Labelled training images that vote; an eighth as many give patches that vote.", kind="images", above=0, hashed=False
    )
    knn_queries: int = key(
        1024, "Held-out images that are classified; an eighth as many give patches.", kind="images", above=0, hashed=False
    )
