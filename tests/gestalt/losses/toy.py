"""The smallest dual encoder with patches, float64, and a batch in which both ranks share captions
and nouns.
"""

import sys
import tomllib
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.losses.distillation import MaskToken, masked_patches
from gestalt.losses.keys import Loss
from gestalt.losses.noun_list import NounList
from gestalt.losses.terms import Pairs, Parts, Term
from gestalt.tables import TERMS
from gestalt.tokens import Padded

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "plugin_terms"
"""The worked example of a package that adds terms, whose terms obey the same laws."""

sys.path.append(str(EXAMPLE))
POINTS = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"][
    "gestalt.terms"
]
EXAMPLES = {name: EntryPoint(name, value, "").load() for name, value in POINTS.items()}

PAIRS, PATCHES = 6, 4
NOUNS = ("cat", "dog", "bird", "house", "tree")
CAPTIONS = (
    "a cat and a dog",
    "birds",
    "a cat and a dog",
    "nothing",
    "a cat and a dog",
    "a house, a bird and a cat",
)

SIMILAR = torch.eye(len(NOUNS), dtype=torch.bool)
SIMILAR[0, 3] = SIMILAR[3, 0] = SIMILAR[1, 2] = SIMILAR[2, 1] = True


class Toy(nn.Module):
    """Linear towers, and a term with its parameters, so that DDP averages the gradients of all of
    them.
    """

    def __init__(self, term: str, **options: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.image = nn.Linear(5, 4, dtype=torch.float64)
        self.text = nn.Linear(6, 4, dtype=torch.float64)
        self.words = nn.Embedding(len(NOUNS), 6, dtype=torch.float64)
        self.logit_scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        for parameter in (
            *self.image.parameters(),
            *self.text.parameters(),
            *self.words.parameters(),
        ):
            parameter.data.normal_(generator=generator)
        self.term: Term = build(term, **options)

    def embed_text(self, phrases: Padded, *, of_locations: bool = False) -> Tensor:
        """Embed phrases of one word."""
        return functional.normalize(self.text(self.words(phrases.ids[:, 0])), dim=-1)

    def forward(self, batch: dict[str, Any], valid: Tensor | None = None) -> Tensor:
        """Return the term's share."""
        share: Tensor = self.term(self.pairs(batch, valid))
        return share

    def pairs(self, batch: dict[str, Any], valid: Tensor | None = None) -> Pairs:
        """Embed a batch."""
        patches = self.image(batch["image"])
        image = functional.normalize(patches.amax(dim=1), dim=-1)
        text = functional.normalize(self.text(batch["caption"]), dim=-1)
        if valid is not None:  # as the training step does
            image, text, patches = (
                image * valid.unsqueeze(1),
                text * valid.unsqueeze(1),
                patches * valid.view(-1, 1, 1),
            )
            batch = {**batch, "place": ["" if good else "a place" for good in valid.tolist()]}
        return Pairs(
            *(image, text, patches, self.logit_scale, batch["text_id"], valid, batch),
            embed_text=self.embed_text,
            encode_text=None,
            encode_masked=partial(self.encode_masked, batch),
        )

    def encode_masked(self, batch: dict[str, Any], token: MaskToken, share: float) -> Tensor:
        """Encode the patches, some of which are hidden."""
        mask = masked_patches(
            batch["sample_id"], batch["epoch"], seed=0, view=0, total=PATCHES, share=share
        )
        patches: Tensor = self.image(torch.where(mask.unsqueeze(-1), token.token, batch["image"]))
        return patches


def pad(texts: list[str]) -> Padded:
    """Turn each text into the last noun that it names, or the first of all."""
    ids = [
        max((NOUNS.index(noun) for noun in NounList(NOUNS).find(text)[-1:]), default=0)
        for text in texts
    ]
    return Padded(torch.tensor(ids).unsqueeze(1), torch.ones(len(ids), 1, dtype=torch.bool))


def build(term: str, similar: Tensor | None = None, **options: Any) -> Term:
    """Build a term, with its default options but for these; ``similar`` are the nouns that are not
    negatives of each other.
    """
    loss = Loss(**{"self_distillation_prototypes": 3, **options})
    torch.manual_seed(3)
    built: Term = (EXAMPLES if term in EXAMPLES else TERMS)[term](
        Parts(loss, NounList(NOUNS, similar=similar), pad=pad, tower_width=5, width=4, seed=0)
    )
    return built.double()


def batch(rows: Any = slice(None)) -> dict[str, Any]:
    """Return rows of six pairs; a caption occurs three times, one names nothing, and one noun is
    named by no caption.
    """
    generator = torch.Generator().manual_seed(2)
    whole = {
        "image": torch.randn(PAIRS, PATCHES, 5, dtype=torch.float64, generator=generator),
        "caption": torch.randn(PAIRS, 6, dtype=torch.float64, generator=generator),
        "text_id": torch.tensor([7, 8, 7, 9, 7, 10]),
        "nouns": NounList(NOUNS).mark(CAPTIONS),
        "sample_id": torch.arange(PAIRS),
        "epoch": torch.zeros(PAIRS, dtype=torch.int64),
    }
    return {
        **{key: value[rows] for key, value in whole.items()},
        "text": [CAPTIONS[row] for row in torch.arange(PAIRS)[rows].tolist()],
    }


def value_and_gradients(
    model: nn.Module, rows: Any = slice(None), *, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the share and every gradient of one backward pass."""
    model.zero_grad()
    share = model(batch(rows), valid)
    torch.autograd.backward(share)
    gradients = {
        name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()
    }
    return {
        "share": share.detach(),
        **{name: gradient.clone() for name, gradient in gradients.items() if gradient is not None},
    }
