"""Building blocks of the configuration's sections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
NAMES = "(names)"  # in place of a name: only the names of a mapping, none of what they stand for


def key(default: Any, description: str, source: str, **constraints: Any) -> Any:
    """Define a configuration key: its default, meaning (with unit) and the source of the value."""
    extra: dict[str, Any] = {"source": source}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: default, description=description, json_schema_extra=extra, **constraints)
    return Field(default, description=description, json_schema_extra=extra, **constraints)


class UndeclaredSettingError(LookupError):
    """A step reads a setting that it does not declare."""

    def __init__(self, section: str, name: str) -> None:
        super().__init__(f"{section}.{name}: this step does not declare the setting; add it to SETTINGS in its program (workflow_scripts/)")


class Section(BaseModel):
    """A group of keys, which is immutable and rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    if not TYPE_CHECKING:  # type checkers would take every attribute for one that exists

        def __getattr__(self, name: str) -> Any:
            """Report a key that a restricted section lacks."""
            if name in type(self).model_fields:
                raise UndeclaredSettingError(type(self).__name__, name)
            return super().__getattr__(name)


S = TypeVar("S", bound=Section)


def restricted(section: S, keys: Iterable[str]) -> S:
    """Return a copy of a section that has only these keys: reading another raises an error that names it.

    Args:
        section: whole.
        keys: dotted names; that of a section stands for all of it.
    """
    parts = _by_first_part(keys)
    copy = section.model_copy()
    for field, info in type(section).model_fields.items():
        wanted = parts.get(info.alias or field)
        if wanted is None:
            del copy.__dict__[field]
        elif "" not in wanted:
            copy.__dict__[field] = _restricted_value(getattr(section, field), wanted)
    return copy


def _restricted_value(value: Any, keys: set[str]) -> Any:
    if isinstance(value, Section):
        return restricted(value, keys)
    if not isinstance(value, dict):
        return value  # an optional section that is not set
    parts = _by_first_part(keys)
    names = value if NAMES in parts else parts
    return {name: restricted(value[name], parts.get(name, ())) for name in names if name in value}


def _by_first_part(keys: Iterable[str]) -> dict[str, set[str]]:
    """First part of each dotted name → the rests, "" for the whole."""
    parts: dict[str, set[str]] = {}
    for name in keys:
        first, _, rest = name.partition(".")
        parts.setdefault(first, set()).add(rest)
    return parts
