"""A few trials of three subjects, and what each training makes of them, at the smallest size: fixtures of the training tests.

All tests load this file, so that torch is imported where it is used.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.machinery.files import save_array

TRIALS = 12


@pytest.fixture(scope="session")
def tiny(demo: Config) -> Config:
    """The demo's settings, with the shortest training."""
    changes = {
        "sc_mbm": {"epochs": 2, "warmup_epochs": 1, "batch_size": 8, "depth": 1},
        "stage1": {"epochs": 8, "patience": 8, "batch_size": 8, "holdout": 0.2, "noise": 0.1, "dropout": 0.1},
        "stage2": {"steps": 6, "warmup_steps": 1, "batch_size": 2, "accumulate": 2, "es_margin": 0.1},
    }
    raw = demo.model_dump(by_alias=True)
    for section, values in changes.items():
        raw[section].update(values)
    raw["datasets"]["had"].update(train_subjects=["01", "02"], validation_subjects=["03"])
    return Config.model_validate(raw)


@pytest.fixture(scope="session")
def data(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Series, trials, labels, features and captions in the contract's form, of two source subjects and a target subject."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    grid = (8, 8, 8)
    files: dict[str, list[Path]] = {"series": [], "trials": [], "labels": []}
    clips = [f"clip-{i:02d}.mp4" for i in range(2 * TRIALS)]
    for s, subject in enumerate(("01", "02", "03")):
        T = 3 * TRIALS
        path = root / f"sub-{subject}_bold.npy"
        run = {"run": "01", "first_volume": 0, "n_volumes": T, "repetition_time": 2.0, "start_time": 0.0}
        save_array(
            path,
            rng.normal(size=(T, 512)).astype(np.float16),
            subject=subject,
            grid_shape=list(grid),
            affine=np.eye(4).tolist(),
            runs=[run],
        )
        np.save(root / f"sub-{subject}_voxels.npy", np.arange(512, dtype=np.int32))
        index = {
            "dataset": "had",
            "subject": subject,
            "run": "01",
            "trial": range(TRIALS),
            "onset": 0.0,
            "first_volume": range(0, T, 3),
            "n_volumes": 3,
            "instruction": "Describe the video.",
            "high_motion": 0.0,
        }
        role = ["train"] * TRIALS if subject != "03" else ["adapt", "test"] * (TRIALS // 2)
        pd.DataFrame({**index, "role": role}).to_parquet(root / f"sub-{subject}_trials.parquet")
        labels = {
            "subject": subject,
            "trial": range(TRIALS),
            "stim_file": clips[s % 2 * TRIALS :][:TRIALS],
            "action": ["a", "b"] * (TRIALS // 2),
        }
        pd.DataFrame(labels).to_parquet(root / f"sub-{subject}_labels.parquet")
        for kind in files:
            files[kind].append(root / f"sub-{subject}_{'bold.npy' if kind == 'series' else kind + '.parquet'}")
    widths, T = tiny.video_llama.q_former, tiny.stimuli.n_frames
    # One vector per clip for all its tokens: the Q-Former, which averages, must be able to tell clips apart.
    features = np.repeat(rng.normal(size=(len(clips), 1, widths.hidden_size)), T * widths.n_queries, axis=1).astype(np.float16)
    save_array(root / "train-000_features.npy", features, clips=clips)
    rows = [{"subject": s, "trial": t, "text": f"A {t}."} for s in ("01", "02") for t in range(TRIALS)]
    pd.DataFrame(rows).to_parquet(root / "train-000_captions.parquet")
    return SimpleNamespace(root=root, features=[root / "train-000_features.npy"], captions=[root / "train-000_captions.parquet"], **files)


@pytest.fixture(scope="session")
def pretrained(tiny: Config, data: SimpleNamespace) -> Path:
    """Pretrained weights."""
    from boldscribe.training.pretrain import pretrain_sc_mbm

    weights = data.root / "sc_mbm.safetensors"
    pretrain_sc_mbm(
        tiny,
        "had",
        series=data.series[:2],
        trials=data.trials[:2],
        weights=weights,
        curve=data.root / "c.parquet",
        work_dir=data.root / "w0",
    )
    return weights


def stage1_inputs(data: SimpleNamespace, pretrained: Path) -> dict[str, Any]:
    """What Stage I is handed."""
    return {
        "series": data.series[:2],
        "trials": data.trials[:2],
        "labels": data.labels[:2],
        "features": data.features,
        "sc_mbm": pretrained,
    }


@pytest.fixture(scope="session")
def trained(tiny: Config, data: SimpleNamespace, pretrained: Path) -> Path:
    """A finished Stage I."""
    from boldscribe.training.stage1 import train_stage1

    out = data.root / "stage1"
    train_stage1(tiny, "had", **stage1_inputs(data, pretrained), output_dir=out, work_dir=data.root / "w1")
    return out


@pytest.fixture(scope="session")
def tokens(tiny: Config, data: SimpleNamespace, trained: Path) -> dict[str, Path]:
    """fMRI tokens of all three roles."""
    from boldscribe.models.encoding import write_fmri_tokens

    paths = {}
    for role, subjects in (("train", slice(0, 2)), ("adapt", slice(2, 3)), ("test", slice(2, 3))):
        paths[role] = data.root / f"role-{role}_tokens.npy"
        write_fmri_tokens(tiny, role, series=data.series[subjects], trials=data.trials[subjects], stage1_dir=trained, output=paths[role])
    return paths


@pytest.fixture(scope="session")
def small_llm(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder whose LLM has the embedded one's tokenizer and widths, but two layers of random weights."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("small_llm")
    config = LlamaConfig.from_pretrained(models_dir / "llm")
    config.num_hidden_layers = 2
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # of the size of trained ones, so that the prompt makes a difference
        model.lm_head.weight.normal_(std=0.05)
    model.save_pretrained(folder / "llm")
    AutoTokenizer.from_pretrained(models_dir / "llm").save_pretrained(folder / "llm")
    return folder


def stage2_inputs(data: SimpleNamespace, tokens: dict[str, Path], models_dir: Path) -> dict[str, Any]:
    """What Stage II is handed."""
    return {
        "trials": data.trials[:2],
        "labels": data.labels[:2],
        "captions": data.captions,
        "tokens": tokens["train"],
        "target_tokens": tokens["adapt"],
        "models_dir": models_dir,
    }
