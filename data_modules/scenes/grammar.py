"""Grammar: writes captions like people, who omit and reorder objects but never mention absent
ones.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from gestalt.data_modules.scenes.layout import Layout, choose
from gestalt.data_modules.scenes.recipes import SceneRecipe

_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_CONSONANT_SOUNDS = ("uni", "use", "eu", "one", "ukulele")
_FRAMES = (
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "{} in a picture",
)


def with_article(noun: str) -> str:
    """Prefix a noun with "a" or "an" by the sound of its first letters."""
    vowel = noun[0] in "aeiou" and not noun.startswith(_CONSONANT_SOUNDS)
    return f"{'an' if vowel else 'a'} {noun}"


@dataclass
class Writer:
    """Writes captions for one recipe."""

    recipe: SceneRecipe

    def caption(self, layout: Layout, *, seed: int, epoch: int, index: int) -> str:
        """Write a caption of a scene, pure in (seed, epoch, index)."""
        rng = np.random.default_rng([seed, epoch, index, 7])
        grammar, backdrop = self.recipe.grammar, self.recipe.backgrounds[layout.background]
        counts = list(Counter(placed.kind for placed in layout.objects).items())
        order = np.argsort(rng.random(len(counts))).tolist()
        kind, bare = rng.random(), rng.random() < grammar.bare_noun
        if kind < grammar.background_only:
            return self._framed(backdrop.noun, rng)
        if kind < grammar.background_only + grammar.single_noun:
            return self._framed(self._phrase(*counts[order[0]], bare=bare, rng=rng), rng)
        kept = [k for k in order if rng.random() >= grammar.drop_object] or order[:1]
        things = _listed([self._phrase(*counts[k], bare=bare, rng=rng) for k in kept])
        if rng.random() >= grammar.name_background:
            return self._framed(things, rng)
        place = choose(rng, backdrop.places)
        form = rng.random()
        if form < 0.15:
            return f"{backdrop.noun} with {things}"
        if form < 0.25:
            return f"{place}, {things}"
        return self._framed(f"{things} {place}", rng)

    def _framed(self, words: str, rng: Generator) -> str:
        """Return the words, alone or in a frame such as "a photo of"."""
        if rng.random() < self.recipe.grammar.plain:
            return words
        return str(choose(rng, _FRAMES).format(words))

    def _phrase(self, kind: int, number: int, *, bare: bool, rng: Generator) -> str:
        """Return a noun phrase: "a dog" or bare "dog", "two dogs" or "dogs"."""
        noun = self.recipe.classes[kind]
        if number == 1:
            return noun.name if bare else with_article(noun.name)
        if rng.random() < self.recipe.grammar.say_number:
            return f"{_NUMBERS[number] if number < len(_NUMBERS) else number} {noun.plural}"
        return noun.plural


def _listed(phrases: list[str]) -> str:
    """Join phrases as in a sentence: "a dog, a cat and two apples"."""
    *others, last = phrases
    return f"{', '.join(others)} and {last}" if others else last
