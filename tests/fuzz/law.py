"""The law of every reader: any bytes give pairs, counted bad samples, or one line; in bounded time
and memory.
"""

import os
import resource
import signal
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.support.typed import ConfigError
from tests.data_modules.files import opened

EXAMPLES = int(os.environ.get("GESTALT_FUZZ_EXAMPLES", "10"))
"""Examples of each test; ``GESTALT_FUZZ_EXAMPLES=1000`` searches for minutes."""

SECONDS, BYTES = 20, 2**30
"""Most of processor time and memory that one example may take; an image of the largest allowed size
takes a third of the bytes.
"""

READ = 40
"""Most pairs read of one example."""

FUZZ = settings(
    max_examples=EXAMPLES,
    phases=(Phase.generate,),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

WORDS = ValueError, ConfigError, BadSample
"""Errors with a message for the user; subclasses such as UnicodeDecodeError are accidents."""


@contextmanager
def held(naming=("",)):
    """Hold an example to the law; an error has one of these names."""

    def late(number, frame):
        raise AssertionError(f"not ended after {SECONDS} seconds of processor time")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    except ValueError as error:
        named = any(name in str(error) for name in naming)
        if type(error) not in WORDS or len(str(error).splitlines()) != 1 or not named:
            raise AssertionError(f"not an error of one line for the user: {error!r}") from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES


def read_pairs(source, root, **options):
    """Open a source and draw its first pairs; a bad sample is one line too."""
    with held():
        pairs = opened(source, root, **options)
        pairs.digest()
        pairs.about()
        for index in range(min(len(pairs), READ)):
            with held():
                pairs.pair(index, 0)


@st.composite
def mutated(draw, *contents):
    """One of these contents with bytes changed, removed, repeated or inserted; or any bytes."""
    content = bytearray(draw(st.sampled_from((*contents, b""))))
    if not content:
        return draw(st.binary(max_size=2000))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from((1, 1, 1, 2, 4, 16, 512)))
        kind = draw(st.sampled_from(("set", "flip", "remove", "repeat", "insert", "extreme")))
        if kind == "set":
            content[start : start + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "flip" and start < len(content):
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "remove":
            del content[start : start + length]
        elif kind == "repeat":
            content[start:start] = content[start : start + length] * draw(st.integers(1, 40))
        elif kind == "insert":
            content[start:start] = draw(st.binary(max_size=length))
        elif kind == "extreme":
            content[start : start + length] = (
                bytes((draw(st.sampled_from((0, 0x7F, 0x80, 0xFF))),)) * length
            )
    return bytes(
        content[: draw(st.sampled_from((len(content), draw(st.integers(0, len(content))))))]
    )


def json_values(*words):
    """Any JSON, with these words as keys and texts."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.sampled_from(words)
        | st.text(max_size=5)
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(words) | st.text(max_size=3), inner, max_size=4)
        ),
        max_leaves=12,
    )
