"""The command line: parse, check, then run the module of the command.  Nothing heavy is imported
before the checks have passed.
"""

import os
import signal
import sys
from importlib import import_module

from gestalt.commands.arguments import MODULES, PRINTING, check, parse
from gestalt.commands.faults import describe
from gestalt.support import parent, signals, threads
from gestalt.support.addresses import without_secrets


def main(words: list[str] | None = None) -> int:
    """Run the command in ``words``, or in the words of this process.

    Bad input (a ValueError), what the system refuses (an OSError) and a signal each become one line
    on the standard error.  A closed pipe, as in ``gestalt list | head``, ends the command without
    an error.

    Returns:
        The exit status: 0, 1 if the work failed, 2 for bad input, 128 + the number of a signal.
    """
    arguments = parse(words)
    threads.shorten_wait()
    try:
        with signals.handle(*signals.STOPPING, by=signals.stop):
            parent.follow()
            with signals.defer():
                check(arguments)
                name = MODULES.get(arguments.command, arguments.command)
                module = import_module(f"gestalt.commands.{name}")
            status: int = module.run(arguments)
            sys.stdout.flush()
    except signals.Interrupted as stop:
        return import_module("gestalt.commands.stopping").interrupted(stop, arguments)
    except BrokenPipeError:
        # or Python writes the rest at its exit, and fails again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if arguments.command in PRINTING else 128 + signal.SIGPIPE
    except Exception as error:
        line = describe(error)
        if arguments.debug or line is None:
            raise
        print(f"gestalt: {without_secrets(line)} (--debug shows where)", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return status


if __name__ == "__main__":
    sys.exit(main())
