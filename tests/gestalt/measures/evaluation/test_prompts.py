"""Prompts: a or an, templates, many phrases to one class, ensembles."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.prompts import article, class_embeddings, expand, used_prompts
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.painted import Words

AN = [
    "apple",
    "Umbrella",
    "hourglass",
    "heirloom",
    "unidentified object",
    "uninhabited island",
    "urn",
    "X-ray",
    "MP3 player",
    "8-ball",
    "11-a-side pitch",
]
A = [
    "dog",
    "unicorn",
    "one-way street",
    "European",
    "USB stick",
    "utensil",
    "U-turn",
    "ufo",
    "ukulele",
    "ewe",
    "used car",
    "1-year-old",
]


class Unnormalised:
    """Embeds a text as (its length, 1)."""

    def embed_text(self, texts: list[str], *, normalise: bool = True) -> Tensor:
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


def test_an_is_for_vowel_sounds_and_a_for_consonant_sounds():
    assert [phrase for phrase in (*AN, *A) if article(phrase) == "an"] == AN


def test_templates_keep_case_and_blanks_when_asked():
    protocol = TopDownProtocol(
        name="p", templates=("A photo of {}s.", "{article} {}, {article} {}"), lower_case=False
    )
    assert expand("bed ", protocol=protocol) == ["A photo of bed s.", "a bed , a bed "]


@pytest.mark.parametrize("ensembling", ["normalised_mean", "raw_mean"])
def test_template_vectors_are_averaged_as_named(ensembling):
    protocol = top_down_protocol(
        "whole_square", templates=("{}", "a very {} thing"), ensembling=ensembling
    )
    raw = torch.tensor([[3.0, 1.0], [16.0, 1.0]])
    mean = (
        functional.normalize(raw, dim=-1).mean(dim=0)
        if ensembling == "normalised_mean"
        else raw.mean(dim=0)
    )
    labels = Words(("cat", "dog"), prompts=(("cat",), ("dog",)))
    vectors = class_embeddings(Unnormalised(), labels, protocol=protocol).vectors
    torch.testing.assert_close(vectors, functional.normalize(mean, dim=-1).expand(2, 2))


def test_a_class_without_prompts_is_refused():
    with pytest.raises(ValueError, match=r"class 1 \(dog\) has no prompt"):
        used_prompts(
            Words(("cat", "dog"), prompts=(("cat",), ())),
            protocol=top_down_protocol("whole_square"),
        )


def test_a_threshold_without_a_background_class_is_refused():
    with pytest.raises(ValueError, match="needs a label set with a background class"):
        used_prompts(
            Words(("cat",), prompts=(("cat",),)),
            protocol=top_down_protocol("whole_square", background="threshold", threshold=0),
        )
