"""Mutations of honesty: data or code are changed so that answers leak, and the real checks must find it, each with its message."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import save_file

import boldscribe.data.checks
from boldscribe.config import Config
from boldscribe.data.checks import validate_raw
from boldscribe.decoding.decode import Task, decode
from boldscribe.evaluation.copying import copying
from boldscribe.evaluation.leakage import write_leakage
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array
from boldscribe.machinery.forkserver import VARIABLE
from boldscribe.machinery.provenance.record import Job, record
from boldscribe.machinery.steps import landlock
from boldscribe.machinery.steps.guard import Guard
from boldscribe.models.encoding import write_fmri_tokens
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.source import source_trials
from boldscribe.training.stage1 import train_stage1
from boldscribe.training.stage2 import train_stage2
from tests.had_layout import Had
from tests.method.test_real_data import experiment, to_trials

HAS_LANDLOCK = landlock._call(landlock.CREATE_RULESET, None, 0, landlock.CREATE_RULESET_VERSION) >= landlock.OLDEST
NATIVE = ("pyarrow", "safetensors", "av", "C", "program", "worker")  # ways of reading that Python hears nothing of


@pytest.fixture
def results(demo: Config, tmp_path: Path) -> Path:
    """A results tree with a little of everything that is closed, and labels of a source subject with their record."""
    root = tmp_path / "results"
    raw = demo.model_dump(mode="json", by_alias=True)
    raw["paths"].update(results=str(root), cache=str(tmp_path / "cache"))
    for folder in ("trials/had", "stimuli/had", "scores", "raw/had/stimuli", "raw/had/sub-05", "stage1"):
        (root / folder).mkdir(parents=True)
    (root / "config.yaml").write_text(yaml.safe_dump(raw))
    table = pd.DataFrame({"a": [1]})
    for name in ("trials/had/sub-05_labels", "trials/had/sub-05_trials", "stimuli/had/test-000_captions", "scores/had"):
        table.to_parquet(root / f"{name}.parquet")
    save_array(root / "stimuli/had/test-000_features.npy", np.zeros(3))
    save_file({"a": np.zeros(3)}, root / "stimuli/had/test-000.safetensors")
    (root / "raw/had/stimuli/a.mp4").write_bytes(b"x" * 100)
    (root / "raw/had/sub-05/sub-05_run-01_events.tsv").write_text("onset")
    (tmp_path / "sub-05_labels.parquet").symlink_to(root / "trials/had/sub-05_labels.parquet")
    declared = root / "trials/had/sub-01_labels.parquet"
    with record(Job("trials", root, {}, {"labels": [declared]})):
        table.to_parquet(declared)
    return root


def peep(
    results: Path, tries: list[tuple[str, str]], line: str, kept: str = "yes", variables: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, str], str]:
    """What comes of each try in a step of its own, and the last line of its log."""
    environment = {
        **os.environ,
        **variables,
        "TRIES": json.dumps([(way, str(results / file)) for way, file in tries]),
        "LINKS": str(results.parent),
    }
    command: list[str | Path] = [sys.executable, "-m", "tests.peeping", "--config", results / "config.yaml", "--line", line, "--kept", kept]
    command += ["--inputs", results / "trials/had/sub-01_labels.parquet", "--out", results / "stage1/had/out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert not (results / "stage1/had/out.prov.json").exists() or done.returncode == 0, "a refusal leaves no record"
    tried = results / "stage1/tried.json"
    return json.loads(tried.read_text()) if tried.exists() else {}, done.stderr.strip().splitlines()[-1]


CLOSED = [
    ("open", "trials/had/sub-05_labels.parquet"),
    ("link", "trials/had/sub-05_labels.parquet"),
    ("open", "raw/had/sub-05/sub-05_run-01_events.tsv"),
    ("numpy", "stimuli/had/test-000_features.npy"),
    ("memmap", "stimuli/had/test-000_features.npy"),
    ("mmap", "stimuli/had/test-000_captions.parquet"),
    ("pandas", "stimuli/had/test-000_captions.parquet"),
    ("pandas, folder", "trials/had/sub-05_labels.parquet"),
    ("pandas", "scores/had.parquet"),
    ("pyarrow", "stimuli/had/test-000_captions.parquet"),
    ("safetensors", "stimuli/had/test-000.safetensors"),
    ("av", "raw/had/stimuli/a.mp4"),
    ("C", "trials/had/sub-05_labels.parquet"),
    ("program", "trials/had/sub-05_labels.parquet"),
    ("worker", "trials/had/sub-05_labels.parquet"),
]
OPEN = [(way, "trials/had/sub-01_labels.parquet") for way in ("open", "pandas", "pyarrow", "C", "program", "worker", "temporary")]


@pytest.mark.parametrize("line", [pytest.param("kernel", marks=pytest.mark.skipif(not HAS_LANDLOCK, reason="no Landlock")), "python"])
def test_a_step_that_trains_can_open_nothing_closed_in_any_way(results: Path, line: str) -> None:
    found, said = peep(results, [*CLOSED, *OPEN], line)
    for way, file in CLOSED:
        expected = {"read"} if way in NATIVE and line == "python" else {"refused"} if way in NATIVE else {"refused by python"}
        assert {found[f"{way} {Path(file).name}"]} == expected, way
    assert all(found[f"{way} {Path(file).name}"] == "read" for way, file in OPEN), "what is declared stays open"
    assert "found an attempt to open" in said, "though every refusal was swallowed, the step fails"


@pytest.mark.parametrize("line", [pytest.param("kernel", marks=pytest.mark.skipif(not HAS_LANDLOCK, reason="no Landlock")), "python"])
def test_copies_of_a_fork_server_are_locked_in_as_processes_of_their_own_are(results: Path, line: str, fork_server: dict[str, str]) -> None:
    """One after another: the second one begins with all that the first one had imported, and the server was never locked in."""
    for _ in range(2):
        (results / "stage1/had/out.prov.json").unlink(missing_ok=True)
        found, said = peep(results, [*CLOSED, *OPEN], line, variables=fork_server)
        refused = {f"{way} {Path(file).name}" for way, file in CLOSED if line == "kernel" or way not in NATIVE}
        assert {name for name, outcome in found.items() if outcome != "read"} == refused
        assert "found an attempt to open" in said
    assert list(Path(fork_server[VARIABLE].partition(":")[2]).glob("*.log")), "it was there"


@pytest.mark.skipif(not HAS_LANDLOCK, reason="no Landlock")
def test_a_refusal_of_the_kernel_is_told_plainly(results: Path) -> None:
    for way, file in (("pyarrow", "stimuli/had/test-000_captions.parquet"), ("safetensors", "stimuli/had/test-000.safetensors")):
        _, said = peep(results, [(way, file)], "kernel", kept="no")
        assert said.startswith("error: stage1 line-kernel kept-no: a file could not be opened (") and file in said, said


@pytest.fixture
def tree(tiny: Config, data: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """The fixtures' files as a run has them, with labels, captions and features of the target subject."""
    root = tmp_path / "results"
    for folder in ("bold/had", "trials/had", "stimuli/had"):
        (root / folder).mkdir(parents=True)
    for path in data.root.glob("sub-*"):
        if path.is_file():
            shutil.copy(path, root / ("bold" if path.suffix in (".npy", ".json") else "trials") / "had")
    for path in data.root.glob("train-*"):
        shutil.copy(path, root / "stimuli/had")
        shutil.copy(path, root / "stimuli/had" / path.name.replace("train", "test"))
    for path in (root / "bold/had").glob("*_labels.parquet"):
        shutil.move(path, root / "trials/had")
    source, target = (
        {
            "series": [root / f"bold/had/sub-{s}_bold.npy" for s in members],
            "trials": [root / f"trials/had/sub-{s}_trials.parquet" for s in members],
            "labels": [root / f"trials/had/sub-{s}_labels.parquet" for s in members],
        }
        for members in (("01", "02"), ("03",))
    )
    config = tiny.model_copy(update={"paths": tiny.paths.model_copy(update={"results": str(root), "cache": None})})
    stimuli = {kind: root / f"stimuli/had/{kind}" for kind in ("train-000_features.npy", "train-000_captions.parquet")}
    return SimpleNamespace(root=root, config=config, source=source, target=target, stimuli=stimuli)


