"""Weights between the start of a run and the run.

Source: Wortsman et al. 2022, WiSE-FT (arXiv:2109.01903), section 3.
"""

from typing import Any, NamedTuple

import torch

from gestalt.config.start import CLASSIFIER
from gestalt.encoders.state_dicts import StateDict
from gestalt.encoders.weights import weights_hash
from gestalt.model import DualEncoder
from gestalt.models.opening import Target
from gestalt.models.start import build_model, named_weights, open_start

TEXTS = ["a photo of a dog", "Zebras, 2 of them; ünïcode", "x " * 200]
"""Texts that two equal tokenizers must tokenise alike."""


class Ends(NamedTuple):
    """The weights at both ends, by the same names.

    Attributes:
        start: weights of the start.
        run: weights of the run.
        record: names and hashes of both, for an exported folder.
    """

    start: StateDict
    run: StateDict
    record: dict[str, Any]

    def mix(self, share: float) -> dict[str, torch.Tensor]:
        """Return (1 - share) of the start plus share of the run; at 0 and 1 an end, to the bit."""
        if share in (0, 1):
            return dict(self.run if share else self.start)
        return {
            name: torch.lerp(self.start[name], value, share) if value.is_floating_point() else value
            for name, value in self.run.items()
        }


def read_ends(opened: Target) -> Ends:
    """Read the start, of a whole model, of an opened run, whose weights are copied.

    Raises:
        ValueError: the start is not found or is not the one that the run began with; it lacks
            weights of the run, or has others of another shape; integers or tokenizers differ.
    """
    model, config = opened.model, opened.trained
    assert isinstance(model, DualEncoder)
    assert config is not None
    name = str(config.start)
    if name.startswith(CLASSIFIER):
        begun: Any = build_model(config).eval()
    else:
        begun = open_start(config, name).model
    found, expected = weights_hash(begun), model.image_origin.sha256
    said = f"--share: start={name}"
    if found != expected:
        raise ValueError(
            f"{said} is not what the run began with: SHA-256 of its weights {found[:12]}, the run "
            f"has {str(expected)[:12]}; restore it"
        )
    weights = named_weights(begun)
    run = {key: value.clone() for key, value in model.state_dict().items()}
    for key, value in run.items():
        if key not in weights or weights[key].shape != value.shape:
            shape = tuple(value.shape)
            raise ValueError(f"{said} has no {key} of shape {shape}, which the run has")
        if not value.is_floating_point() and not weights[key].equal(value):
            raise ValueError(f"{said}: {key} holds integers that differ, which cannot be mixed")
    if isinstance(begun, DualEncoder):
        ours, theirs = (one.text_tower.tokenise(TEXTS) for one in (model, begun))
        if ours != theirs:
            raise ValueError(
                f"{said} tokenises texts differently from the run, or cuts them shorter"
            )
    start = {key: weights[key].to(value.dtype) for key, value in run.items()}
    record = {"start": name, "start_sha256": found, "run_sha256": weights_hash(model)}
    return Ends(start, run, record)
