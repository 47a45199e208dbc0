"""Recognition of clips unlike those that the captioner's connectors were trained on (docs/captioners.md).

Connectors that know rendered clips only describe a photograph in the words of rendered clips. Such clips are recognised by the
frozen visual encoder: the mean visual tokens of the training clips lie near a few directions, and those of other clips lie far off.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from boldscribe.machinery.files import atomic
from boldscribe.models.weight_files import load_weights

NAME = "familiar.safetensors"  # next to connectors.safetensors, if they were trained on rendered clips
N_DIRECTIONS = 128  # at most a quarter of the number of training clips, which leave nothing outside of as many directions as they are
MARGIN = 1.25  # between the farthest clip that was rendered for calibration and the limit
SHOWN = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FamiliarClips:
    """Mean visual tokens of the clips that connectors were trained on.

    Attributes:
        mean_D: their mean.
        directions_KD: orthonormal directions in which they vary most.
        scale: root mean square of their distances from the mean along all other directions, the unit of `distances`.
        limit: distance beyond which a clip is unlike them.
    """

    mean_D: Tensor
    directions_KD: Tensor
    scale: Tensor
    limit: Tensor

    def distances(self, means_BD: Tensor) -> Tensor:
        """Return the distances (B) of clips by their mean visual tokens; those of the training clips are 1 in root mean square."""
        centred_BD = means_BD - self.mean_D
        rest_BD = centred_BD - centred_BD @ self.directions_KD.T @ self.directions_KD
        return rest_BD.norm(dim=1) / self.scale

    def unlike(self, clips: Sequence[str], means_BD: Tensor) -> list[str]:
        """Return the clips that are unlike the training clips."""
        return [clip for clip, distance in zip(clips, self.distances(means_BD), strict=True) if distance > self.limit]

    def save(self, path: Path) -> None:
        """Write the statistics as safetensors, with directions in half precision."""
        with atomic(path) as part:
            save_file({**vars(self), "directions_KD": self.directions_KD.half().contiguous()}, part)


def mean_tokens(visual_BTND: Tensor) -> Tensor:
    """Average visual tokens (B, T, N, D) over frames and places, (B, D)."""
    return visual_BTND.float().mean((1, 2))


def familiar_clips(trained_BD: Tensor, unseen_BD: Tensor) -> FamiliarClips:
    """Compute the statistics from the mean visual tokens of training clips, and the limit from rendered clips unseen in training."""
    mean_D = trained_BD.mean(0)
    centred_BD = trained_BD - mean_D
    directions_KD = torch.linalg.svd(centred_BD, full_matrices=False).Vh[: min(N_DIRECTIONS, len(trained_BD) // 4)]
    rest_BD = centred_BD - centred_BD @ directions_KD.T @ directions_KD
    scale = rest_BD.square().sum(1).mean().sqrt()
    found = FamiliarClips(mean_D, directions_KD, scale, torch.tensor(0.0))
    return FamiliarClips(mean_D, directions_KD, scale, MARGIN * found.distances(unseen_BD).max())


def familiar_files(connectors: str | Path) -> list[Path]:
    """Return the file of statistics next to a file of connectors; none for Video-LLaMA's, which know real videos."""
    return [path for path in [Path(connectors).with_name(NAME)] if path.is_file()]


def load_familiar_clips(connectors: str | Path) -> FamiliarClips | None:
    """Load the statistics that lie next to a file of connectors; None if there are none."""
    if not (files := familiar_files(connectors)):
        return None
    state, _ = load_weights(files[0], "run `make connectors` to make it again")
    return FamiliarClips(**{name: tensor.float() for name, tensor in state.items()})


def warning(unlike: Sequence[str], n_clips: int) -> str:
    """Describe unlike clips, and what to do about them, in one sentence without a full stop."""
    shown = ", ".join(unlike[:SHOWN]) + (", ..." if len(unlike) > SHOWN else "")
    return (
        f"{len(unlike)} of {n_clips} clips ({shown}) are unlike the rendered clips, the only ones that the embedded connectors were "
        "trained on: captions by these describe rendered scenes, not what the clips show, and no score against such captions means "
        "anything; use captions that the data set gives, or another captioner (docs/captioners.md)"
    )
