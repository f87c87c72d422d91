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

    steps: int = key(375_300, "Number of steps.", kind="steps", above=0)
    batch_size: int = key(1024, "Images per step, over all ranks.", kind="images", above=0)
    learning_rate: float = key(2e-3, "Peak learning rate.", above=0)
    final_learning_rate: float = key(1e-6, "Learning rate at the end of the cosine schedule.", at_least=0)
    warmup_steps: int = key(12_510, "Linear warm-up of the learning rate.", kind="steps", at_least=0)
    weight_decay: float = key(0.04, "Weight decay at the start, for matrices only.", at_least=0)
    final_weight_decay: float = key(0.4, "Weight decay at the end of its cosine schedule.", at_least=0)
    gradient_clip: float | None = key(3.0, "Largest norm of one parameter's gradient. `null`: no clipping.", above=0)
    object_centred: bool = key(
        True, "For scenes: show a single large object per image, as in ImageNet, which gives labels. `false`: scenes of the recipe."
    )
    limit: int | None = key(
        None,
        "Use the first images only. For scenes, which are endless, this is the length of an epoch. The limit of a scale applies "
        "only to the data that the scale names. `null`: all.",
        kind="images",
        above=0,
    )
    image_size: int = key(256, "Side of the image that crops are cut from.", kind="pixels", above=0)
    global_size: int = key(224, "Side of global crops, which also sets the number of position embeddings.", kind="pixels", above=0)
    global_area: tuple[float, float] = key(
        (0.4, 1.0), "Smallest and largest share of the image's area in a global crop.", above=0, at_most=1
    )
    local_size: int = key(96, "Side of local crops.", kind="pixels", above=0, only_for="dino")
    local_area: tuple[float, float] = key(
        (0.05, 0.4), "Smallest and largest share of the image's area in a local crop.", above=0, at_most=1, only_for="dino"
    )
    local_crops: int = key(8, "Local crops per image, in addition to two global crops.", at_least=0, only_for="dino")
    head_width: int = key(2048, "Width of the hidden layers of the projection head.", kind="channels", above=0, only_for="dino")
    bottleneck: int = key(
        256, "Width of the last layer of the projection head before the prototypes.", kind="channels", above=0, only_for="dino"
    )
    prototypes: int = key(65_536, "Number of prototypes, which are the outputs of the projection head.", above=0, only_for="dino")
    frozen_head_steps: int = key(
        1251, "Steps at the start in which the prototypes are not trained.", kind="steps", at_least=0, only_for="dino"
    )
    student_temperature: float = key(0.1, "Temperature of the student's softmax.", above=0, only_for="dino")
    teacher_temperature: float = key(0.07, "Temperature of the teacher's softmax after its warm-up.", above=0, only_for="dino")
    warmup_teacher_temperature: float = key(
        0.04, "Temperature of the teacher's softmax at the start of its linear warm-up.", above=0, only_for="dino"
    )
    warmup_teacher_steps: int = key(
        37_530, "Length of the linear warm-up of the teacher's temperature.", kind="steps", at_least=0, only_for="dino"
    )
    momentum: float = key(
        0.996, "Momentum of the teacher's weights at the start; a cosine schedule raises it to 1.", at_least=0, at_most=1, only_for="dino"
    )
    centre_momentum: float = key(
        0.9, "Momentum of the running mean (centre) of the teacher's outputs.", at_least=0, at_most=1, only_for="dino"
    )
    summary: Literal["cls", "max"] = key(
        "cls",
        "Vector that represents an image in the image loss: the class token, or the maximum over patches as in CLIPpy.",
        only_for="dino",
    )
    image_weight: float = key(1.0, "Weight of the image loss.", at_least=0, only_for="dino")
    patch_weight: float = key(
        0.0,
        "Weight of the patch loss: each patch predicts the teacher's patch at the same position of the same global crop.",
        at_least=0,
        only_for="dino",
    )
    across_weight: float = key(
        0.0,
        "Weight of the patch loss across global crops: each patch predicts the teacher's patch at the same place in the other crop.",
        at_least=0,
        only_for="dino",
    )
    mask_share: float = key(
        0.0, "Share of the patches of a global crop that are masked for the student.", at_least=0, below=1, only_for="dino"
    )
    patch_prototypes: int | None = key(
        None,
        "Number of prototypes of patches, after the shared layers of the head. `null`: patches share the prototypes of images.",
        above=0,
        only_for="dino",
    )
    patch_centring: Literal["centre", "sinkhorn", "sinkhorn_by_position"] = key(
        "centre",
        "How patches are kept from collapsing to a single prototype: centring, or Sinkhorn over all patches or per position.",
        only_for="dino",
    )
    seed: int = key(
        0, "Seed of weights, order and crops. It is separate from `seed`, so that runs with other seeds share the file.", at_least=0
    )
    score_every_steps: int = key(
        1251, "Steps between k-NN scores; tokens are drawn and the state is saved at the same steps.", kind="steps", above=0, hashed=False
    )
    knn_bank: int = key(
        4096,
        "Labelled training images in the k-NN bank; an eighth as many provide the bank of patches.",
        kind="images",
        above=0,
        hashed=False,
    )
    knn_queries: int = key(
        1024, "Held-out images that k-NN classifies; an eighth as many provide the patches.", kind="images", above=0, hashed=False
    )
