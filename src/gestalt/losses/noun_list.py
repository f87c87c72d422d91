"""Nouns of captions: words that may be nouns, their singulars, and the list of those that the
captions of a source name.
"""

import re
import warnings
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.support.files import short_digest
from gestalt.support.ranks import objects_of_ranks


@dataclass(frozen=True, eq=False)
class NounList:
    """Nouns in the singular, in alphabetical order.

    Attributes:
        nouns: V nouns.
        similar: (V, V) bool, True for nouns that may name the same thing (``similar_nouns``), which
            are not negatives of each other; None if every noun is like itself only.
    """

    nouns: Sequence[str]
    similar: Tensor | None = None

    def __len__(self) -> int:
        return len(self.nouns)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {noun: index for index, noun in enumerate(self.nouns)}

    def mark(self, texts: Sequence[str]) -> Tensor:
        """Mark the nouns that a caption names, in singular or plural, by True in (B, V) bool; an
        empty caption names none.
        """
        marks = torch.zeros(len(texts), len(self), dtype=torch.bool)
        for row, text in zip(marks, texts, strict=True):
            row[[self._indices[noun] for noun in self.find(text)]] = True
        return marks

    def find(self, text: str) -> list[str]:
        """Find the nouns of the list that a caption names, each once, in order."""
        return [
            noun for noun in nouns_of(words_of(text), known=self._indices) if noun in self._indices
        ]


def frequent_nouns(captions: Iterable[Sequence[str]], *, most: int, least_share: float) -> NounList:
    """List the nouns that the captions of at least ``least_share`` of the pairs name, the ``most``
    frequent ones, in singular or plural.

    Args:
        captions: for each pair, the captions that it may have.
        most: largest V.
        least_share: (0, 1].
    """
    rows = [{word for text in texts for word in words_of(text)} for texts in captions]
    known = {word for row in rows for word in row if may_be_noun(word)}
    counts = Counter(noun for row in rows for noun in nouns_of(sorted(row), known=known))
    frequent = [noun for noun, count in counts.items() if count >= least_share * len(rows)]
    frequent.sort(key=lambda noun: (-counts[noun], noun))
    return NounList(tuple(sorted(frequent[:most])))


def similar_nouns(embeddings: Tensor, *, level: float) -> Tensor:
    """Return which nouns may name the same thing: those whose embeddings (V, W) have a cosine of
    ``level`` or more.  Returns (V, V) bool.

    A noun is like itself.
    """
    vectors = functional.normalize(embeddings.double(), dim=-1)
    return (vectors @ vectors.T >= level) | torch.eye(len(vectors), dtype=torch.bool)


def check_same_on_ranks(nouns: NounList, *, term: str = "nouns") -> None:
    """Check that all ranks read the same nouns and find the same ones alike; all ranks must call it
    together.

    Args:
        nouns: the nouns of this rank.
        term: name of the term that reads them, for the message.

    Raises:
        ValueError: a rank could not read the captions that others read, or rounds a cosine to the
            other side of the level.
    """
    similar = None if nouns.similar is None else nouns.similar.tolist()
    digests = [short_digest(str(value)) for value in (nouns.nouns, similar)]
    names, alike = zip(*objects_of_ranks(digests), strict=True)
    if len(set(names)) > 1:
        raise ValueError(
            f"loss.terms.{term}: the ranks read different captions; make all of the data readable "
            "on every node"
        )
    if len(set(alike)) > 1:
        raise ValueError(
            f"loss.terms.{term}: the ranks find different nouns alike; change loss.nouns_alike by "
            "a little"
        )


class SameOnRanks:
    """The deprecated form of ``check_same_on_ranks``, which checks once."""

    def __init__(self, nouns: NounList, *, term: str) -> None:
        warnings.warn(
            "gestalt.losses.noun_list.SameOnRanks is deprecated; call check_same_on_ranks of the "
            "same module in the first step",
            DeprecationWarning,
            stacklevel=2,
        )
        self._unchecked: NounList | None = nouns
        self._term = term

    def check(self, device: torch.device) -> None:
        """Check the nouns at the first call; ``device`` is not used."""
        if self._unchecked is not None:
            check_same_on_ranks(self._unchecked, term=self._term)
            self._unchecked = None


LETTERS = "[a-z]+(?:-[a-z]+)*"
WORD = re.compile(LETTERS, re.ASCII | re.IGNORECASE)

