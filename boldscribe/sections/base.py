"""Building blocks of the configuration's sections."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
PLACEHOLDER, QUESTION = "<ImageHere>", "{instruction}"  # of the prompt template


def key(default: Any, description: str, source: str, **constraints: Any) -> Any:
    """Define a configuration key: its default, meaning (with unit) and the source of the value."""
    extra: dict[str, Any] = {"source": source}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: default, description=description, json_schema_extra=extra, **constraints)
    return Field(default, description=description, json_schema_extra=extra, **constraints)


class Section(BaseModel):
    """A group of keys, which is immutable and rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
