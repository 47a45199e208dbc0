"""Mutations of honesty that show in the numbers: teacher forcing, copied references, dropped trials. From decoded texts to the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from boldscribe.config import Config
from boldscribe.data.trials import EXCLUDED_TYPES
from boldscribe.evaluation.scores import write_scores
from boldscribe.evaluation.tables import make_tables
from boldscribe.machinery.errors import UserError
from boldscribe.models.prompted_llm import PromptedLlm
from boldscribe.simulation.scenes import describe, draw_scenes

N = 24
INSTRUCTIONS = ["What is the main thing happening in the video?", "Describe the video."]


@pytest.fixture(scope="module")
def config(demo: Config) -> Config:
    raw = demo.model_dump(by_alias=True)
    raw["datasets"]["had"].update(train_subjects=["01"], validation_subjects=["05", "06"])
    raw["evaluation"].update(bootstrap_samples=200, permutations=999)
    raw["decoding"]["controls"] = ["llm"]
    return Config.model_validate(raw)


@pytest.fixture(scope="module")
def captions() -> pd.DataFrame:
    """References of 24 test trials of each of two subjects."""
    rng = np.random.default_rng(0)
    texts = [describe(scene, rng) for scene in draw_scenes(2 * N, rng)]
    keys = pd.DataFrame([(s, t, INSTRUCTIONS[t % 2]) for s in ("05", "06") for t in range(N)], columns=["subject", "trial", "instruction"])
    return keys.assign(text=texts)


@pytest.fixture(scope="module")
def free(captions: pd.DataFrame) -> dict[str, list[str]]:
    """Texts of a model that is right in every fourth trial, and of an LLM that says one thing per question."""
    texts = captions["text"].tolist()
    return {
        "model": [text if i % 4 == 0 else texts[i - 2] for i, text in enumerate(texts)],
        "llm": [f"A person is asked: {i}" for i in captions["instruction"]],
    }


def run(config: Config, captions: pd.DataFrame, texts: dict[str, list[str]], models: Path, folder: Path) -> tuple[pd.DataFrame, str]:
    """Scores and tables of decoded texts, by the real steps: the tests and the page."""
    captions.assign(stim_file="x.mp4").to_parquet(folder / "test-000_captions.parquet")
    decoded = []
    for condition, said in texts.items():
        decoded.append(folder / f"condition-{condition}.parquet")
        captions[["subject", "trial", "instruction"]].assign(prediction=said).to_parquet(decoded[-1])
    scores, pairs = folder / "scores.parquet", folder / "pairs.parquet"
    write_scores(config, decoded=decoded, captions=[folder / "test-000_captions.parquet"], models_dir=models, scores=scores, pairs=pairs)
    return tables(config, captions, scores, pairs, folder)


def tables(config: Config, captions: pd.DataFrame, scores: Path, pairs: Path, folder: Path) -> tuple[pd.DataFrame, str]:
    own = captions[["subject", "trial"]].assign(stim_file=[f"{i}.mp4" for i in range(len(captions))])
    labels = pd.concat([own, pd.DataFrame({"subject": "01", "trial": [0], "stim_file": "seen.mp4"})])
    labels.assign(source=labels["stim_file"], start=np.nan).to_parquet(folder / "labels.parquet")
    pd.DataFrame(columns=list(EXCLUDED_TYPES)).to_parquet(folder / "excluded.parquet")
    files = {name: folder / f"had_{name}" for name in ("csv", "md", "tex", "differences", "tests", "left_out")}
    labels_file, excluded = [folder / "labels.parquet"], [folder / "excluded.parquet"]
    make_tables(config, "had", scores=[scores], pairs=[pairs], labels=labels_file, excluded=excluded, **files)
    return pd.read_csv(files["tests"]), files["md"].read_text()


def teacher_forced(llm: PromptedLlm, instruction: str, reference: str) -> str:
    """The likeliest next token after each token of the reference, without any brain: what some published decoders were scored on."""
    ids = llm._answer_ids(reference)
    prompt = llm._sequences([instruction], None)[0]
    with torch.inference_mode():
        logits = llm.model(inputs_embeds=torch.cat([prompt, llm._embed(ids[:-1])])[None]).logits[0, -len(ids) :]
    return str(llm.tokenizer.decode(logits.argmax(-1), skip_special_tokens=True)).strip()


def beats_chance(tests: pd.DataFrame, condition: str) -> bool:
    found = tests[(tests["row"] == "Total") & (tests["condition"] == condition) & (tests["against"] == "chance")]
    return bool(found["beats"].any())


def test_teacher_forcing_makes_a_null_control_tell_trials_apart_and_raises_an_alarm(
    config: Config, captions: pd.DataFrame, free: dict[str, list[str]], models_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "honest").mkdir()
    (tmp_path / "forced").mkdir()
    found, page = run(config, captions, free, models_dir, tmp_path / "honest")
    assert beats_chance(found, "model") and not beats_chance(found, "llm") and "ALARM" not in page
    llm = PromptedLlm.load(config.video_llama, models_dir / "llm")
    forced = [teacher_forced(llm, i, r) for i, r in zip(captions["instruction"], captions["text"], strict=True)]
    found, page = run(config, captions, free | {"llm": forced}, models_dir, tmp_path / "forced")
    assert beats_chance(found, "llm")
    assert "ALARM: the null control 'LLM without brain' tells trials apart" in page


def test_references_as_predictions_raise_an_alarm_in_the_tables(
    config: Config, captions: pd.DataFrame, free: dict[str, list[str]], encoder_models_dir: Path, tmp_path: Path
) -> None:
    _, page = run(config, captions, free | {"model": captions["text"].tolist()}, encoder_models_dir, tmp_path)
    assert "ALARM: the texts of 'model' equal their references word for word in 48 of 48 trials (100.0%)" in page
    values = pd.read_csv(tmp_path / "had_csv")
    assert values.loc[(values["condition"] == "model") & (values["row"] == "Total"), "note"].str.contains("word for word").all()


def test_dropped_trials_are_refused(
    config: Config, captions: pd.DataFrame, free: dict[str, list[str]], encoder_models_dir: Path, tmp_path: Path
) -> None:
    run(config, captions, free, encoder_models_dir, tmp_path)
    decoded = [tmp_path / f"condition-{c}.parquet" for c in free]
    outputs = {"scores": tmp_path / "scores.parquet", "pairs": tmp_path / "pairs.parquet"}
    scores = pd.read_parquet(outputs["scores"])
    worst = scores[scores["condition"] == "model"].nsmallest(5, "rouge_l_f")[["subject", "trial"]]
    for path in outputs.values():  # from the scores alone, and from the pairs too
        table = pd.read_parquet(path)
        dropped = table.merge(worst.assign(condition="model"), how="left", indicator=True, on=["condition", "subject", "trial"])
        dropped[dropped["_merge"] == "left_only"].drop(columns="_merge").to_parquet(path)
        with pytest.raises(UserError, match="trials or references of condition llm differ from the model's"):
            tables(config, captions, outputs["scores"], outputs["pairs"], tmp_path)
    texts = pd.read_parquet(decoded[0]).merge(worst, how="left", indicator=True, on=["subject", "trial"])
    texts[texts["_merge"] == "left_only"].drop(columns="_merge").to_parquet(decoded[0])
    with pytest.raises(UserError, match=r"condition model.*(not decoded|missing)"):
        write_scores(config, decoded=decoded, captions=[tmp_path / "test-000_captions.parquet"], models_dir=encoder_models_dir, **outputs)