_OTHERS = """
a about above across after against ago all alone along also amid among an and another any anything
apart around as aside at away back before behind below beneath beside besides between beyond both
but by down during each either else empty-handed enough even every everyone everything except far
few first for forth forward from front half he her here hers herself him himself his how if in
inside into is it its itself just last left less like many me more most much my near nearby neither
next no nobody none nor not nothing now of off on once one ones only onto or other others our out
outdoor outdoors outside over own past per right same second several she similar since so some
somebody someone something still such than that the their them themselves then there these they
third this those three through throughout to together too toward towards two under underneath until
up upon upside various very via we what when where which while whilst who whom whose why with within
without yet you your zero four five six seven eight nine ten eleven twelve dozen hundred thousand
few couple pair pairs group bunch lot lots row piece pieces number set sort kind type part parts
side sides top bottom middle center centre corner edge end distance background foreground way air
day time camera photo photos photograph picture pictures image images drawing drawings view scene
shot closeup close-up painting portrait black white red green blue yellow orange brown pink purple
grey gray tan gold golden silver beige dark light bright colored coloured colorful colourful
multicolored multi-colored striped plaid big small little large huge tiny tall short long wide
narrow high low deep shallow fast slow old young new older younger elderly adult male female asian
african american german indian full empty open closed wet dry hot cold warm clear sunny cloudy rainy
snowy icy muddy dirty clean sandy rocky grassy wooden wooded metal concrete plastic furry fluffy
beautiful pretty nice happy sad busy crowded lone single different many public urban rural steep
rough soft smooth round square blond blonde bald shirtless barefoot naked ready able fancy modern
professional traditional snow-covered colourless inflatable lush dense green-eyed teenage
middle-aged airborne midair overhead am are be been being was were has have had having do does did
doing done can could may might must shall should will would seen shown worn sat stood ran fallen
held caught taken made given thrown hung lit laid lain swum sung drunk eaten hidden covered
surrounded dressed filled gathered seated attached decorated crowded dressed bundled leashed fenced
paved painted parked ahead almost alongside athletic atop backward backwards sideways sooner though
well eastern western bare bearded blurry dead downhill uphill fair fake formal frozen fun funny
furred giant heavy hind indoor individual larger smaller medium natural opposite outstretched
protective rapid redheaded shaggy sharp skinny slim sized spotted strange stuffed tight topless wild
bound hooded haired skinned action agility amusement area begin competition course direction event
fetch formation gesture item knit martial motion object place plain say shoot sniff spot start stunt
trick tricks tug work
"""

_VERBS = """
act aim appear approach arrive ask attempt balance bask bathe be bend bite blow bounce bring build
bump burn buy call carry catch celebrate chase cheer chew clap clean clear climb cling close collide
come compete cook cover crawl cross cry cut dance dangle decorate depict dig dip display dive do
drag draw dribble drink drive drop eat emerge enjoy enter examine extend face fall fight fill find
finish fix flip float fly follow gather gaze get give glide go grab graze grill grin grip grow guard
hang happen have head help hike hit hold hop hover hug hunt hurdle interact jog join juggle jump
keep kick kiss kneel laugh launch lay lead lean leap leave let lick lie lift look lounge make march
meet move nap navigate nuzzle observe overlook paddle participate pass pat pause pedal peer perform
perch pet pick play point poke pose practice prepare pretend pull punch push put raise reach read
relax repair rest retrieve return ride roll run scale score scream search see sell serve shake shop
shout show sing sit skate skateboard skip sled sleep smile smoke snowboard speak splash spin sprint
squat stand stare stay steer step stop stretch stroll surf surround sway sweep swim take talk taste
teach tend throw toss touch travel trot try tumble turn use wade wait wake walk wander warm wash
watch wear wrestle write yawn yell
"""

_NOUNS = {
    "ly": "assembly belly butterfly dragonfly family fly jelly lily",
    "ing": """
awning building ceiling clothing clearing crossing dumpling earring evening gosling icing king
lightning living marking morning ring railing siding sibling spring string swing thing topping
wedding wing
""",
    "ed": "bed feed reed seed shed sled steed thoroughbred weed",
}

ENDINGS = {ending: frozenset(nouns.split()) for ending, nouns in _NOUNS.items()}
"""Endings of adverbs and participles, and the nouns that have them."""

_IRREGULAR = """
calves calf children child feet foot geese goose knives knife leaves leaf loaves loaf men man
mice mouse oxen ox people person shelves shelf teeth tooth wolves wolf women woman
"""

IRREGULAR = dict(zip(_IRREGULAR.split()[::2], _IRREGULAR.split()[1::2], strict=True))
"""Singulars by plural."""


def _forms(verb: str) -> set[str]:
    """Return a verb and its third person; ``ENDINGS`` exclude its participles."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return {verb, f"{verb[:-1]}ies"}
    return {verb, f"{verb}es" if re.search("(s|x|z|ch|sh|o)$", verb) else f"{verb}s"}


NOT_NOUNS = (
    frozenset(_OTHERS.split())
    .union(*map(_forms, _VERBS.split()))
    .difference(ENDINGS["ing"], ENDINGS["ed"])
)
"""Function words, numbers, adjectives, verbs, and nouns that name no thing in the picture, such as
"photo" or "side".
"""


def may_be_noun(word: str) -> bool:
    """Return True for a word, in lower case, that is in no list of other words and has no ending of
    an adverb or a participle.
    """
    ending = next((nouns for letters, nouns in ENDINGS.items() if word.endswith(letters)), None)
    return len(word) > 1 and word not in NOT_NOUNS and (ending is None or word in ending)


def singular(word: str, *, known: Container[str]) -> str:
    """Return the singular of a plural noun if it is among the ``known`` nouns, else the word."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    for ending, replacement, before in (
        ("ies", "y", ""),
        ("men", "man", ""),
        ("s", "", ""),
        ("es", "", ("s", "x", "z", "ch", "sh", "o")),
    ):
        start = word.removesuffix(ending)
        if (
            start != word
            and start.endswith(before)
            and not word.endswith("ss")
            and start + replacement in known
        ):
            return start + replacement
    return word


def nouns_of(words: Iterable[str], *, known: Container[str]) -> list[str]:
    """Return the words that may be nouns, in the singular, each once, in order; ``known`` as in
    ``singular``.
    """
    return list(dict.fromkeys(singular(word, known=known) for word in words if may_be_noun(word)))


def words_of(caption: str) -> list[str]:
    """Return the words of a caption in lower case, in order."""
    return [word.lower() for word in WORD.findall(caption)]
