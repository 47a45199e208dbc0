"""Stage II and decoding: they refuse what target subjects must not give, train the bridge, and end in text."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from boldscribe import decoding
from boldscribe.config import Config
from boldscribe.decoding import derangement, matched_noise
from boldscribe.encoding import read_fmri_tokens, trials_of_role
from boldscribe.errors import UserError
from boldscribe.training.stage2 import adaptation_tokens, train_stage2
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


@pytest.mark.slow
def test_stage2_trains_the_bridge_and_decoding_ends_in_text(
    tiny: Config, data: SimpleNamespace, trained: Path, tokens: dict[str, Path], models_dir: Path, tmp_path: Path
) -> None:
    train_stage2(tiny, "had", **stage2_inputs(data, tokens, models_dir), output_dir=tmp_path / "s2", work_dir=tmp_path / "w")
    curve = pd.read_parquet(tmp_path / "s2" / "curve.parquet")
    assert len(curve) == tiny.stage2.steps and np.isfinite(curve.to_numpy()).all()
    expected = 0.95 * curve["cross_entropy"] + 0.05 * (curve["class"] + curve["neighbourhood"] + curve["entropy"])
    np.testing.assert_allclose(curve["loss"], expected, rtol=1e-4)
    short = tiny.model_copy(update={"decoding": tiny.decoding.model_copy(update={"max_new_tokens": 4})})
    texts = {}
    for condition in ("model", "llm", "noise"):
        out = tmp_path / f"{condition}.parquet"
        decoding.decode(
            short,
            "had",
            "03",
            condition,
            series=data.series[2],
            trials=data.trials[2],
            tokens=tokens["test"],
            stage1_dir=trained,
            stage2_dir=tmp_path / "s2",
            models_dir=models_dir,
            output=out,
        )
        table = pd.read_parquet(out)
        assert list(table.columns) == ["subject", "trial", "instruction", "prediction"] and len(table) == TRIALS // 2
        texts[condition] = table["prediction"]
    assert texts["llm"].nunique() == 1, "without brain, the same question has one answer"


def test_decoding_refuses_an_unknown_condition_and_too_few_trials(tiny: Config, data: SimpleNamespace, tmp_path: Path) -> None:
    one = tmp_path / "trials.parquet"
    pd.read_parquet(data.trials[2]).iloc[:2].to_parquet(one)  # one adaptation trial, one test trial
    for condition, complaint in (("oracle", "found 'oracle', expected one of"), ("shuffled", "found 1 trials with 'test' of sub-03")):
        with pytest.raises(UserError, match=complaint):
            decoding.decode(
                tiny, "had", "03", condition, series=data.series[2], trials=one, tokens=tmp_path, stage1_dir=tmp_path, stage2_dir=tmp_path,
                models_dir=tmp_path, output=tmp_path / "out.parquet",
            )  # fmt: skip


def test_controls_are_what_they_say() -> None:
    for n in (2, 3, 48):
        order = derangement(n, np.random.default_rng(n))
        assert sorted(order) == list(range(n)) and (order != np.arange(n)).all()
    torch.manual_seed(0)
    bold = 3 + 2 * torch.randn(400, 1, 1, 1, 1) + torch.randn(400, 2, 3, 3, 3)  # neighbours correlate by 0.8, as BOLD's do
    noise = matched_noise(bold, 1)
    torch.testing.assert_close(noise.mean(0), bold.mean(0), atol=0.5, rtol=0)
    torch.testing.assert_close(noise.std(0), bold.std(0), atol=0.4, rtol=0)
    torch.testing.assert_close(torch.corrcoef(noise.flatten(1).T), torch.corrcoef(bold.flatten(1).T), atol=0.1, rtol=0)
    correlation = np.corrcoef(noise.flatten(1)[0].numpy(), (bold - bold.mean(0)).flatten(1)[0].numpy())[0, 1]
    assert abs(correlation) < 0.5
    assert torch.equal(noise, matched_noise(bold, 1)) and not torch.equal(noise, matched_noise(bold, 2))
