"""Controls that give a trial other fMRI than its own: whose it may be, and what a condition may open."""

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from boldscribe.conditions import CONDITIONS
from boldscribe.config import Config
from boldscribe.decoding import brain
from boldscribe.decoding.decode import decode, writer
from boldscribe.decoding.donors import donors
from boldscribe.decoding.task import Task, inputs_of
from boldscribe.machinery.errors import UserError
from tests.control_data import TARGETS, donors_of, names, task_for, trials_of, with_targets, write, write_tokens

ROOT = Path(__file__).resolve().parents[2]
TWO_TEST_RUNS = {"01": "adapt", "02": "test", "03": "test"}


def target_data(folder: Path, runs: dict[str, str], labels: pd.DataFrame | None = None, per_run: int = 6) -> SimpleNamespace:
    """Trials, tokens and labels of the target subjects."""
    index = pd.concat([trials_of(subject, runs, per_run) for subject in TARGETS], ignore_index=True)
    tokens = np.random.default_rng(1).normal(size=(len(index), 2, 3)).astype(np.float16).astype(np.float32)
    of_role = {role: (index["role"] == role).to_numpy() for role in ("adapt", "test")}
    files = {name: [write_tokens(folder, role, index[of_role[role]], tokens[of_role[role]])] for role, name in
             (("test", "tokens"), ("adapt", "adapt_tokens"))}  # fmt: skip
    if labels is not None:
        files["test_labels"] = [write(folder, "labels", labels)]
    test = index[of_role["test"]].reset_index(drop=True)
    return SimpleNamespace(index=index, test=test, tokens=tokens, trials=[write(folder, "trials", index)], files=files)


def labels_of(index: pd.DataFrame, clips: list[str], actions: list[str]) -> pd.DataFrame:
    return index[["subject", "trial"]].assign(stim_file=clips, action=actions)


@pytest.mark.parametrize("seed", range(5))
def test_donors_are_a_permutation_where_there_is_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    allowed = ~np.eye(n, dtype=bool)
    donor, choice = donors([allowed], rng)
    assert sorted(donor) == list(range(n)) and (donor != np.arange(n)).all() and (choice == 0).all()
    blocks = rng.permutation(np.repeat([0, 1, 2], [4, 4, 3]))
    donor, _ = donors([blocks[:, None] != blocks[None]], rng)
    assert sorted(donor) == list(range(11)) and (blocks[donor] != blocks).all()


def test_donors_repeat_where_there_are_few_and_come_from_the_first_choice_that_has_any() -> None:
    few = np.zeros((5, 3), bool)
    few[:4, 1] = few[0, 0] = True
    last = np.zeros((5, 3), bool)
    last[:4] = True
    donor, choice = donors([few, last], np.random.default_rng(0))
    assert donor[0] == 0 and (donor[1:4] == 1).all() and donor[4] == -1 and choice.tolist() == [0, 0, 0, 0, -1]
    drawn = {tuple(donors([~np.eye(4, dtype=bool)], np.random.default_rng(s))[0]) for s in range(200)}
    assert len(drawn) == 9, "all derangements of four occur"


