"""Signals that ask the program to stop, at any point."""

import os
import signal

import pytest

from gestalt.support.signals import STOPPING, Interrupted, defer, handle, stop


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_raises_interrupted_in_the_main_code(number):
    before = signal.getsignal(number)
    with (
        pytest.raises(Interrupted, match=f"^stopped by {number.name}$") as stopped,
        handle(*STOPPING, by=stop),
    ):
        os.kill(os.getpid(), number)
    assert stopped.value.signal_number == number
    assert signal.getsignal(number) is before


def test_a_library_that_catches_every_exception_does_not_swallow_it():
    def download() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            raise AssertionError("swallowed") from None

    with pytest.raises(Interrupted), handle(*STOPPING, by=stop):
        download()


def test_during_imports_a_signal_is_deferred_to_their_end():
    done = []

    def load() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        done.append("imported")

    with pytest.raises(Interrupted, match="SIGUSR1"), handle(*STOPPING, by=stop), defer():
        load()
    assert done == ["imported"]


def test_a_second_signal_has_the_default_handler():
    handlers = []

    def load() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        handlers.append(signal.getsignal(signal.SIGTERM))

    with pytest.raises(Interrupted), handle(*STOPPING, by=stop), defer():
        load()
    assert handlers == [signal.SIG_DFL]
