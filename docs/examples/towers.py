"""Towers of your own: DINOv2 as transformers has it, and a bag of words.

From the folder of this file, with random weights, or with those of a folder or of the hub:

    gestalt train clippy_dino_max --scale demo image.family=python:towers:Dinov2 \
        image.init=random image.stem=patch text.family=python:towers:Words text.init=random
    gestalt train ... image.family=python:towers:Dinov2 image.init=facebook/dinov2-small \
        image.stem=patch image.patch_size=14 image.width=384 image.depth=12 image.heads=6
"""

from zlib import crc32

import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from gestalt.encoders.dense_model import tokens_of
from gestalt.encoders.text import TextTower
from gestalt.encoders.weights import WeightsOrigin
from gestalt.tokens import Tokens


class Dinov2(nn.Module):
    """DINOv2 of transformers, with its class token, whose patches can be dropped."""

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, image):
        super().__init__()
        self.width, self.stride = image.width, image.patch_size
        config = Dinov2Config(
            hidden_size=image.width,
            num_hidden_layers=image.depth,
            num_attention_heads=image.heads,
            patch_size=image.patch_size,
            image_size=518,
        )
        if image.init == "random":
            self.model = Dinov2Model(config)
        else:
            self.model = Dinov2Model.from_pretrained(image.init, config=config)
            self.origin = WeightsOrigin(image.init, f"transformers, {image.init}")

    def forward(self, pixels, keep=None):
        """Encode normalised pixels (B, 3, H, W), or the kept patches (B, K) alone."""
        tokens = self.model.embeddings(pixels)
        if keep is not None:
            kept = tokens[:, 1:].take_along_dim(keep.unsqueeze(-1), dim=1)
            tokens = torch.cat((tokens[:, :1], kept), dim=1)
        tokens = self.model.layernorm(self.model.encoder(tokens).last_hidden_state)
        return tokens_of(tokens[:, 1:], None, summary=tokens[:, 0])


class Words(TextTower):
    """A vector for each word, whose number is a hash: no order, and no list of words."""

    padding_id = 0

    def __init__(self, text):
        super().__init__()
        self.width, self.max_length = text.width or 64, text.max_length
        self.rows = text.vocabulary or 4096
        self.words = nn.Embedding(self.rows, self.width)

    def tokenise(self, texts, *, cut=True):
        """Return a number for the beginning, then one for each word."""
        captions = [["<begin>", *text.lower().split()] for text in texts]
        ids = [[crc32(word.encode()) % self.rows for word in caption] for caption in captions]
        return [row[: self.max_length] for row in ids] if cut else ids

    def encode(self, ids, mask):
        """Look the words up."""
        return Tokens(None, self.words(ids), mask, None)
