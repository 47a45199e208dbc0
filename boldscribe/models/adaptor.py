"""The nonlinear low-rank adaptor (figure 2), as a custom PEFT method.

It adds scale · up(activation(down(norm(x)))) to a frozen linear map. `up` is initialised to zero, so an adapted model starts out equal
to the frozen one. Adaptors are saved in PEFT's format (adapter_config.json, adapter_model.safetensors) under a method name that plain
PEFT does not know and therefore refuses. Under the name LoRA, PEFT would load them as linear adaptors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn, cast

from aenum import extend_enum
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import PeftType, register_peft_method
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, silu

from boldscribe.config.model_settings import AdaptorSettings
from boldscribe.machinery.errors import UserError

# The query projection of self-attention and both linear maps of the MLP, in SC-MBM's blocks and in the Q-Former's layers.
TARGETS = (
    r"blocks\.\d+\.(attention\.query|mlp\.(expand|contract))"
    r"|q_former\.bert\.encoder\.layer\.\d+\.(attention\.attention\.query|(intermediate_query|output_query)\.dense)"
)
METHOD = "nonlinear_adaptor"
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "relu": relu, "silu": silu}

extend_enum(PeftType, METHOD.upper(), METHOD.upper())


@dataclass
class NonlinearAdaptorConfig(PeftConfig):
    """Fields of adapter_config.json in addition to PEFT's.

    Attributes:
        target_modules: regular expression that must match a module's full name.
        rank: width of the bottleneck.
        activation: name in `ACTIVATIONS`.
        scale: factor of the adaptor's output.
    """

    target_modules: str | None = field(default=None)
    rank: int = field(default=16)
    activation: str = field(default="gelu")
    scale: float = field(default=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType[METHOD.upper()]


class Bottleneck(nn.Module):
    """scale · up(activation(down(norm(x)))), zero at initialisation."""

    def __init__(self, dim_in: int, dim_out: int, config: NonlinearAdaptorConfig) -> None:
        super().__init__()
        self.activation, self.scale = ACTIVATIONS[config.activation], config.scale
        self.norm = nn.LayerNorm(dim_in)
        self.down = nn.Linear(dim_in, config.rank, bias=False)
        self.up = nn.Linear(config.rank, dim_out, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim_in) to (..., dim_out)."""
        return self.scale * self.up(self.activation(self.down(self.norm(x))))


class NonlinearAdaptor(nn.Module, BaseTunerLayer):
    """A frozen linear map with a parallel bottleneck per adapter name."""

    adapter_layer_names: ClassVar[tuple[str, ...]] = (f"{METHOD}_bottleneck",)
    # from PEFT's mixin, which has no types for a type checker
    active_adapters: Any
    set_adapter: Any
    _move_adapter_to_device_of_base_layer: Any

    def __init__(self, base_layer: nn.Linear, adapter_name: str, config: NonlinearAdaptorConfig) -> None:
        super().__init__()
        self.base_layer: nn.Linear = base_layer
        self.nonlinear_adaptor_bottleneck = nn.ModuleDict()
        self.add(adapter_name, config)

    def add(self, adapter_name: str, config: NonlinearAdaptorConfig) -> None:
        """Add a bottleneck under another adapter name."""
        base = self.base_layer
        self.nonlinear_adaptor_bottleneck[adapter_name] = Bottleneck(base.in_features, base.out_features, config)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor) -> Tensor:
        """Return the frozen map's output plus that of the active bottlenecks."""
        result: Tensor = self.base_layer(x)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.nonlinear_adaptor_bottleneck:
                result = result + self.nonlinear_adaptor_bottleneck[name](x).to(result.dtype)
        return result

    def merge(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to merge.

        Raises:
            NotImplementedError: always, with the reason.
        """
        raise NotImplementedError(
            "a nonlinear adaptor is not a linear map of its input, so it cannot be merged into the frozen weight matrix; "
            "keep the adaptors separate from the frozen model"
        )


class NonlinearAdaptorModel(BaseTuner):
    """PEFT tuner that inserts adaptors into the target modules."""

    prefix: str = f"{METHOD}_"
    tuner_layer_cls = NonlinearAdaptor
    target_module_mapping: ClassVar[dict[str, Any]] = {}

    def _create_and_replace(
        self,
        peft_config: NonlinearAdaptorConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, NonlinearAdaptor):
            target.add(adapter_name, peft_config)
            return
        if not isinstance(target, nn.Linear):
            raise TypeError(f"{current_key}: found {type(target).__name__}, expected a linear map to adapt")
        adapted = NonlinearAdaptor(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            adapted.requires_grad_(False)
        self._replace_module(parent, target_name, adapted, target)

    def _check_merge_allowed(self) -> None:
        NonlinearAdaptor.merge(cast(NonlinearAdaptor, self))


register_peft_method(name=METHOD, config_cls=NonlinearAdaptorConfig, model_cls=NonlinearAdaptorModel)


def add_adaptors(model: nn.Module, config: AdaptorSettings) -> PeftModel:
    """Insert adaptors and freeze the rest of the model."""
    method = NonlinearAdaptorConfig(target_modules=rf".*({TARGETS})", rank=config.rank, activation=config.activation, scale=config.scale)
    return get_peft_model(model, method)


def load_adaptors(model: nn.Module, folder: Path, config: AdaptorSettings) -> PeftModel:
    """Insert saved adaptors, frozen.

    Raises:
        UserError: they were trained with settings other than the configured ones, or by another method.
    """
    saved = PeftConfig.from_pretrained(str(folder))
    path = folder / "adapter_config.json"
    if not isinstance(saved, NonlinearAdaptorConfig):
        raise UserError(str(path), f"peft_type: found {saved.peft_type}, expected {METHOD.upper()}; run Stage I again")
    for name in ("rank", "activation", "scale"):
        if (found := getattr(saved, name)) != (expected := getattr(config, name)):
            raise UserError(str(path), f"adaptor.{name}: found {found}, expected {expected} as configured; run Stage I again")
    return PeftModel.from_pretrained(model, str(folder), config=saved)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count parameters by part: `adaptors`, each trained first-level module of the adapted model, and `frozen`."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = "adaptors" if METHOD in name else name.removeprefix("base_model.model.").split(".")[0]
        part = part if parameter.requires_grad else "frozen"
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts
