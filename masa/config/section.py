"""What all sections of a configuration share: strictness, number ranges, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


def _written_in_yaml(value: object) -> object:
    """YAML reads a bare `on` or `off` as true or false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


AutoSwitch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_written_in_yaml)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    def differences(self, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
        """Dotted key, value and default of each option that does not have its default."""
        for name, field in type(self).model_fields.items():
            value, default = getattr(self, name), field.get_default(call_default_factory=True)
            if value == default:
                continue
            if isinstance(value, Section) and isinstance(default, Section):
                yield from value.differences(f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value, default

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        for key, value, _ in self.differences():
            yield key, value

    def _repr_html_(self) -> str:
        """What notebooks show: a table of the options that do not have their defaults."""
        rows = "".join(
            f"<tr><td><code>{escape(key)}</code></td><td>{escape(repr(value))}</td><td>{escape(repr(default))}</td></tr>"
            for key, value, default in self.differences()
        )
        head = "<tr><th>option</th><th>value</th><th>default</th></tr>"
        name = escape(type(self).__name__)
        return (
            f"<b>{name}</b><table>{head}{rows}</table>" if rows else f"<b>{name}</b>: all options have their defaults"
        )


class ImportedSource(Section):
    """Something of the user's own, by its import path: a mapping, or that path alone."""

    path: str
    """`module:name` of a class, a function or an object."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What a class or a function that makes an object is called with, by name."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value
