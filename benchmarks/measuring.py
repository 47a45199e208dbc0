"""What the benchmarks of the models share: models and data of a scale, and the measuring of rates, memory and arithmetic."""

from __future__ import annotations

import platform
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from boldscribe.config import Config
from boldscribe.machinery.files import save_array
from boldscribe.models.device import best_device
from boldscribe.models.embedded_models import unpack
from boldscribe.models.prompted_llm import PromptedLlm
from boldscribe.models.video_llama import Connectors
from boldscribe.models.visual_encoder import EvaClip, VisualEncoder, load_visual_encoder

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
SCALES = {"reduced": ["config.yaml", "profiles/demo/experiment.yaml"], "full": ["config.yaml"]}
scale_option = click.option(
    "--scale",
    type=click.Choice([*SCALES]),
    default="full" if torch.cuda.is_available() else "reduced",
    show_default="full where there is a GPU, else reduced",
    help="Sizes of the paper's experiment, with random weights; or of the demo, with its real ones.",
)


def settings(scale: str, folder: Path, encoder_width: int = 1408, llm_width: int = 4096) -> Config:
    """The configuration of a scale; at full scale with connectors of random weights, written to `folder`."""
    config = Config.load(*(ROOT / name for name in SCALES[scale]))
    if scale == "reduced":
        return config
    torch.manual_seed(0)
    path = folder / "connectors.safetensors"
    save_file(Connectors(config.video_llama, encoder_width, llm_width).state_dict(), path)
    return config.model_copy(update={"video_llama": config.video_llama.model_copy(update={"connectors": str(path)})})


def language_model(scale: str, config: Config, folder: Path) -> PromptedLlm:
    """SmolLM2-135M; at full scale LLaMA-7B's shape with random weights, behind the same tokenizer."""
    if not (folder / "llm").exists():
        unpack("llm", folder / "llm")
    if scale == "reduced":
        return PromptedLlm.load(config.video_llama, folder / "llm").to(best_device())
    tokenizer = AutoTokenizer.from_pretrained(folder / "llm")
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with best_device():
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id))
    torch.set_default_dtype(torch.float32)
    return PromptedLlm(config.video_llama, tokenizer, model)


def visual_encoder(scale: str, folder: Path) -> VisualEncoder:
    """EfficientNet-Lite0; at full scale EVA-CLIP g/14's shape with random weights."""
    if scale == "reduced":
        if not (folder / "visual_encoder").exists():
            unpack("visual_encoder", folder / "visual_encoder")
        return load_visual_encoder(folder / "visual_encoder").to(best_device())
    from transformers import Blip2VisionConfig, Blip2VisionModel

    torch.manual_seed(0)
    Blip2VisionModel(Blip2VisionConfig()).half().save_pretrained(folder / "eva")
    return EvaClip(folder / "eva").to(best_device())


def make_trials(config: Config, folder: Path, subjects: int, trials: int) -> tuple[list[Path], pd.DataFrame]:
    """Series of noise on the brain-sized middle of the grid, and trials side by side, each with a clip of its own."""
    rng, T = np.random.default_rng(0), config.bold.n_volumes
    grid = config.tokenizer.grid
    inside = np.zeros(grid, bool)
    inside[tuple(slice(n // 6, n - n // 6) for n in grid)] = True
    voxels = np.flatnonzero(inside).astype(np.int32)
    paths, tables = [], []
    for s in range(subjects):
        name, path = f"{s + 1:02d}", folder / f"sub-{s + 1:02d}_bold.npy"
        run = {"run": "01", "first_volume": 0, "n_volumes": T * trials, "repetition_time": 2.0, "start_time": 0.0}
        bold_TV = rng.standard_normal((T * trials, len(voxels)), np.float32).astype(np.float16)
        save_array(path, bold_TV, subject=name, grid_shape=list(grid), affine=np.eye(4).tolist(), runs=[run])
        np.save(folder / f"sub-{name}_voxels.npy", voxels)
        index = {"subject": name, "trial": range(trials), "first_volume": range(0, T * trials, T), "n_volumes": T}
        tables.append(pd.DataFrame(index).assign(stim_file=[f"{name}-{i}.mp4" for i in range(trials)]))
        paths.append(path)
    return paths, pd.concat(tables, ignore_index=True)


def make_frames(config: Config, n: int) -> NDArray[np.uint8]:
    """Noise in place of clips (n, frames, height, width, 3): what it shows makes no difference to the arithmetic."""
    shape = (n, config.stimuli.n_frames, config.stimuli.size, config.stimuli.size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def machine() -> str:
    """The GPU, or the processor and how many of its cores were used."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return f"{model[1] if model else platform.processor()}, {torch.get_num_threads()} thread(s), no GPU"


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """A function's result, and its wall time (s) until the device has finished."""
    start = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def seconds(function: Callable[[], object]) -> float:
    """Wall time (s) of a function, until the device has finished."""
    return timed(function)[1]


def peak_memory() -> float:
    """The most memory so far (GiB): of the GPU's tensors, or of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def busy(function: Callable[[], object]) -> float | None:
    """Share of the wall time in which the GPU computed; None without one."""
    if not torch.cuda.is_available():
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        wall = seconds(function)
    return sum(e.self_device_time_total for e in profile.key_averages()) / 1e6 / wall


def matmul_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product on this device."""
    n = 8192 if torch.cuda.is_available() else 2048
    a = torch.randn(n, n, device=best_device(), dtype=dtype)
    seconds(lambda: a @ a)
    repeats = 20 if torch.cuda.is_available() else 5
    return repeats * 2 * n**3 / seconds(lambda: [a @ a for _ in range(repeats)])


def percent(share: float | None) -> str:
    """A share in percent, or that it cannot be told here."""
    return "not measurable without a GPU" if share is None else f"{100 * share:.1f} %"
