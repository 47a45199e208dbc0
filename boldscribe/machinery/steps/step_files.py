"""Files of a step: parameters of its function, and those that it declares while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from boldscribe.machinery.cluster.staging import Scratch

Inputs = Annotated[list[Path], "input"]  # any number of paths
Input = Annotated[Path, "input"]  # one path
Output = Annotated[Path, "output"]


class Files:
    """The files of a step by the names of its options, and those that it declares while it runs.

    Attributes:
        inputs, outputs: paths as declared.
        container: image and digest of the container that did the work, if any.
        scratch: copies of some inputs that are read instead, if any; `on_scratch`: the names of those.
    """

    def __init__(self, inputs: Mapping[str, list[Path]], outputs: Mapping[str, list[Path]]) -> None:
        self.inputs, self.outputs = dict(inputs), dict(outputs)
        self.container: dict[str, str | None] | None = None
        self.scratch: Scratch | None = None
        self.on_scratch: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> list[Path]:
        places = self.scratch.places if self.scratch else {}
        return [places.get(path, path) for path in self.inputs[name]]

    def use(self, name: str, paths: Iterable[Path]) -> list[Path]:
        """Declare further inputs that the step found itself, such as weights inside an installed package; return where to read them."""
        self.inputs[name] = [*self.inputs.get(name, []), *paths]
        if self.scratch and name in self.on_scratch:
            self.scratch.stage(self.inputs, [name])
        return self[name]

    def make(self, name: str, paths: Iterable[Path]) -> None:
        """Declare further outputs that the step has made."""
        self.outputs[name] = [*self.outputs.get(name, []), *paths]
