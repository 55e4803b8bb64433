"""The reference of all options, made from the schema: ``python -m masa.config.reference > docs/configuration.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from masa.config.schema import Config

_HEAD = """# Configuration

Every option of a run, made from the schema by `python -m masa.config.reference > docs/configuration.md`. A
configuration is a YAML file with these sections; a key that is left out has its default. On the command line an option
is changed as `section.key=value`. `extends: FILE` at the top of a file, relative to it, lays the file over another:
keys that it holds take the place of the other's, mappings are merged, and lists are not. A run directory holds the
whole configuration. Unknown keys, wrong types and values out of range are refused before anything is loaded.
"""


def render_reference() -> str:
    """The whole reference as Markdown."""
    parts = [_HEAD]
    for name, field in Config.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        parts.append(f"\n## {name}\n\n{_sentence(section)}\n")
        rows = list(_rows(section, f"{name}."))
        if rows:
            parts.append("\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def _rows(section: type[BaseModel], prefix: str) -> Iterator[str]:
    schema = section.model_json_schema()
    for name, field in section.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _rows(nested, f"{prefix}{name}.")
            continue
        default = yaml.safe_dump(field.get_default(call_default_factory=True), default_flow_style=True).split("\n")[0]
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"| `{prefix}{name}` | {_type(schema['properties'][name])} | `{default}` | {meaning} |"


def _type(schema: dict[str, object]) -> str:
    if isinstance(options := schema.get("anyOf"), list):
        return " or ".join(_type(option) for option in options)
    if isinstance(choices := schema.get("enum"), list):
        return ", ".join(f"`{choice}`" for choice in choices)
    if "$ref" in schema:
        return "mapping"
    if "const" in schema:
        return f"`{schema['const']}`"
    name = {"integer": "whole number", "string": "text", "boolean": "true or false", "object": "mapping"}.get(
        str(schema.get("type")), str(schema.get("type"))
    )
    words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = [f"{word} {schema[key]:g}" for key, word in words.items() if key in schema]
    return ", ".join([name, *bounds])


def _sentence(section: type[BaseModel]) -> str:
    return re.sub(r"\s+", " ", section.__doc__ or "").strip()


if __name__ == "__main__":
    print(render_reference(), end="")