def steps(tree: SimpleNamespace) -> dict[str, tuple[str, dict[str, list[Path]], Callable[[], Any]]]:
    """Rule → a function of it to change, its declared inputs, and the step."""
    root, config, source, target = tree.root, tree.config, tree.source, tree.target
    features, captions = tree.stimuli.values()
    brain = {name: source[name] for name in ("series", "trials")}
    nowhere = root / "models"
    stage1 = {**source, "features": [features], "sc_mbm": nowhere}
    stage2 = {**{k: source[k] for k in ("trials", "labels")}, "captions": [captions]}
    tokens = {"tokens": nowhere, "target_tokens": nowhere, "models_dir": nowhere}
    work = {"output_dir": root / "out", "work_dir": root / "work"}
    return {
        "pretrain_sc_mbm": (
            "boldscribe.training.pretrain.check_source_only",
            brain,
            lambda: pretrain_sc_mbm(config, "had", **brain, weights=root / "w", curve=root / "c", work_dir=root / "work"),
        ),
        "stage1": (
            "boldscribe.training.stage1.source_trials",
            {**source, "features": [features]},
            lambda: train_stage1(config, "had", **stage1, **work),
        ),
        "stage2": ("boldscribe.training.stage2.source_trials", stage2, lambda: train_stage2(config, "had", **stage2, **tokens, **work)),
        "fmri_tokens": (
            "boldscribe.models.encoding.trials_of_role",
            {k: target[k] for k in ("series", "trials")},
            lambda: write_fmri_tokens(
                config, "test", series=target["series"], trials=target["trials"], stage1_dir=nowhere, output=root / "t.npy"
            ),
        ),
        "decode": (
            "boldscribe.decoding.brain.generate",
            {"trials": target["trials"]},
            lambda: decode(Task(config, "had", "llm", target["trials"], {"models": [nowhere / "llm"]}), root / "decoded" / "text.parquet"),
        ),
    }


