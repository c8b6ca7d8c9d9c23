"""JSON Schemas of event contracts: compiled offline, patterns in linear time, whatever a definition says."""

from __future__ import annotations

from typing import Any, Final

import jsonschema_rs

SCHEMA_FORM: Final = "a JSON Schema of an event's properties (draft 4 to 2020-12), with references into itself alone"
_SHOWN_LENGTH_MAX: Final = 200


def compile_schema(schema: Any) -> jsonschema_rs.Validator:
    """Compile a schema; raises ValueError. Nothing is fetched, no file read: only what it holds itself."""
    # The linear engine: a pattern must not be able to stop the clock, whoever sends the text.
    options = jsonschema_rs.RegexOptions()
    return jsonschema_rs.validator_for(schema, offline=True, pattern_options=options)


def schema_fault(schema: Any) -> str:
    """Say in a line why a schema cannot be used; empty where it can."""
    try:
        compile_schema(schema)
    except (ValueError, TypeError, RecursionError) as error:
        return str(error).strip().partition("\n")[0][:_SHOWN_LENGTH_MAX].rstrip(".")
    return ""


def first_break(validator: jsonschema_rs.Validator, properties: Any) -> str | None:
    """Give a rule that an object breaks, as `place: keyword`, the first by its text; None where it breaks none.

    Places in lists are `*`: a rule is one rule wherever in a list it is broken. 0.5 µs where nothing is.
    """
    if validator.is_valid(properties):
        return None
    return min(_rule(error.instance_path, error.schema_path) for error in validator.iter_errors(properties))


def _rule(instance_path: list[Any], schema_path: list[Any]) -> str:
    place = "/".join("*" if isinstance(step, int) else str(step) for step in instance_path)
    keyword = next((str(step) for step in reversed(schema_path) if isinstance(step, str)), "schema")
    return f"/{place}: {keyword}"[:_SHOWN_LENGTH_MAX]
