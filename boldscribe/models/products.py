"""Products of linear maps on a CPU, by the quicker of the two libraries that torch has for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from boldscribe.models.weight_files import M


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
