"""Linear maps on a CPU, computed with the faster of torch's two libraries for matrix products."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from boldscribe.models.weight_files import M


class OneDnnLinear(nn.Linear):
    """A linear map that uses oneDNN, not MKL, in float32 on a CPU; torch itself uses oneDNN only for convolutions.

    MKL is half as fast on non-Intel processors; the two differ in rounding (`python -m benchmarks.savings`).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32:
            return linear(x.to_mkldnn(), self.weight, self.bias).to_dense()
        return super().forward(x)


def with_onednn(model: M) -> M:
    """Turn all linear maps of a model into `OneDnnLinear`, with the same weights, if torch has oneDNN."""
    if torch.backends.mkldnn.is_available():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear
    return model
