"""Where models run, and in which precision."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

M = TypeVar("M", bound=nn.Module)


def best_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products and convolutions in `precision`, all else as it is; float32 changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class OneDnnLinear(nn.Linear):
    """A linear map whose products in float32 on a CPU are oneDNN's, which torch has beside MKL and takes for convolutions only.

    MKL's are half as fast on processors of other makers than Intel; the two differ in rounding (`python -m benchmarks.savings`).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        if x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32:
            return linear(x.to_mkldnn(), self.weight, self.bias).to_dense()
        return super().forward(x)


def with_onednn(model: M) -> M:
    """The model with all its linear maps as `OneDnnLinear`, of the same weights, where torch has oneDNN."""
    if torch.backends.mkldnn.is_available():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear
    return model
