"""The smallest dual encoder with patches, float64, and a batch in which both ranks share captions and nouns."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.config.schema_loss import Loss
from gestalt.distillation.masks import MaskToken, masked_patches
from gestalt.losses.terms import Pairs, Parts, Term
from gestalt.tables import TERMS
from gestalt.tokens import Padded

PAIRS, PATCHES, NOUNS = 6, 4, 5

ALIKE = torch.eye(NOUNS, dtype=torch.bool)
ALIKE[0, 3] = ALIKE[3, 0] = ALIKE[1, 2] = ALIKE[2, 1] = True


class Toy(nn.Module):
    """Linear towers, and a term with its parameters, so that DDP averages the gradients of all of them."""

    def __init__(self, term: str, **options: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.image = nn.Linear(5, 4, dtype=torch.float64)
        self.text = nn.Linear(6, 4, dtype=torch.float64)
        self.words = nn.Embedding(NOUNS, 6, dtype=torch.float64)
        self.logit_scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        for parameter in (*self.image.parameters(), *self.text.parameters(), *self.words.parameters()):
            parameter.data.normal_(generator=generator)
        self.term: Term = build(term, **options)

    def embed_text(self, phrases: Padded) -> Tensor:
        """Embed phrases of one word."""
        return functional.normalize(self.text(self.words(phrases.ids[:, 0])), dim=-1)

    def forward(self, batch: dict[str, Tensor], valid: Tensor | None = None) -> Tensor:
        """Return the term's share."""
        share: Tensor = self.term(self.pairs(batch, valid))
        return share

    def pairs(self, batch: dict[str, Tensor], valid: Tensor | None = None) -> Pairs:
        """Embed a batch."""
        patches = self.image(batch["image"])
        image = functional.normalize(patches.amax(dim=1), dim=-1)
        text = functional.normalize(self.text(batch["text"]), dim=-1)
        if valid is not None:  # as the training step does
            image, text, patches = image * valid.unsqueeze(1), text * valid.unsqueeze(1), patches * valid.view(-1, 1, 1)
        return Pairs(
            *(image, text, patches, self.logit_scale, batch["text_id"], valid, batch),
            embed_text=self.embed_text,
            encode_text=None,
            encode_masked=partial(self.encode_masked, batch),
        )

    def encode_masked(self, batch: dict[str, Tensor], token: MaskToken, share: float) -> Tensor:
        """Encode the patches, some of which are hidden."""
        mask = masked_patches(batch["sample_id"], batch["epoch"], seed=0, view=0, total=PATCHES, share=share)
        patches: Tensor = self.image(torch.where(mask.unsqueeze(-1), token.token, batch["image"]))
        return patches


def build(term: str, alike: Tensor | None = None, **options: Any) -> Term:
    """Build a term, with its default options but for these; ``alike`` are the nouns that are not negatives of each other."""
    phrases = Padded(torch.arange(NOUNS).unsqueeze(1), torch.ones(NOUNS, 1, dtype=torch.bool))
    head = {"hidden": 8, "bottleneck": 4, "prototypes": 3}
    loss = Loss(**{**{f"self_distillation_{name}": value for name, value in head.items()}, **options})
    torch.manual_seed(3)
    return TERMS[term](Parts(loss, phrases=phrases, tower_width=5, width=4, alike=alike)).double()


def batch(rows: Any = slice(None)) -> dict[str, Tensor]:
    """Return rows of six pairs; a caption occurs three times, one names nothing, and one noun is named by no caption."""
    generator = torch.Generator().manual_seed(2)
    whole = {
        "image": torch.randn(PAIRS, PATCHES, 5, dtype=torch.float64, generator=generator),
        "text": torch.randn(PAIRS, 6, dtype=torch.float64, generator=generator),
        "text_id": torch.tensor([7, 8, 7, 9, 7, 10]),
        "nouns": torch.tensor([[noun in named for noun in range(NOUNS)] for named in ([0, 1], [2], [0, 1], [], [0, 1], [3, 2, 0])]),
        "has_negative": torch.tensor([True, True, True, False, True, True]),
        "negative_ids": torch.tensor([[4], [0], [2], [1], [4], [1]]),
        "negative_mask": torch.ones(PAIRS, 1, dtype=torch.bool),
        "sample_id": torch.arange(PAIRS),
        "epoch": torch.zeros(PAIRS, dtype=torch.int64),
    }
    return {key: value[rows] for key, value in whole.items()}


def value_and_gradients(model: nn.Module, rows: Any = slice(None), *, valid: Tensor | None = None) -> dict[str, Tensor]:
    """Return the share and every gradient of one backward pass."""
    model.zero_grad()
    share = model(batch(rows), valid)
    torch.autograd.backward(share)
    gradients = {name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()}
    return {"share": share.detach(), **{name: gradient.clone() for name, gradient in gradients.items() if gradient is not None}}
