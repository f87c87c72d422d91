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
        print(f"gestalt: {one_line(error)} (--debug shows where)", file=sys.stderr)
        return 2
    return status


def one_line(error: ValueError) -> str:
    """Return the message of an error in one line; of an error in a loading process, without the traceback that torch puts before it."""
    text = str(error).strip()
    if text.startswith("Caught "):  # "Caught ValueError in DataLoader worker process 0.", the traceback, "ValueError: message"
        text = text.rpartition("\n")[2].partition(": ")[2]
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
