"""Checkpoints in a work folder, so that a training run killed at any moment can resume.

They are not among a rule's outputs, which Snakemake deletes when a job fails. The folder is named by a fingerprint of settings, data
and code, so that a changed experiment never resumes from another one's weights. It is removed once the outputs are written, so that a
rerun trains again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from boldscribe.machinery.files import atomic
from boldscribe.machinery.provenance.digests import recorded_digest
from boldscribe.machinery.provenance.fingerprint import current_fingerprint

KEPT = 2


def fingerprint(program: str, settings: Mapping[str, Any], files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits that change with the settings, the content of a file, or the code that the program can reach."""
    content = json.dumps(settings, sort_keys=True, default=str) + "".join(recorded_digest(p)["sha256"] for p in files)
    return hashlib.sha256((content + current_fingerprint(program).sha256).encode()).hexdigest()[:16]


class Checkpoints:
    """Checkpoints of one training run.

    Args:
        program: name of the rule that trains.
        work_dir: the rule's work folder.
        settings: those that the training depends on, as JSON.
        files: its input data.
    """

    def __init__(self, program: str, work_dir: Path, settings: Mapping[str, Any], files: Iterable[Path]) -> None:
        self.folder = work_dir / fingerprint(program, settings, files)
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, number: int, tensors: Mapping[str, Tensor], state: Any) -> None:
        """Write the state after step `number` atomically, and keep the last two checkpoints."""
        with atomic(self.folder / f"{number:06d}.safetensors") as part:
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, part, metadata={"state": json.dumps(state)})
        for old in self._paths()[:-KEPT]:
            old.unlink()

    def latest(self) -> tuple[int, dict[str, Tensor], Any] | None:
        """Number, tensors and state of the newest readable checkpoint; None if there is none."""
        for path in reversed(self._paths()):
            try:
                with safe_open(path, "pt") as file:
                    return int(path.stem), {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["state"])  # noqa: SIM118
            except (SafetensorError, OSError):
                continue
        return None

    def remove(self) -> None:
        """Delete all checkpoints, once the training outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)  # several processes may delete it

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))


def trainable(model: torch.nn.Module) -> dict[str, Tensor]:
    """Trainable parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def pack(parameters: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Pack parameters and the optimiser's moments into one mapping of tensors."""
    packed = {f"parameter/{name}": p for name, p in parameters.items()}
    for name, p in parameters.items():
        packed |= {f"optimiser/{name}/{key}": value for key, value in optimiser.state.get(p, {}).items()}
    return packed


def unpack(packed: Mapping[str, Tensor], parameters: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
    """Restore packed values in place."""
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(packed[f"parameter/{name}"])
            prefix = f"optimiser/{name}/"
            moments = {k.removeprefix(prefix): v for k, v in packed.items() if k.startswith(prefix)}
            if moments:  # torch keeps the step count on the CPU, the moments on their parameter's device
                optimiser.state[p] = {k: v.clone() if k == "step" else v.to(p.device, copy=True) for k, v in moments.items()}