def test_shuffled_trials_are_other_trials_of_the_subject(tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    d = target_data(tmp_path, TWO_TEST_RUNS)
    own, given = names(d.test), donors_of(task_for(with_targets(tiny), "shuffled", d.trials, **d.files), monkeypatch, d.index, d.tokens)
    assert sorted(given) == sorted(own) and all(a != b and a[:2] == b[:2] for a, b in zip(given, own, strict=True))


def test_trials_shuffled_across_runs_are_of_another_run(tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for runs, role in ((TWO_TEST_RUNS, "test"), ({"01": "adapt", "02": "test"}, "adapt")):
        d = target_data(tmp_path, runs)
        given = donors_of(task_for(with_targets(tiny), "shuffledruns", d.trials, **d.files), monkeypatch, d.index, d.tokens)
        donor = d.index.assign(name=names(d.index)).set_index("name").loc[given]
        assert (donor["role"] == role).all() and len(set(given)) == len(d.test)
        assert (donor["run"].to_numpy() != d.test["run"]).all() and (donor["subject"].to_numpy() == d.test["subject"]).all()


def test_the_wrong_subject_saw_another_clip(tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = target_data(tmp_path, TWO_TEST_RUNS).index
    shared = [f"{trial // 3}.mp4" for trial in index["trial"]]  # all clips are shared, and seen three times each
    d = target_data(tmp_path, TWO_TEST_RUNS, labels_of(index, shared, shared))
    given = donors_of(task_for(with_targets(tiny), "wrongsubject", d.trials, **d.files), monkeypatch, d.index, d.tokens)
    clip = dict(zip(names(index), shared, strict=True))
    assert all(a[:2] != b[:2] and clip[a] != clip[b] for a, b in zip(given, names(d.test), strict=True))
    one_clip = target_data(tmp_path, TWO_TEST_RUNS, labels_of(index, ["a.mp4"] * len(index), shared))
    with pytest.raises(UserError, match="found no trial of another target subject with another clip for 24 of 24"):
        brain.wrong_subject(task_for(with_targets(tiny), "wrongsubject", d.trials, **one_clip.files))


def test_trials_shuffled_within_class_show_the_same_action_in_another_clip(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = target_data(tmp_path, {"01": "adapt", "02": "test"}).index
    kinds = ["run", "run", "run", "sit", "sit", "once"]
    actions = [*kinds, *kinds, *kinds, *kinds[:4], "wave", "other"]  # of 03: adaptation, test; of 04: adaptation, test
    clips = [f"{i}.mp4" for i in range(len(index))]
    d = target_data(tmp_path, {"01": "adapt", "02": "test"}, labels_of(index, clips, actions))
    with caplog.at_level(logging.INFO, "boldscribe.decoding.brain"):
        given = donors_of(task_for(with_targets(tiny), "shuffledclass", d.trials, **d.files), monkeypatch, d.index, d.tokens)
    action = dict(zip(names(index), actions, strict=True))
    pairs = list(zip(given, names(d.test), strict=True))
    assert all(a != b for a, b in pairs) and all(a[:2] == b[:2] for a, b in pairs if action[b] in ("run", "once", "wave", "other"))
    assert all(action[a] == action[b] for a, b in pairs if action[b] in ("run", "sit"))
    assert dict(zip(names(d.test), given, strict=True))["04/9"][:2] == "03", "alone in its class of its subject"
    assert "of 12 trials, 8 get a donor of the same class and subject, 1 of the same class in another subject, and 3, alone" in caplog.text
    same_clips = target_data(tmp_path, {"01": "adapt", "02": "test"}, labels_of(index, actions, actions))
    given = donors_of(task_for(with_targets(tiny), "shuffledclass", d.trials, **same_clips.files), monkeypatch, d.index, d.tokens)
    assert all(action[a] != action[b] for a, b in zip(given, names(d.test), strict=True) if a[:2] != b[:2]), "the same clip is no donor"


def test_the_mean_token_is_the_subjects(tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    d = target_data(tmp_path, TWO_TEST_RUNS)
    means = np.stack([d.tokens[(d.index["subject"] == s) & (d.index["role"] == "test")].mean(0) for s in TARGETS])
    known = pd.DataFrame({"subject": TARGETS, "trial": 0})
    given = donors_of(task_for(with_targets(tiny), "mean", d.trials, **d.files), monkeypatch, known, means)
    assert given == [f"{subject}/0" for subject in d.test["subject"]]


def test_the_llm_is_asked_each_trials_instruction_with_its_tokens_through_the_bridge(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    d = target_data(tmp_path, TWO_TEST_RUNS)

    def generate(instructions: list[str], tokens: torch.Tensor | None, through: Any, **_: object) -> list[str]:
        values = [None] * len(instructions) if tokens is None else through(tokens)[:, 0, 0].tolist()
        return [f"{text} {value}" for text, value in zip(instructions, values, strict=True)]

    monkeypatch.setattr(brain, "load_llm", lambda *_: SimpleNamespace(to=lambda _: SimpleNamespace(generate=generate)))
    monkeypatch.setattr(brain, "load_bridge", lambda _: lambda z_NLD: 2 * z_NLD)
    files = {"models": [tmp_path / "llm"], "stage2": [tmp_path]}
    own = 2 * d.tokens[(d.index["role"] == "test"), 0, 0]
    for condition, values in (("llm", [None] * len(d.test)), ("model", own.tolist())):
        texts = writer(condition)(task_for(with_targets(tiny), condition, d.trials, **d.files, **files))
        assert texts == [f"{i} {z}" for i, z in zip(d.test["instruction"], values, strict=True)]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_opens_what_it_reads_and_no_more(condition: str, tiny: Config, tmp_path: Path) -> None:
    files = {name: [tmp_path / name] for name in inputs_of(condition)}
    Task(tiny, "had", condition, [], {**files, "trials": [tmp_path]}).check_inputs()
    everything = set[str]().union(*map(inputs_of, CONDITIONS))
    for name in sorted(everything - set(files)):
        with pytest.raises(UserError, match=f"found the inputs {name}, which it may not open"):
            decode(Task(tiny, "had", condition, [], {**files, name: [tmp_path]}), tmp_path / "out.parquet")
    for name in sorted(files):
        with pytest.raises(UserError, match=f"found no {name}, which it reads"):
            decode(Task(tiny, "had", condition, [], {n: p for n, p in files.items() if n != name}), tmp_path / "out.parquet")
    assert callable(writer(condition))


def test_decoding_refuses_an_unknown_condition_and_too_few_trials(tiny: Config, tmp_path: Path) -> None:
    d = target_data(tmp_path, {"01": "adapt", "02": "test"}, per_run=1)
    with pytest.raises(UserError, match="found 'oracle', expected one of"):
        decode(Task(tiny, "had", "oracle", d.trials), tmp_path / "out.parquet")
    with pytest.raises(UserError, match="found 1 for sub-03, expected at least 2"):
        brain.shuffled(task_for(with_targets(tiny), "shuffled", d.trials, **d.files))
    with pytest.raises(UserError, match=r"found no trial with 'test' for sub-09; set test_runs"):
        task_for(with_targets(tiny, ("03", "09")), "shuffled", d.trials).test  # noqa: B018


def test_choosing_captions_needs_no_torch_and_the_llm_no_adaptors() -> None:
    for condition, unneeded in (("constant", ("torch", "transformers", "peft")), ("nearest", ("torch",)), ("ridge", ("peft",))):
        code = f"import sys, workflow_scripts.decode; from boldscribe.decoding.decode import writer; writer({condition!r}); " + (
            f"found = {{*{unneeded!r}}} & sys.modules.keys(); assert not found, found"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_docs_name_each_condition_as_the_registry_does() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (ROOT / "docs" / "controls.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    stated = {row[0].strip("`"): row[1:5] for row in rows}
    assert list(stated) == list(CONDITIONS)
    for name, condition in CONDITIONS.items():
        assert stated[name] == [condition.title, condition.kind, condition.what, ", ".join(f"`{r}`" for r in sorted(condition.reads))]
