"""Trial windows on the compute device, loaded without stalling it.

If the series of all subjects fit into half of a GPU's free memory, they are uploaded once, and windows are cut and scattered on the
GPU. Otherwise windows are cut on the host, the next batch while the current one is computed.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from boldscribe.data.presentations import presentation_counts, presentations
from boldscribe.data.windows import Windows

SHARE = 0.5  # largest share of a GPU's free memory that the series may take


class Batches:
    """Loader of batches of trial windows.

    Args:
        windows: windows of the trials.
        device: target device of the batches.
    """

    def __init__(self, windows: Windows, device: torch.device) -> None:
        self.windows, self.device = windows, device
        self.resident = self.hold() if device.type == "cuda" and self._fit() else None
        self._worker = ThreadPoolExecutor(1)
        self._expected: dict[tuple[int, ...], Future[Tensor]] = {}

    def load(self, rows: Tensor) -> Tensor:
        """Load the windows of trials, float32 (B, T, X, Y, Z)."""
        if self.resident is not None:
            return self._cut(rows)
        key = tuple(rows.tolist())
        future = self._expected.pop(key, None)
        windows = future.result() if future else self._load(key)
        return windows.to(self.device, non_blocking=True)

    def expect(self, rows: Tensor) -> None:
        """Prefetch the batch that will be requested next."""
        if self.resident is None and (key := tuple(rows.tolist())) not in self._expected:
            self._expected[key] = self._worker.submit(self._load, key)

    def _load(self, rows: tuple[int, ...]) -> Tensor:
        windows = self.windows.load(rows)
        return windows.pin_memory() if self.device.type == "cuda" else windows

    def _fit(self) -> bool:
        """Return whether the series of all subjects fit into the GPU's free memory."""
        needed = sum(2 * one.shape[0] * one.shape[1] for one in self.windows.series.values())  # float16
        free, _ = torch.cuda.mem_get_info(self.device)
        fits = needed < SHARE * free
        logging.getLogger(__name__).info(
            "series take %.1f GiB of %.1f GiB free: %s", needed / 2**30, free / 2**30, "kept on the GPU" if fits else "kept on the host"
        )
        return fits

    def hold(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Copy series (volumes, voxels) and the voxels' grid indices to the device, by subject."""
        return {
            subject: (torch.from_numpy(one.bold_TV[:, one.inside]).to(self.device), torch.from_numpy(one.place).to(self.device).long())
            for subject, one in self.windows.series.items()
        }

    def _cut(self, rows: Tensor) -> Tensor:
        assert self.resident is not None
        T, (X, Y, Z) = self.windows.n_volumes, self.windows.grid
        x_BTN = torch.zeros(len(rows), T, X * Y * Z, device=self.device)
        trials = self.windows.trials.iloc[rows.tolist()].reset_index(drop=True)
        for subject, group in trials.groupby("subject", observed=True):
            bold_TV, place = self.resident[str(subject)]
            where = torch.tensor(group.index.to_numpy(), device=self.device)
            for shown, first in presentations(group):
                volumes = torch.tensor(first, device=self.device)[:, None] + torch.arange(T, device=self.device)
                trial = where[torch.tensor(shown, device=self.device)]
                x_BTN[trial[:, None, None], torch.arange(T, device=self.device)[None, :, None], place] += bold_TV[volumes].float()
        if (counts := presentation_counts(trials)).max() > 1:
            x_BTN /= torch.tensor(counts, device=self.device)[:, None, None]
        return x_BTN.view(len(rows), T, X, Y, Z)
