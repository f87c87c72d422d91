"""NVIDIA's RADIO with the text of its SigLIP 2 adaptor, as a model of your own code.

    cd docs/examples
    gestalt eval python:nvidia_radio:Radio "evaluation.benchmarks=[pascal_voc]" benchmark_root=DIR

Run with small random weights, never with the published ones.  ``torch.hub`` downloads and runs
RADIO's own code, which needs ``pip install einops``.

Source: NVlabs/RADIO, README.md and radio/adaptor_generic.py.  Locations pass the adaptor's head of
the summary, as in RayFronts and RADSeg: its other head is not aligned with texts.
"""

import torch
from torch import nn

CODE = "NVlabs/RADIO:c0f37017930e9dda53f93424cf4bf39fc51f287e"
TRUSTED = {"trust_repo": True, "skip_validation": True}  # this commit: nothing is asked
VERSION, ADAPTOR = "c-radio_v4-h", "siglip2-g"


class Radio(nn.Module):
    """RADIO; its parts are described in docs/evaluation.md."""

    stride, size = 16, 512
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # it normalises pixels itself

    def __init__(self):
        super().__init__()
        self.model = torch.hub.load(
            CODE, "radio_model", version=VERSION, adaptor_names=[ADAPTOR], **TRUSTED
        )
        self.adaptor = self.model.adaptors[ADAPTOR]

    def encode(self, pixels):
        """Return the adaptor's summary (B, E) and the backbone's tokens (B, N, D)."""
        outputs = self.model(pixels)
        return outputs[ADAPTOR].summary, outputs["backbone"].features.float()

    def locations(self, maps):
        """Align a map (B, D, h, w) with texts: (B, E, h, w)."""
        return self.adaptor.head_mlp(maps.movedim(1, -1)).movedim(-1, 1)

    def embed_text(self, texts):
        """Embed K texts: (K, E)."""
        words = self.adaptor.tokenizer(texts).to(next(self.parameters()).device)
        return self.adaptor.encode_text(words)
