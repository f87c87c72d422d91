"""The command line: parse the words, check them, then run the command.  Only the file of the
command given is imported, and nothing heavy before its check has passed.
"""

import argparse
import atexit
import gc
import os
import signal
import sys
import traceback
from importlib import import_module
from typing import Any, NoReturn

import gestalt
from gestalt.commands import COMMANDS
from gestalt.support import process
from gestalt.support.addresses import without_secrets
from gestalt.support.faults import StoppedRun, describe
from gestalt.support.names import nearest

PRINTING = ("compare", "diagnose", "report", "list")
"""Commands that do not need torch, and for which a closed pipe is not an error."""

WITHOUT_LIGHTNING = ("data", "export", "segment", "group")
"""Commands that do not need Lightning, which takes seconds to import."""


class Parser(argparse.ArgumentParser):
    """The parser of the program or of a command.

    Flags cannot be abbreviated, ``--debug`` may be anywhere, and messages quote words without the
    secrets of URLs.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords, allow_abbrev=False)
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )

    def error(self, message: str) -> NoReturn:
        """Print the message and end the process."""
        super().error(without_secrets(message))


def parse(words: list[str] | None) -> argparse.Namespace:
    """Parse the words of a command line, or those of this process.

    Help and usage errors end the process, as argparse does.

    Returns:
        The flags, with ``command``, the name of the command; ``module``, its file; ``overrides``,
        the key=value words; and ``words``, all words.
    """
    given = sys.argv[1:] if words is None else words
    parser = Parser(
        prog="gestalt", description="Perceptual grouping in contrastive vision-language models."
    )
    version = f"gestalt {gestalt.__version__}"
    parser.add_argument("--version", action="version", version=version, help="show the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    chosen = next((word for word in given if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        parser.error(f"{chosen}: no such command; {nearest(chosen, COMMANDS)}")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == chosen:
            module = import_module(f"gestalt.commands.{name}")
            module.flags(command)
            command.set_defaults(module=module)
    arguments, rest = parser.parse_known_args(given)  # flags and key=value words may be mixed
    takes_keys = hasattr(arguments, "overrides")
    wrong = [word for word in rest if word.startswith("-") or not takes_keys]
    if wrong:
        mend = "keys are written without dashes; " if takes_keys else ""
        parser.error(
            f"{chosen} does not take {' '.join(wrong)}; {mend}gestalt {chosen} --help lists what "
            "it takes"
        )
    arguments.overrides = [*getattr(arguments, "overrides", ()), *rest]
    arguments.words = given
    if any("python:" in word for word in given):
        from gestalt.support.plugins import search_here

        search_here()
    return arguments


def main(words: list[str] | None = None) -> int:
    """Run the command in ``words``, or in the words of this process.

    Bad input (ValueError), errors of the system (OSError), a SystemExit of other code, and signals
    are each reported in one line on the standard error.  A closed pipe, as in ``gestalt list |
    head``, ends the command without an error.

    Returns:
        The exit status: 0, 1 if the work failed, 2 for bad input, 128 + the number of a signal.
    """
    arguments = parse(words)
    # At exit, Python's last garbage collection over the modules of torch takes seconds, although
    # the process's memory is freed anyway.  This hook is registered before theirs, so it runs after
    # them.
    atexit.register(gc.freeze)
    process.shorten_wait()
    try:
        with process.handle(*process.STOPPING, by=process.stop):
            process.follow()
            with process.defer():
                if hasattr(arguments.module, "check"):
                    arguments.checked = arguments.module.check(arguments)
                if arguments.command not in PRINTING:
                    needed = arguments.command not in WITHOUT_LIGHTNING
                    import_module("gestalt.runs.process").quiet(with_lightning=needed)
            status: int = arguments.module.run(arguments)
            sys.stdout.flush()
    except process.Interrupted as stop:
        return import_module("gestalt.commands.stopping").interrupted(stop, arguments)
    except BrokenPipeError:
        # Python would write the rest at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if arguments.command in PRINTING else 128 + signal.SIGPIPE
    except StoppedRun as error:
        process.tell(f"gestalt: {error}")
        return 1
    except SystemExit as error:  # of a plug-in or a tower: the parser's own ends the process above
        *_, (frame, number) = traceback.walk_tb(error.__traceback__)
        place = f"{frame.f_globals['__name__']}, line {number}"
        print(
            f"gestalt: {place}: it ended the command by SystemExit({error.code!r}); raise an error "
            "there instead",
            file=sys.stderr,
        )
        return 1
    except Exception as error:
        line = describe(error)
        text = without_secrets(line or "")
        text = f"gestalt: {text} (--debug shows where)"
        if "debug" in arguments or line is None:
            text = without_secrets(traceback.format_exc())
        print(text, file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return status


if __name__ == "__main__":
    sys.exit(main())
