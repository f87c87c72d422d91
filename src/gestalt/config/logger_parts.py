"""``logger``: the paths of classes and their arguments, read without importing the classes."""

from typing import Any, NamedTuple

from gestalt.config.schema import refuse

LIGHTNING = "lightning.pytorch.loggers"


class LoggerPart(NamedTuple):
    """One entry of ``logger``: a class by its path, and the arguments that the configuration gives it."""

    class_path: str
    init_args: dict[str, Any]


def logger_parts(entries: list[Any]) -> list[LoggerPart]:
    """Return the entries of ``logger``.

    Raises:
        ConfigError: an entry is neither the path of a class nor ``{class_path: ..., init_args: {...}}``.
    """
    return [_part(entry) for entry in entries]


def _part(entry: Any) -> LoggerPart:
    keys = {"class_path": entry} if isinstance(entry, str) else entry
    if not isinstance(keys, dict) or not isinstance(keys.get("class_path"), str) or not keys.keys() <= {"class_path", "init_args"}:
        refuse("logger", entry, f"choose the path of a class, such as {LIGHTNING}.CSVLogger, or {{class_path: ..., init_args: {{...}}}}")
    path: str = keys["class_path"]
    arguments: Any = keys.get("init_args") or {}
    if not all(name.isidentifier() for name in path.split(".")) or "." not in path:
        refuse("logger", path, f"not the path of a class; choose one such as {LIGHTNING}.CSVLogger")
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        refuse("logger", path, f"init_args={arguments} are not arguments by name; write init_args: {{project: clippy}}")
    return LoggerPart(path, arguments)
