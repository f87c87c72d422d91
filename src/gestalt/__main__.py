"""The command line: parse, check, then run the module of the command.  Nothing heavy is imported before the checks have passed."""

import sys
from importlib import import_module

from gestalt.commands.arguments import COMMANDS, parse


def main(words: list[str] | None = None) -> int:
    """Run the command in ``words``, or in the words of this process.

    Bad input (a ValueError) becomes one line on the standard error.

    Returns:
        The exit status: 0, 1 if the work failed, 2 for bad input, 128 + the number of a signal.
    """
    arguments = parse(words)
    command = COMMANDS[arguments.command]
    try:
        if command.check is not None:
            getattr(import_module("gestalt.commands.early"), command.check)(arguments)
        status: int = import_module(f"gestalt.commands.{command.module}").run(arguments)
    except ValueError as error:
        if arguments.debug:
            raise
        print(f"gestalt: {' '.join(str(error).split())} (--debug shows where)", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
