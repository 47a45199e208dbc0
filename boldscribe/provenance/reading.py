"""The slice of the configuration that a step actually reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from inspect import isfunction
from typing import Any, TypeVar, cast

from boldscribe.config import Config
from boldscribe.sections.base import Section

S = TypeVar("S", bound=Section)


class _Reading:
    """Proxy for a `Section` (or a mapping of sections) that notes each key read, by its dotted name."""

    def __init__(self, target: Section | Mapping[str, Any], name: str, read: dict[str, Any]) -> None:
        self._target, self._name, self._read = target, name, read

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The target's class, so that `isinstance` distinguishes sections."""
        return type(self._target)

    def __getattr__(self, attribute: str) -> Any:
        target = self._target
        if isinstance(target, Section) and attribute in type(target).model_fields:
            return self._note(type(target).model_fields[attribute].alias or attribute, getattr(target, attribute))
        found = getattr(type(target), attribute, None)
        if isinstance(found, property) and found.fget is not None:
            return found.fget(self)  # computed from keys, which are noted on the way
        if isfunction(found) and found.__module__.startswith("boldscribe."):
            return partial(found, self)  # the same for methods of our own sections; pydantic's methods read the whole section
        self._note_all()  # model_dump, model_copy, items, ...: the whole section is read
        return getattr(target, attribute)

    def __getitem__(self, item: str) -> Any:
        return self._note(item, cast(Mapping[str, Any], self._target)[item])

    def __iter__(self) -> Any:
        self._read[f"{self._name}.(names)"] = sorted(cast(Mapping[str, Any], self._target))
        return iter(self._target)

    def __contains__(self, item: object) -> bool:
        self._read[f"{self._name}.(names)"] = sorted(cast(Mapping[str, Any], self._target))
        return item in cast(Mapping[str, Any], self._target)

    def _note(self, part: str, value: Any) -> Any:
        name = f"{self._name}.{part}" if self._name else part
        if isinstance(value, Section | dict):
            return _Reading(value, name, self._read)
        self._read[name] = value
        return value

    def _note_all(self) -> None:
        target = self._target
        values = (
            target.model_dump(mode="json", by_alias=True)
            if isinstance(target, Section)
            else {k: v.model_dump(mode="json", by_alias=True) if isinstance(v, Section) else v for k, v in target.items()}
        )
        self._read[self._name or "*"] = values


def reading(config: Config, read: dict[str, Any]) -> Config:
    """Return a proxy for `config` that adds every key read from it to `read` (dotted name → value).

    A section that is read as a whole is noted under its own name; names of data sets, when they are listed, under `datasets.(names)`.
    """
    return cast(Config, _Reading(config, "", read))


def whereabouts(section: S) -> S:
    """Return the section itself, whose reads are not noted, for keys that state only a location.

    Examples: a licence, a program, an image that is known by its digest. No result depends on these keys, so a change makes none stale.
    """
    return cast(S, section._target) if isinstance(section, _Reading) else section
