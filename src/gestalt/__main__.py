"""The command line: parse, check, then run the module of the command.  Nothing heavy is imported before the checks have passed."""

import sys
from importlib import import_module

from gestalt.commands.arguments import COMMANDS, parse
from gestalt.support import parent, signals


def main(words: list[str] | None = None) -> int:
    """Run the command in ``words``, or in the words of this process.

    Bad input (a ValueError) and a signal each become one line on the standard error.

    Returns:
        The exit status: 0, 1 if the work failed, 2 for bad input, 128 + the number of a signal.
    """
    arguments = parse(words)
    command = COMMANDS[arguments.command]
    try:
        with signals.handled(*signals.STOPPING, by=signals.stop):
            parent.follow()
            with signals.deferred():
                if command.check is not None:
                    getattr(import_module("gestalt.commands.early"), command.check)(arguments)
                module = import_module(f"gestalt.commands.{command.module}")
            status: int = module.run(arguments)
    except signals.Interrupted as stop:
        ended: int = import_module("gestalt.commands.stopping").interrupted(stop, arguments)
        return ended
    except ValueError as error:
        if arguments.debug:
            raise
        print(f"gestalt: {' '.join(str(error).split())} (--debug shows where)", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
