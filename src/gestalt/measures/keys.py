"""The part of the schema on benchmarks and protocols."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from gestalt.support.keys import Reader, key, path_key, positive, unhashed
from gestalt.tables import READINGS

MAX_WEIGHT = 1_000
"""Largest weight or offset of cosines, far above any useful one; 1e308 makes scores infinite."""


protocol_key = partial(key, None, kind="a protocol")
"""Makes a field that names a protocol; null: each benchmark's."""


@dataclass
class Evaluation:
    """Benchmarks and protocols, scored after each epoch and by `gestalt eval`."""

    read_by: ClassVar[Reader] = Reader.EXTERNAL

    benchmarks: list[str] = key(
        ["pascal_voc"], "Benchmarks to score, by name, or by the path of a file that defines one."
    )
    protocol: str | None = protocol_key("Protocol of segmentation. `null`: each benchmark's.")
    grouping_protocol: str | None = protocol_key(
        "Protocol of grouping. `null`: each benchmark's, if its files have object masks; a named "
        "protocol requires them.",
    )
    classification_protocol: str | None = protocol_key(
        "Protocol of classification. `null`: each benchmark's."
    )
    robustness_protocol: str | None = protocol_key(
        "Protocol of robustness. `null`: each benchmark's."
    )
    matching_protocol: str | None = protocol_key("Protocol of matching. `null`: each benchmark's.")
    retrieval_protocol: str | None = protocol_key(
        "Protocol of retrieval. `null`: each benchmark's."
    )
    background: Literal["prompts", "threshold"] | None = key(
        None,
        "How background is predicted: by prompts, or where the best score is below `threshold`. "
        "`null`: the protocol's rule.",
    )
    threshold: float | None = key(
        None,
        "Threshold of the background rule, in the units of the scores, such as a cosine. `null`: "
        "the protocol's.",
    )
    calibration: str | None = path_key(
        "File written by `gestalt eval --calibrate`, whose threshold is used for its benchmark. "
        "`null`: none."
    )
    defects: Literal["strict", "fixed"] = key(
        "strict", "Reproduce or fix the known defects of a protocol's original code."
    )
    refinement: Literal["none", "pamr", "crf"] | None = key(
        None, "Refinement of the scores. `null`: the protocol's."
    )
    reading: str | None = key(
        None,
        "Dense inference method: how the last block of the image tower is computed for "
        "segmentation. `null`: the protocol's, or plain where the tower has no such block.",
        choices=READINGS,
    )
    positions: Literal["timm", "scale_factor"] | None = key(
        None,
        "How position embeddings are resized for segmentation: as in timm, or by scale factors. "
        "`null`: the protocol's.",
    )
    proxy: str | None = key(
        None, "Proxy model of `reading=proxyclip`, such as `timm:NAME`. `null`: the protocol's."
    )
    debias: Literal["none", "largest"] | None = key(
        None,
        "Correction of each prompt's cosines with unlabelled images: `largest` subtracts the "
        "mean, over images, of its largest cosine. `null`: the protocol's, which is `none` in "
        "every preset.",
    )
    image_weight: float | None = key(
        None,
        "Weight of a prompt's cosine with the pooled image, which is added to its map. `null`: the "
        "protocol's, which is 0 in every preset.",
        at_least=-MAX_WEIGHT,
        at_most=MAX_WEIGHT,
    )
    prior: float | None = key(
        None,
        "Strength of the background's prior: its prompts score higher where a patch resembles the "
        "border of the picture. `null`: the protocol's, which is 0, none, in every preset.",
        at_least=0,
        at_most=MAX_WEIGHT,
    )
    prior_offset: float | None = key(
        None,
        "Added to the cosines of the background's prompts if there is a prior. `null`: the "
        "protocol's, which is 0.1 in every preset.",
        at_least=-MAX_WEIGHT,
        at_most=MAX_WEIGHT,
    )
    unlabelled: str | None = path_key(
        "Folder of images for `debias`, read with its subfolders; it may not contain a scored "
        "image. `null`: images of the training data.",
        read_by=Reader.DEBIASING,
    )
    split: str | None = key(
        None,
        "Split to score, such as `tune` (scenes), `dev`, `test` (Flickr), `train`, `val` (sets "
        "with masks). `null`: the benchmark's reported split.",
        kind="a split",
        read_by=Reader.LABEL_MAPS,
    )
    batch_size: int = positive(16, "Images per batch.", kind="images", read_by=Reader.LABEL_MAPS)
    limit: int | None = positive(
        None,
        "Number of images of each set that are scored during training: the first ones, or, for "
        "classification, images spread over the set. "
        "`gestalt eval` scores all, unless its command line sets this key. `null`: all.",
        kind="images",
        read_by=Reader.LABEL_MAPS,
    )
    pictures: int = unhashed(
        6, "Images drawn in TensorBoard and as PNG.", kind="images", at_least=0
    )
    prompt_cache: bool = unhashed(
        True,
        "Store the embeddings of large sets of prompts in `~/.cache/gestalt`, or in the folder "
        "`GESTALT_CACHE`.",
    )
