"""Controls whose texts are captions as they are: each comes from where it should, and is the best there."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from boldscribe.config import Config
from boldscribe.decoding import best_captions as best
from boldscribe.decoding import chosen_captions
from boldscribe.decoding.decode import writer
from boldscribe.decoding.task import Task
from boldscribe.machinery.errors import UserError
from tests.control_data import INSTRUCTIONS, SOURCE, TARGETS, task_for, trials_of, with_targets, write, write_tokens

ACTIONS = ["kicking a ball", "rowing a boat", "lifting a barbell"]
STYLES = dict(zip(INSTRUCTIONS, ("A {} in a {} shirt is {} {}.", "In the video, a {} wears a {} shirt, {} {}."), strict=True))


def caption(instruction: str, action: str, rng: np.random.Generator) -> str:
    who, colour, place = (rng.choice(words) for words in (["man", "man", "girl"], ["red", "red", "blue"], ["in a gym", "on a beach"]))
    return STYLES[instruction].format(who, colour, action, place)


@pytest.fixture
def d(tiny: Config, tmp_path: Path) -> SimpleNamespace:
    """Captions of source and target trials, and fMRI tokens that say the action and the trial, apart from each subject's own part."""
    rng = np.random.default_rng(3)
    index = pd.concat([trials_of(s, {"01": "train", "02": "train"}, 12) for s in SOURCE] + [
        trials_of(s, {"01": "adapt", "02": "test"}, 12) for s in TARGETS], ignore_index=True)  # fmt: skip
    index["action"] = rng.choice(ACTIONS, len(index))
    index["stim_file"] = [f"{i}.mp4" for i in range(len(index))]
    index["text"] = [caption(i, a, rng) for i, a in zip(index["instruction"], index["action"], strict=True)]
    prototypes = {action: rng.normal(size=16) for action in ACTIONS}
    offsets = {subject: 20 * rng.normal(size=16) for subject in (*SOURCE, *TARGETS)}
    z_ND = [prototypes[a] + offsets[s] for a, s in zip(index["action"], index["subject"], strict=True)]
    z_NLD = (np.array(z_ND)[:, None] + 0.1 * rng.normal(size=(len(index), 2, 16))).astype(np.float32)
    source, test = ((index["role"] == role).to_numpy() for role in ("train", "test"))
    targets = index[~source]
    labels = ["subject", "trial", "stim_file", "action"]
    files = {
        "source_captions": [write(tmp_path, "captions", index.loc[source, ["subject", "trial", "stim_file", "instruction", "text"]])],
        "source_labels": [write(tmp_path, "source_labels", index.loc[source, labels])],
        "source_trials": [write(tmp_path, "source_trials", index[source].drop(columns=["action", "stim_file", "text"]))],
        "test_labels": [write(tmp_path, "test_labels", targets[labels])],
        "tokens": [write_tokens(tmp_path, "test", index[test], z_NLD[test])],
        "train_tokens": [write_tokens(tmp_path, "train", index[source], z_NLD[source])],
        "captions_again": [write(tmp_path, "again", index.loc[test, ["subject", "trial", "text"]].sample(frac=1, random_state=0))],
    }
    trials = [write(tmp_path, "trials", targets.drop(columns=["action", "stim_file", "text"]))]
    raw = with_targets(tiny).model_dump(by_alias=True)
    raw["video_llama"]["instructions"] = INSTRUCTIONS
    config = Config.model_validate(raw)
    files["best_captions"] = [tmp_path / "best.parquet"]
    choose_best(config, files)

    def task(condition: str) -> Task:
        return task_for(config, condition, trials, **files)

    return SimpleNamespace(
        config=config, task=task, files=files, root=tmp_path, z_NLD=z_NLD, index=index, is_test=test,
        source=index[source].reset_index(drop=True), test=index[test].reset_index(drop=True),
    )  # fmt: skip


def choose_best(config: Config, files: dict[str, list[Path]]) -> None:
    captions, labels, [path] = (files[name] for name in ("source_captions", "source_labels", "best_captions"))
    best.write_best_captions(config, "had", captions=captions, labels=labels, best=path)


def agreement(text: str, reference: str) -> float:
    """The mean of three scores, by their libraries alone."""
    bleus = [BLEU(max_ngram_order=n, effective_order=True).sentence_score(text, [reference]).score for n in (1, 2)]
    return float(np.mean([100 * RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure, *bleus]))


