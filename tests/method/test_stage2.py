"""Stage II and decoding: they refuse what target subjects must not give, train the bridge, and end in text."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from boldscribe.config import Config
from boldscribe.decoding.brain import load_bridge
from boldscribe.decoding.decode import decode
from boldscribe.machinery.errors import UserError
from boldscribe.models.encoding import trials_of_role
from boldscribe.models.token_files import read_fmri_tokens
from boldscribe.models.video_llama import load_llm
from boldscribe.training.stage2 import adaptation_tokens, train_stage2
from tests.control_data import task_for
from tests.training_fixtures import TRIALS, stage2_inputs


def test_stage2_refuses_captions_labels_and_tokens_of_a_target_subject(
    tiny: Config, data: SimpleNamespace, tokens: dict[str, Path], tmp_path: Path
) -> None:
    leak = tmp_path / "captions.parquet"
    pd.concat([pd.read_parquet(data.captions[0]), pd.DataFrame({"subject": ["03"], "trial": [0], "text": ["seen"]})]).to_parquet(leak)
    no_models = tmp_path / "refused before any model is loaded"
    inputs = {**stage2_inputs(data, tokens, no_models), "output_dir": tmp_path, "work_dir": tmp_path}
    for change, complaint in (
        ({"captions": [leak]}, r"captions of had: subject: found 03"),
        ({"trials": data.trials, "labels": data.labels}, r"found 03"),
        ({"tokens": tokens["test"]}, r"role: found 'test', expected 'train'"),
        ({"target_tokens": tokens["test"]}, r"role: found 'test', expected 'adapt'"),
    ):
        with pytest.raises(UserError, match=complaint):
            train_stage2(tiny, "had", **{**inputs, **change})


def test_fmri_is_encoded_without_knowing_what_was_seen(data: SimpleNamespace, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.parquet"
    pd.read_parquet(data.trials[2]).assign(action="a").to_parquet(labelled)
    with pytest.raises(UserError, match=r"columns: found action, expected none"):
        trials_of_role("adapt", [labelled])
    with pytest.raises(UserError, match="found no trial with 'adapt'"):
        trials_of_role("adapt", data.trials[:1])


def test_stage2_adapts_on_adaptation_trials_only(tiny: Config, data: SimpleNamespace, tokens: dict[str, Path]) -> None:
    z_NLD, rows = read_fmri_tokens(tokens["adapt"], "adapt")
    roles = pd.read_parquet(data.trials[2]).set_index("trial")["role"]
    assert len(z_NLD) == len(rows) == TRIALS // 2 and set(rows["subject"]) == {"03"} and set(roles[rows["trial"]]) == {"adapt"}
    assert len(adaptation_tokens(tiny, "had", tokens["adapt"])) == TRIALS // 2
    swapped = tiny.model_copy(update={"datasets": {"had": tiny.datasets["had"].model_copy(update={"validation_subjects": ["02"]})}})
    with pytest.raises(UserError, match=r"subjects: found 03, expected target subjects only"):
        adaptation_tokens(swapped, "had", tokens["adapt"])


def test_stage2_trains_the_bridge_and_decoding_ends_in_text(
    tiny: Config, data: SimpleNamespace, tokens: dict[str, Path], models_dir: Path, tmp_path: Path
) -> None:
    train_stage2(tiny, "had", **stage2_inputs(data, tokens, models_dir), output_dir=tmp_path / "s2", work_dir=tmp_path / "w")
    curve = pd.read_parquet(tmp_path / "s2" / "curve.parquet")
    assert len(curve) == tiny.stage2.steps and np.isfinite(curve.to_numpy()).all()
    expected = 0.95 * curve["cross_entropy"] + 0.05 * (curve["class"] + curve["neighbourhood"] + curve["entropy"])
    np.testing.assert_allclose(curve["loss"], expected, rtol=1e-4)
    short = tiny.model_copy(update={"decoding": tiny.decoding.model_copy(update={"max_new_tokens": 4})})
    texts = {}
    files = {"tokens": [tokens["test"]], "stage2": [tmp_path / "s2"], "models": [models_dir / "llm"]}
    for condition in ("model", "llm", "mean"):
        out = tmp_path / f"{condition}.parquet"
        decode(task_for(short, condition, data.trials[2:], **files), out)
        table = pd.read_parquet(out)
        assert list(table.columns) == ["subject", "trial", "instruction", "prediction"] and len(table) == TRIALS // 2
        texts[condition] = table["prediction"].tolist()
    assert len(set(texts["llm"])) == 1, "without brain, the same question has one answer"
    z_NLD, _ = read_fmri_tokens(tokens["test"], "test")
    mean_NLD = torch.from_numpy(np.broadcast_to(z_NLD.mean(0), z_NLD.shape).copy())
    with torch.inference_mode():
        soft = load_bridge(tmp_path / "s2")(mean_NLD)
    each = load_llm(short, models_dir).generate(table["instruction"].tolist(), soft, max_new_tokens=4, batch_size=TRIALS)
    assert texts["mean"] == each, "equal prompts that are answered once have the answers that each would have"
