"""The nonlinear low-rank adaptor (figure 2), as a layer that PEFT knows.

To a frozen linear map it adds scale · up(activation(down(norm(x)))). `up` starts at zero, so that an adapted model starts as
the frozen one. Adaptors are saved in PEFT's own format (adapter_config.json, adapter_model.safetensors).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, relu, silu

from boldscribe.config_sections import Adaptor as AdaptorConfig

# The query projection of self-attention and both linear maps of the MLP, in SC-MBM's blocks and in the Q-Former's layers.
TARGETS = (
    r"blocks\.\d+\.(attention\.query|mlp\.(expand|contract))"
    r"|q_former\.bert\.encoder\.layer\.\d+\.(attention\.attention\.query|(intermediate_query|output_query)\.dense)"
)


class _NonlinearAdaptor(LoraLinear):
    """PEFT's low-rank layer with a nonlinearity in the bottleneck; it can therefore not be merged into the frozen weight."""

    activation: ClassVar[Any]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = self.base_layer(x)
        for name in self.active_adapters:
            if name in self.lora_A:
                narrow = type(self).activation(self.lora_A[name](layer_norm(x, x.shape[-1:])))
                result = result + self.scaling[name] * self.lora_B[name](narrow)
        return result

    def merge(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("a nonlinear adaptor cannot be merged into a linear map")


class GeluAdaptor(_NonlinearAdaptor):
    """Adaptor with GELU."""

    activation = staticmethod(gelu)


class ReluAdaptor(_NonlinearAdaptor):
    """Adaptor with ReLU."""

    activation = staticmethod(relu)


class SiluAdaptor(_NonlinearAdaptor):
    """Adaptor with SiLU."""

    activation = staticmethod(silu)


LAYERS: dict[str, type[_NonlinearAdaptor]] = {"gelu": GeluAdaptor, "relu": ReluAdaptor, "silu": SiluAdaptor}


def _with_layer(config: LoraConfig, activation: str) -> LoraConfig:
    config._register_custom_module({nn.Linear: LAYERS[activation]})
    return config


def add_adaptors(model: nn.Module, config: AdaptorConfig) -> PeftModel:
    """Insert adaptors; everything else of the model is frozen."""
    lora = LoraConfig(r=config.rank, lora_alpha=config.scale * config.rank, target_modules=rf".*({TARGETS})", init_lora_weights=True)
    return get_peft_model(model, _with_layer(lora, config.activation))


def load_adaptors(model: nn.Module, folder: Path, config: AdaptorConfig) -> PeftModel:
    """Insert saved adaptors, frozen."""
    lora = _with_layer(LoraConfig.from_pretrained(folder), config.activation)
    return PeftModel.from_pretrained(model, folder, config=lora)
