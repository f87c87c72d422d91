"""The command line, nothing else: ``gestalt train|eval|segment``.  Imports nothing heavy before it knows what to do."""

import argparse
import shlex
import sys


def main(words: list[str] | None = None) -> int:
    """Parse, call, and turn what a user can mend into one line.  Returns the exit status."""
    arguments = _parse(words)
    try:
        status = arguments.call(arguments)
    except ValueError as error:
        if arguments.debug:
            raise
        print(f"gestalt: {' '.join(str(error).split())} (--debug shows where)", file=sys.stderr)
        return 2
    return int(status)


def _train(arguments: argparse.Namespace) -> int:
    from gestalt.config import load

    config = load(arguments.experiment, scale=arguments.scale, overrides=arguments.overrides)  # a typo stops here, before torch is imported
    from gestalt.callbacks.checkpoints import Interrupted
    from gestalt.module import NonFiniteLoss
    from gestalt.run import train

    try:
        train(config, overrides=arguments.overrides)
    except Interrupted as stop:
        words = shlex.join(word for word in arguments.overrides if not word.startswith("resume="))
        _say(f"gestalt: {stop}\ngo on with: gestalt train {arguments.experiment} --scale {arguments.scale} {words} resume=last")
        return 128 + stop.signal_number
    except NonFiniteLoss as error:
        _say(f"gestalt: {error}")
        return 1
    return 0


def _say(message: str) -> None:
    from gestalt.runs import first_rank

    if first_rank():
        print(message, file=sys.stderr)


def _eval(arguments: argparse.Namespace) -> int:
    from gestalt.run import evaluate

    evaluate(arguments.target, overrides=arguments.overrides)
    return 0


def _segment(arguments: argparse.Namespace) -> int:
    from gestalt.run import segment

    labels = [label.strip() for label in arguments.labels.split(",") if label.strip()]
    if len(labels) < 2:
        raise ValueError(f'--labels "{arguments.labels}": name two or more, separated by commas, such as "dog, grass"')
    print(segment(arguments.image, labels=labels, target=arguments.ckpt, output=arguments.output))
    return 0


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gestalt", description="Perceptual grouping in contrastive vision-language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    overrides = "any key of the configuration, such as trainer.max_steps=100 data.root=DIR seed=1 resume=last"

    train = commands.add_parser("train", help="train an experiment and score it after each epoch", epilog=f"key=value: {overrides}")
    train.add_argument("experiment", help="a file in experiments/, without .yaml")
    train.add_argument("--scale", default="demo", help="a file in experiments/scales/, without .yaml (default: %(default)s)")
    train.set_defaults(call=_train)

    evaluation = commands.add_parser("eval", help="score a checkpoint", epilog=f"key=value: {overrides}")
    evaluation.add_argument("target", help="a checkpoint, a run's folder, or an experiment's name for its newest run")
    evaluation.set_defaults(call=_eval)

    segment = commands.add_parser("segment", help="colour a picture by the labels that its locations resemble")
    segment.add_argument("image", help="a picture")
    segment.add_argument("--labels", required=True, help='phrases, separated by commas: "dog, cat, grass"')
    segment.add_argument("--ckpt", required=True, help="a checkpoint, a run's folder, or an experiment's name for its newest run")
    segment.add_argument("--output", help="PNG to write (default: <picture>_segmented.png beside it)")
    segment.set_defaults(call=_segment)

    for command in (train, evaluation, segment):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments, rest = parser.parse_known_args(words)  # flags and key=value words may be mixed
    unknown = [word for word in rest if word.startswith("-") or arguments.call is _segment]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}; overrides are key=value")
    arguments.overrides = rest
    return arguments


if __name__ == "__main__":
    sys.exit(main())