def test_the_best_caption_is_that_of_the_highest_mean_agreement(d: SimpleNamespace) -> None:
    texts = d.source["text"].tolist()[:20]
    means = [np.mean([agreement(a, b) for j, b in enumerate(texts) if j != i]) for i, a in enumerate(texts)]
    np.testing.assert_allclose(best.mean_agreement(texts, range(20), np.arange(20)), means)
    assert best.best_caption(texts, np.random.default_rng(0)) == texts[int(np.argmax(means))]
    assert best.best_caption(["one alone"], np.random.default_rng(0)) == "one alone"


def test_many_captions_cost_no_more_and_the_choice_is_still_among_the_best(d: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = d.source["text"].tolist()
    means = best.mean_agreement(texts, range(len(texts)), np.arange(len(texts)))
    monkeypatch.setattr(best, "ROUNDS", ((24, 12), (6, 24)))
    scored: list[int] = []
    whole = best.mean_agreement
    monkeypatch.setattr(best, "mean_agreement", lambda t, c, r: scored.append(len(c) * len(r)) or whole(t, c, r))
    chosen = [means[texts.index(best.best_caption(texts, np.random.default_rng(seed)))] for seed in range(5)]
    assert sum(scored) == 5 * (24 * 12 + 6 * 24) and min(chosen) > np.quantile(means, 0.7)


def test_the_constant_caption_beats_random_ones_and_both_have_the_instructions_style(d: SimpleNamespace) -> None:
    constant, random = (writer(name)(d.task(name)) for name in ("constant", "random"))
    assert random == chosen_captions.random_caption(d.task("random")), "the seed decides"
    by_instruction = d.source.groupby("instruction")["text"].agg(set)
    for texts in (constant, random):
        assert all(t in by_instruction[i] for t, i in zip(texts, d.test["instruction"], strict=True))
    assert len(set(constant)) == len(INSTRUCTIONS) < len(set(random))
    scores = [np.mean([agreement(t, r) for t, r in zip(texts, d.test["text"], strict=True)]) for texts in (constant, random)]
    assert scores[0] > scores[1] + 2


def test_a_class_gets_its_best_caption_of_the_instruction(d: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    texts = chosen_captions.true_class(d.task("trueclass"))
    for text, action, instruction in zip(texts, d.test["action"], d.test["instruction"], strict=True):
        alike = d.source[(d.source["action"] == action) & (d.source["instruction"] == instruction)]
        assert len(alike) >= best.ENOUGH and text in set(alike["text"])
    assert chosen_captions.predicted_class(d.task("predictedclass")) == texts, "the planted tokens tell actions apart, whosever they are"
    with caplog.at_level(logging.WARNING):
        unseen = chosen_captions.best_of_class(d.task("trueclass"), ["something else"] * len(d.test))
    assert "24 of 24 trials show an action that no source trial shows" in caplog.text and unseen == chosen_captions.constant(
        d.task("constant")
    )


def test_a_class_with_few_captions_of_an_instruction_takes_in_those_of_others(d: SimpleNamespace) -> None:
    few = d.source[(d.source["action"] == ACTIONS[0]) & (d.source["instruction"] == INSTRUCTIONS[0])].index[2:]
    rest = d.source.drop(few)
    d.files["source_captions"] = [write(d.root, "few", rest[["subject", "trial", "stim_file", "instruction", "text"]])]
    choose_best(d.config, d.files)
    chosen = pd.read_parquet(d.files["best_captions"][0]).set_index(["action", "instruction"])["text"]
    of_class = rest[rest["action"] == ACTIONS[0]]
    both = of_class[of_class["instruction"] == INSTRUCTIONS[1]]
    assert chosen[ACTIONS[0], INSTRUCTIONS[0]] == best.best_caption(of_class["text"].tolist(), np.random.default_rng(0))
    assert chosen[ACTIONS[0], INSTRUCTIONS[1]] == best.best_caption(both["text"].tolist(), np.random.default_rng(0))
    assert chosen[ACTIONS[0], INSTRUCTIONS[0]] != chosen[ACTIONS[0], INSTRUCTIONS[1]]


def test_the_best_captions_of_another_instruction_are_told(d: SimpleNamespace) -> None:
    table = pd.read_parquet(d.files["best_captions"][0])
    d.files["best_captions"] = [write(d.root, "other", table[table["instruction"] == INSTRUCTIONS[0]])]
    with pytest.raises(UserError, match=f"found no caption for {INSTRUCTIONS[1]!r}".replace("?", r"\?")):
        chosen_captions.constant(d.task("constant"))


def test_the_nearest_source_trial_is_found_whatever_the_subjects_own_part(d: SimpleNamespace, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    n, (first, second) = len(d.test), SOURCE
    partner = rng.permutation(len(d.source))[:n]
    of_source = rng.normal(size=(len(d.source), 2, 16)) + np.where(d.source["subject"] == first, 30, -30)[:, None, None]
    centred = of_source.copy()
    for subject in (first, second):
        rows = (d.source["subject"] == subject).to_numpy()
        centred[rows] -= centred[rows].mean((0, 1))
    planted = centred[partner] + 0.02 * rng.normal(size=(n, 2, 16)) + np.where(d.test["subject"] == TARGETS[0], 50, -50)[:, None, None]
    d.files["tokens"] = [write_tokens(tmp_path, "test", d.test, planted.astype(np.float32))]
    d.files["train_tokens"] = [write_tokens(tmp_path, "train", d.source, of_source.astype(np.float32))]
    d.source["text"] = [f"{subject} {trial}" for subject, trial in d.source[["subject", "trial"]].to_numpy()]
    d.files["source_captions"] = [write(tmp_path, "captions", d.source[["subject", "trial", "stim_file", "instruction", "text"]])]
    assert chosen_captions.nearest(d.task("nearest")) == d.source["text"].iloc[partner].tolist()
    d.files["source_captions"] = [write(tmp_path, "captions", d.source.iloc[1:][["subject", "trial", "instruction", "text"]])]
    with pytest.raises(UserError, match="found none for 1 of 48 source trials with fMRI tokens"):
        chosen_captions.nearest(d.task("nearest"))


def test_a_caption_of_a_target_subject_is_refused(d: SimpleNamespace) -> None:
    leak = pd.concat([d.source, d.test.head(1)])[["subject", "trial", "stim_file", "instruction", "text"]]
    d.files["source_captions"] = [write(d.root, "leak", leak)]
    for condition in ("random", "predictedclass", "nearest"):
        with pytest.raises(UserError, match="found 03, expected source subjects only"):
            writer(condition)(d.task(condition))
    with pytest.raises(UserError, match="found 03, expected source subjects only"):
        choose_best(d.config, d.files)


def test_the_captioners_second_answers_are_matched_by_trial(d: SimpleNamespace) -> None:
    assert chosen_captions.captioned_again(d.task("captioner")) == d.test["text"].tolist()
    d.files["captions_again"] = [write(d.root, "few", d.test[["subject", "trial", "text"]].iloc[1:])]
    with pytest.raises(UserError, match="found no row for 1 of 24 trials"):
        chosen_captions.captioned_again(d.task("captioner"))


def test_a_trial_without_description_is_named(d: SimpleNamespace) -> None:
    labels = pd.read_parquet(d.files["test_labels"][0])
    with pytest.raises(UserError, match="found no column 'description'"):
        chosen_captions.described(d.task("human"))
    described = labels.assign(description=[f"clip {name}" for name in labels["stim_file"]])
    d.files["test_labels"] = [write(d.root, "described", described)]
    assert chosen_captions.described(d.task("human")) == [f"clip {name}" for name in d.test["stim_file"]]
    described.loc[(described["subject"] == "04") & (described["trial"] == 13), "description"] = " "
    d.files["test_labels"] = [write(d.root, "described", described)]
    with pytest.raises(UserError, match=r"found none for 1 of 24 test trials \(sub-04 trial 13\)"):
        chosen_captions.described(d.task("human"))
    task = d.task("human")
    design = task.config.datasets[task.dataset].model_copy(update={"description_column": None, "description_file": "texts.tsv"})
    task = replace(task, config=task.config.model_copy(update={"datasets": {task.dataset: design}}))
    assert sum(not text.strip() for text in chosen_captions.described(task)) == 1, "a file may leave out a clip"
