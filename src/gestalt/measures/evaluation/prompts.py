"""Prompts: class phrases to text embeddings.  K prompts, E shared width.

Embeddings of large sets of prompts are kept on disk: ImageNet's 80,000 prompts take minutes, and
scoring once more needs the same vectors.  A file is named by all that decides its content, and
written whole.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from gestalt.data_modules.image_sets import LabelSet
from gestalt.encoders.dense_model import DenseModel
from gestalt.encoders.weights import weights_hash
from gestalt.measures.evaluation.images import finite
from gestalt.measures.evaluation.protocols import PromptProtocol
from gestalt.model import DualEncoder
from gestalt.support.arguments import check_words
from gestalt.support.arrays import map_array
from gestalt.support.files import cache_home, replacing, short_digest

TEXTS_AT_ONCE = 256
"""Prompts in one pass of the text tower."""

LARGE = 1000
"""Smallest number of prompts whose embeddings are kept on disk; fewer take seconds to embed."""

BAR_AFTER = 3.0
"""Seconds of embedding after which a progress bar is shown."""

SILENT_BACKGROUND = ("threshold", "constant", "affinity")
"""Background rules under which the background has no prompts."""

VOWEL_SOUND = re.compile(
    r"(heir|honest|honor|honour|hour)"  # a silent h
    r"|un(ident|im|in|iron)"  # un- before i: an unidentified object, an uninhabited island
    r"|(fbi|hd|hdmi|lcd|lp|mp3|mri|nba|rv|sd|ssd|suv|xl)\b|x-|xray\b"  # spelt letter by letter
    r"|8|(11|18)(?!\d)"  # eight, eleven, eighteen
)
"""Phrases that take "an" though they do not begin with a vowel letter, or that are exceptions to
the list below.
"""

CONSONANT_SOUND = re.compile(
    r"eu|ewe|once\b|one\b|ouija|u\b"  # a euro, a ewe, a one-way street, a U-turn
    # a unicorn, a uniform, a university
    r"|ub(iq|er)|ufo|ugand|ukr|ukulele|unanim|uni|uran|urin|urol"
    r"|us(a[bg]|b\b|e|u)|ut(e|il|op)|uvu"  # a user, a USB stick, a utensil, a utopia
)
"""Phrases that take "a" though they begin with a vowel letter."""


class ClassEmbeddings(NamedTuple):
    """The prompts of a label set, embedded.

    Attributes:
        vectors: (K, E) float32, L2-normalised.
        class_index: (K,) int64, the class of each prompt.
        background: the class of the background; None where the label set has none.
        classes: C; each class has a prompt or is the background.
        twin: (K,) int64, the first prompt of the same phrase; None where all phrases differ.  Equal
            phrases have the very same scores.
        offset: (K,) float32, added to the cosines of each prompt; None for none.
        prior: float32, added to the cosines of the background's prompts at each location, in the
            layout of the maps of one image; None for none.
    """

    vectors: Tensor
    class_index: Tensor
    background: int | None
    classes: int
    twin: Tensor | None = None
    offset: Tensor | None = None
    prior: Tensor | None = None

    def tie(self, scores: Tensor, dim: int) -> Tensor:
        """Return scores of which those of equal phrases, along ``dim`` of K prompts, are the very
        same.
        """
        return scores if self.twin is None else scores.index_select(dim, self.twin)


def article(phrase: str, rule: str = "sound") -> str:
    """Return the indefinite article before a phrase: by its first sound, or ("letter") by its first
    letter alone.
    """
    start = phrase.lower().lstrip(" \"'([")
    if rule == "sound" and VOWEL_SOUND.match(start):
        return "an"
    if rule == "sound" and CONSONANT_SOUND.match(start):
        return "a"
    return "an" if start[:1] in tuple("aeiou") else "a"


def expand(phrase: str, protocol: PromptProtocol) -> list[str]:
    """Return one prompt per template of the protocol.  The phrase is not stripped: some published
    lists have a blank at its end.
    """
    prompts = [
        template.replace("{article}", article(phrase, rule=protocol.article)).replace("{}", phrase)
        for template in protocol.templates
    ]
    return [prompt.lower() for prompt in prompts] if protocol.lower_case else prompts


def templates_digest(protocol: PromptProtocol) -> str:
    """Return 16 hexadecimal digits over the settings of class vectors: templates, their ensembling,
    article and case.
    """
    rule = [list(protocol.templates), protocol.ensembling, protocol.article, protocol.lower_case]
    return short_digest(json.dumps(rule))


def used_prompts(labels: LabelSet, protocol: PromptProtocol) -> list[tuple[str, int]]:
    """Return (phrase, class) of every prompt that competes: all, or those of the foreground where a
    threshold decides the background.

    Raises:
        ValueError: a class has no prompt and could never be predicted, or a threshold is set
            without a background class.
    """
    rule = protocol.background_rule()
    silent = rule in SILENT_BACKGROUND
    if rule != "prompts" and labels.background is None:
        raise ValueError(
            f"protocol {protocol.name}: background={rule} needs a label set with a background "
            "class, this one has none; background=prompts with evaluation.prior=0 needs none"
        )
    pairs = []
    for index, (name, phrases) in enumerate(zip(labels.names, labels.prompts, strict=True)):
        if silent and index == labels.background:
            continue
        if not phrases:
            raise ValueError(
                f"protocol {protocol.name}: class {index} ({name}) has no prompt, so it could "
                "never be predicted; give it one"
            )
        pairs += [(phrase, index) for phrase in phrases]
    return pairs


@torch.no_grad()
def embed_texts(
    model: DenseModel,
    texts: list[str],
    *,
    of_locations: bool = False,
    progress: bool = False,
    **raw: bool,
) -> Tensor:
    """Embed K texts, at least one, as (K, E) float32, ``TEXTS_AT_ONCE`` in one pass.

    Args:
        model: embeds the texts.
        texts: K texts.
        of_locations: True to compare them with locations, False with images.
        progress: True to show a bar once it takes more than a few seconds.
        raw: further arguments of the model's function.
    """
    embed = model.embed_text_for_locations if of_locations else model.embed_text
    starts = range(0, len(texts), TEXTS_AT_ONCE)
    bar = tqdm(
        starts, desc=f"{len(texts)} prompts", delay=BAR_AFTER, disable=not progress, leave=False
    )
    return torch.cat([embed(texts[start : start + TEXTS_AT_ONCE], **raw).float() for start in bar])


@torch.no_grad()
def class_embeddings(
    model: DenseModel,
    labels: LabelSet,
    *,
    protocol: PromptProtocol,
    of_locations: bool = False,
    cache: Path | None = None,
    kept: dict[str, Tensor] | None = None,
    progress: bool = False,
) -> ClassEmbeddings:
    """Embed a label set's prompts with a model in eval mode, each the mean over the protocol's
    templates.

    Args:
        model: embeds K texts as (K, E), L2-normalised or, with ``normalise=False``, of the tower's
            own length.
        labels: classes with their phrases.
        protocol: templates and their ensembling.
        of_locations: as in ``embed_texts``.
        cache: folder for the vectors of large sets of prompts of a ``DualEncoder``, whose text side
            is known apart; None embeds them all.
        kept: vectors of earlier calls with this model, to which these are added; None embeds anew.
        progress: True to show a bar once it takes more than a few seconds.

    Raises:
        ValueError: a class without a prompt, or a rule that needs a background.
    """
    pairs = used_prompts(labels, protocol)
    texts = [prompt for phrase, _ in pairs for prompt in expand(phrase, protocol=protocol)]

    def embed() -> Tensor:
        """Return the mean over templates of each phrase, (K, E) float32."""
        raw = {"normalise": False} if protocol.ensembling == "raw_mean" else {}
        vectors = embed_texts(model, texts, of_locations=of_locations, progress=progress, **raw)
        if protocol.ensembling == "normalised_mean":
            vectors = functional.normalize(vectors, dim=-1)
        return vectors.reshape(-1, len(protocol.templates), vectors.shape[-1]).mean(dim=1)

    kept = {} if kept is None else kept
    key = templates_digest(protocol) + short_digest(json.dumps([texts, of_locations]))
    if key in kept:
        vectors = kept[key]
    elif cache is not None and len(texts) >= LARGE and isinstance(model, DualEncoder):
        file = cache / f"{prompts_key(model, texts, protocol, of_locations=of_locations)}.npy"
        vectors = cached_vectors(file, embed).to(model.logit_scale.device)
    else:
        vectors = embed()
    kept[key] = vectors
    phrases = [phrase for phrase, _ in pairs]
    first = [phrases.index(phrase) for phrase in phrases]
    of_prompts = [index for _, index in pairs]
    return ClassEmbeddings(
        finite(functional.normalize(vectors, dim=-1), "no class can be compared"),
        class_index=torch.tensor(of_prompts, device=vectors.device),
        background=labels.background,
        classes=max([*of_prompts, -1 if labels.background is None else labels.background]) + 1,
        twin=torch.tensor(first, device=vectors.device) if len(set(first)) < len(first) else None,
    )


def prompts_folder(used: bool) -> Path | None:
    """Return the folder of kept embeddings, ``prompts`` in ``cache_home``; None where it is not to
    be used.
    """
    return cache_home() / "prompts" if used else None


def prompts_key(
    model: DualEncoder, texts: list[str], protocol: PromptProtocol, *, of_locations: bool
) -> str:
    """Return a hash of the text side's weights and structure, the token ids of the texts, the
    device and number format, and how vectors are made: the size of a pass, templates, ensembling.

    Args:
        model: embeds the texts.
        texts: the prompts, as embedded.
        protocol: templates and their ensembling.
        of_locations: as in ``embed_texts``.
    """
    tower, device = model.text_tower, model.logit_scale.device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    autocast = (
        str(torch.get_autocast_dtype(device.type))
        if torch.is_autocast_enabled(device.type)
        else "none"
    )
    machine = [torch.__version__, device.type, name, autocast, torch.get_num_threads()]
    text_side = [weights_hash(model.text), str(model.text), type(tower).__name__]
    vectors = [TEXTS_AT_ONCE, len(protocol.templates), protocol.ensembling]
    facts = [*text_side, machine, vectors, texts, tower.tokenise(texts)]
    facts += ["of locations"] if of_locations and model.cuts_text else []
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def cached_vectors(path: Path, embed: Callable[[], Tensor]) -> Tensor:
    """Return the vectors (K, E) float32 of a file, else embedded now and written.

    The folder is made if missing, and several processes may share it; one that cannot be written to
    is only reported on the standard error.
    """
    with suppress(ValueError):
        return torch.from_numpy(np.array(map_array(path)))
    vectors = embed()
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, vectors.cpu().numpy())
    except OSError as error:
        print(
            f"prompt cache {path.parent}: cannot be written ({error.strerror}); name another by "
            "GESTALT_CACHE, or set evaluation.prompt_cache=false",
            file=sys.stderr,
        )
    return vectors


def check_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Return the texts of an argument as a list; a ValueError refuses a string, no text, and texts
    that are empty, not strings or not UTF-8.
    """
    listed = check_words(name, texts, "['dog', 'grass']")
    if not listed or not all(text.strip() for text in listed):
        raise ValueError(f"{name}={listed}: give at least one text, and at least a letter in each")
    return listed