PEEKS: dict[str, Callable[[Path], Any]] = {
    "trials/had/sub-03_labels.parquet": pd.read_parquet,
    "stimuli/had/test-000_captions.parquet": pd.read_parquet,
    "stimuli/had/test-000_features.npy": lambda path: np.load(path, mmap_mode="r"),
}


@pytest.mark.parametrize("rule", ["pretrain_sc_mbm", "stage1", "stage2", "fmri_tokens", "decode"])
@pytest.mark.parametrize("swallowed", [False, True])
def test_target_labels_captions_and_clips_cannot_be_opened_in_training_and_decoding(
    tree: SimpleNamespace, rule: str, swallowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, inputs, step = steps(tree)[rule]
    module, name = changed.rsplit(".", 1)
    original = getattr(importlib.import_module(module), name)
    for file, read in PEEKS.items():

        def peeking(*arguments: Any, file: str = file, read: Callable[[Path], Any] = read, **options: Any) -> Any:
            with suppress(UserError) if swallowed else nullcontext():
                read(tree.root / file)
            if swallowed:
                return ["text"] * 6
            return original(*arguments, **options)

        monkeypatch.setattr(changed, peeking)
        guard = Guard(f"{rule} had", rule, tree.config, inputs, {})
        with pytest.raises(UserError) as raised, guard.watching(shut=False):
            step()
        assert str(raised.value).startswith(f"{rule} had: found an attempt to open {tree.root / file}, which is not a declared input"), file
        assert "may open" in str(raised.value)


def test_what_a_step_declares_stays_open(tree: SimpleNamespace) -> None:
    guard = Guard("stage1 had", "stage1", tree.config, tree.source, {})
    with guard.watching(shut=False):
        assert len(source_trials(tree.config, "had", tree.source["trials"], tree.source["labels"])) == 24
    assert not guard.refused


def test_target_labels_that_a_rule_hands_over_are_refused(tree: SimpleNamespace) -> None:
    trials, labels = ([*tree.source[k], *tree.target[k]] for k in ("trials", "labels"))
    with pytest.raises(
        UserError, match=r"subject: found 03, expected source subjects only .* no label, clip or caption of a target subject"
    ):
        source_trials(tree.config, "had", trials, labels)


def test_a_strict_split_that_shares_a_clip_and_a_source_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From events to the report: a source subject's clip, and another part of its video, are shown to the target subject."""
    data = Had(tmp_path / "had").write()
    same, other = data.shown["01", 1]["stim_file"].iloc[0], data.shown["01", 2]["stim_file"].iloc[0]
    before, _, after = other.partition("_start_")
    part = f"{before}_start_{float(after.split('_')[0]) + 3}_label_1.mp4"
    shutil.copy(data.root / "stimuli" / other, data.root / "stimuli" / part)
    events = next(data.root.rglob("sub-03*run-12*_events.tsv"))
    table = pd.read_csv(events, sep="\t", dtype=str, keep_default_na=False)
    table.loc[[0, 1], "stim_file"] = [same, part]
    table.to_csv(events, sep="\t", index=False)
    config = experiment(data, split="strict")

    def report(folder: Path) -> dict[str, Any]:
        found = validate_raw(config, "had")
        for subject in ("01", "03"):
            to_trials(config, folder, subject, found)
        files = {kind: sorted(folder.glob(f"*_{kind}.parquet")) for kind in ("trials", "labels")}
        write_leakage(config, "had", **files, source_captions=[], test_captions=[], json=folder / "l.json", md=folder / "l.md")
        content: dict[str, Any] = json.loads((folder / "l.json").read_text())
        return content

    assert report(tmp_path / "sound")["training"]["stimulus"]["count"] == 0
    monkeypatch.setattr(boldscribe.data.checks, "separate_sources", lambda *arguments: ([], []))
    with pytest.raises(UserError) as raised:
        report(tmp_path / "leaky")
    assert "found 2 of 180 test trials whose clip or source video is used in training (1 clips, 1 other parts)" in str(raised.value)
    assert f"sub-03 shows {same}, which trial 0 of sub-01 uses in training" in str(raised.value)
    source = part.split("_id_")[1][:11]
    assert f"sub-03 shows {part}, cut from {source}, which trial 60 of sub-01 uses in training ({other})" in str(raised.value)


def scores(texts: dict[str, list[str]], references: list[str]) -> pd.DataFrame:
    tables = [
        pd.DataFrame({"condition": c, "subject": "05", "trial": range(len(t)), "prediction": t, "reference": references})
        for c, t in texts.items()
    ]
    return pd.concat(tables, ignore_index=True)


def sampled(demo: Config, do_sample: bool) -> Config:
    return demo.model_copy(update={"video_llama": demo.video_llama.model_copy(update={"do_sample": do_sample})})


def test_references_fed_as_predictions_raise_an_alarm(demo: Config) -> None:
    references = [f"A man does thing {i}." for i in range(200)]
    wrong = [f"A dog {i}." for i in range(200)]
    again = [*references[:4], *wrong[4:]]  # a captioner that says the same twice in 2 % of trials
    found = copying(sampled(demo, True), scores({"model": [*references[:80], *wrong[80:]], "llm": wrong, "captioner": again}, references))
    assert list(found) == ["model"] and found["model"].startswith(
        "ALARM: the texts of 'model' equal their references word for word in 80 of 200"
    )
    honest = {"model": [*references[:40], *wrong[40:]], "captioner": again}
    assert not copying(sampled(demo, True), scores(honest, references)), "as much as a decoder that knows the captioner could have"
    for do_sample in (True, False):  # greedy captions, or a run without the captioner's second answers
        assert list(copying(sampled(demo, do_sample), scores({"model": references}, references))) == ["model"]
        assert not copying(sampled(demo, do_sample), scores({"model": [*references[:150], *wrong[150:]]}, references))


def test_the_best_guess_of_one_who_knows_the_captioner_raises_no_alarm(demo: Config) -> None:
    """The bound holds for a decoder that always says what the captioner says most often of the clip."""
    rng = np.random.default_rng(0)
    raised = 0
    for _ in range(200):
        concentration = rng.choice([0.05, 0.3, 1.0])
        answers = [rng.dirichlet(np.full(6, concentration)) for _ in range(96)]
        drawn = [[f"{t} {rng.choice(6, p=p)}" for t, p in enumerate(answers)] for _ in range(2)]
        best = [f"{t} {p.argmax()}" for t, p in enumerate(answers)]
        raised += bool(copying(sampled(demo, True), scores({"model": best, "captioner": drawn[1]}, drawn[0])))
    assert raised <= 2
