"""JSON that another program, or a person, may have written: read within limits, checked by a
schema.  ``schemas.json`` has those of all files that are read again, as JSON Schema.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from gestalt.support.strange_files import MAX_BYTES, read_whole

Fields = dict[str, Any]
"""An object of JSON."""


def read_json(path: Path, schema: str, *, most: int = MAX_BYTES) -> Fields:
    """Return the content of a JSON file that fits a schema, a name in ``schemas.json``.

    Args:
        path: the file.
        schema: its name.
        most: largest number of bytes.

    Raises:
        ValueError: another kind of file, a larger one, not JSON in UTF-8, a key that is given
            twice, a number that is not finite, or a value that does not fit; the message names the
            key, and not the file.
        OSError: it cannot be read.
    """
    from fastjsonschema import JsonSchemaValueException

    text = read_whole(path, most=most).decode()
    try:
        content = json.loads(text, object_pairs_hook=_checked)
        _validator(schema)(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except JsonSchemaValueException as error:
        found = "" if error.rule == "required" else f"; it is {repr(error.value)[:60]}"
        raise ValueError(f"{error.message.removeprefix('data.')}{found}") from error
    return content


@cache
def _validator(schema: str) -> Any:
    from fastjsonschema import compile

    text = Path(__file__).with_name("schemas.json").read_text(encoding="utf-8")
    return compile({**json.loads(text), "allOf": [{"$ref": f"#/definitions/{schema}"}]})


def _checked(pairs: list[tuple[str, Any]]) -> Fields:
    """Return an object of JSON whose keys differ and whose numbers are finite."""
    content: Fields = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"{key} is given twice")
        content[key] = value
        values = [value]
        for number in values:
            if isinstance(number, list):
                values += number  # nested lists are looked through as well
            elif isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{key} holds {number}, which is not a finite number")
    return content
