"""Overlap of the test trials with training (clips, source videos, captions), and checks that subjects and runs are disjoint.

A decoder trained on a test clip, or on another part of its video, can recognise it without describing anything. In the strict split,
a test trial that shares either with training is an error; in the paper's split, it is counted and reported (docs/leakage.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, write_json

SECONDS_APART = 10.0  # clips of one video that begin this close together show nearly the same content (HAD has 140 such pairs)
SHOWN = 5


@dataclass(frozen=True)
class Overlap:
    """Overlap of trials with other trials.

    Attributes:
        trials: one row per trial: `subject, trial, stim_file, source`, and whether the others have the same clip (`stimulus`), only
            another part of its video (`part`), and such a part that begins within `SECONDS_APART` (`near`).
        other: description of the other trials.
        sources_known: whether it is known which clips were cut from one video.
    """

    trials: pd.DataFrame
    other: str
    sources_known: bool

    def count(self, kind: str) -> int:
        """Return how many trials share a `stimulus`, a `part` or a `near` part."""
        return int(self.trials[kind].sum())

    def figures(self) -> dict[str, dict[str, float]]:
        """Return count and percentage of the trials, by kind."""
        n = len(self.trials)
        return {
            kind: {"count": self.count(kind), "percent": round(100 * self.count(kind) / n, 2) if n else 0.0}
            for kind in ("stimulus", "part", "near")
        }

    def sentence(self) -> str:
        """Describe the overlap in words, with counts and percentages."""
        n, found = len(self.trials), self.figures()
        said = {kind: f"{int(values['count'])} of {n} test trials ({values['percent']:.1f} %)" for kind, values in found.items()}
        sentences = []
        if self.count("stimulus"):
            sentences.append(f"The clips of {said['stimulus']} were also shown in {self.other}.")
        if self.count("part"):
            near = f", {int(found['near']['count'])} of them within {SECONDS_APART:g} s of such a part" if self.count("near") else ""
            sentences.append(f"The clips of {said['part']} were cut from a video of which another part was shown in {self.other}{near}.")
        nor_part = ", and no other part of its video," if self.sources_known else ""
        return " ".join(sentences) or f"No clip of the {n} test trials{nor_part} was shown in {self.other}."


def overlap(test: pd.DataFrame, others: pd.DataFrame, other: str) -> Overlap:
    """Find the test trials that share a clip or a source video with other trials.

    Args:
        test, others: labels, `subject, trial, stim_file, source`, and `start` where it is known.
        other: description of the others.
    """
    test, others = (side.assign(start=side.get("start", np.nan)).astype({"start": float}) for side in (test, others))
    trials = test[["subject", "trial", "stim_file", "source"]].reset_index(drop=True)
    starts = {source: np.sort(group.dropna().to_numpy()) for source, group in others.groupby("source")["start"]}
    trials["stimulus"] = trials["stim_file"].isin(set(others["stim_file"]))
    trials["part"] = trials["source"].isin(set(others["source"])) & ~trials["stimulus"]
    distance = [
        np.abs(starts.get(source, np.empty(0)) - start).min(initial=np.inf)
        for source, start in zip(test["source"], test["start"], strict=True)
    ]
    trials["near"] = trials["part"] & (np.asarray(distance) <= SECONDS_APART)  # NaN is never near
    return Overlap(trials, other, any((side["source"] != side["stim_file"]).any() for side in (test, others)))


def write_leakage(
    config: Config,
    dataset: str,
    *,
    trials: Sequence[Path],
    labels: Sequence[Path],
    source_captions: Sequence[Path],
    test_captions: Sequence[Path],
    json: Path,
    md: Path,
) -> None:
    """Write what a data set's test trials share with training and adaptation, as JSON (docs/data.md) and as Markdown.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        trials, labels: of all subjects.
        source_captions, test_captions: tables of the shards; captions are compared only if both are given.
        json, md: outputs.

    Raises:
        UserError: the split is `strict` and a test trial shares a clip or a source video with training; a subject or a run is on both
            sides; labels do not match the trials.
    """
    design = config.datasets[dataset]
    table = _labelled(dataset, trials, labels)
    sides = {role: table[table["role"] == role] for role in ("train", "adapt", "test")}
    check_disjoint(dataset, table)
    of_training = overlap(sides["test"], sides["train"], "training")
    if design.split == "strict":
        check_strict(dataset, of_training, sides["train"])
    of_adaptation = overlap(sides["test"], sides["adapt"], "adaptation runs")
    of_same = _within_subjects(sides["test"], sides["adapt"])
    texts = compare_captions(source_captions, test_captions) if source_captions and test_captions else None
    findings = [
        "No subject and no run is on both sides: source and target subjects differ, and so do adaptation and test runs of each target "
        "subject.",
        *(found.sentence() for found in (of_training, of_adaptation, of_same)),
        *(
            []
            if of_training.sources_known
            else ["The data set does not state which clips were cut from the same video, so shared videos cannot be detected."]
        ),
        *([_sentence_of(texts)] if texts else []),
    ]
    report = {
        "dataset": dataset,
        "title": design.title,
        "simulated": design.simulated is not None,
        "split": design.split,
        "trials": {role: len(side) for role, side in sides.items()},
        "subjects": {"source": list(design.train_subjects), "target": list(design.validation_subjects)},
        "runs": {"adapt": sorted(set(sides["adapt"]["run"])), "test": sorted(set(sides["test"]["run"]))},
        "sources_known": of_training.sources_known,
        "starts_known": int(sides["test"]["start"].notna().sum()),
        "seconds_apart": SECONDS_APART,
        "training": of_training.figures(),
        "training_by_subject": {
            str(subject): replace(of_training, trials=rows).figures() for subject, rows in of_training.trials.groupby("subject")
        },
        "adaptation": of_adaptation.figures(),
        "adaptation_of_same_subject": of_same.figures(),
        "captions": texts,
        "findings": findings,
    }
    write_json(json, report)
    with atomic(md) as part:
        part.write_text(_page(design, dataset, report))


def _within_subjects(test: pd.DataFrame, adapt: pd.DataFrame) -> Overlap:
    """Find what each subject's test trials share with its own adaptation trials."""
    what = "adaptation runs of the same subject"
    found = [overlap(trials, adapt[adapt["subject"] == subject], what) for subject, trials in test.groupby("subject")]
    return Overlap(pd.concat([one.trials for one in found], ignore_index=True), what, any(one.sources_known for one in found))


def _labelled(dataset: str, trials: Sequence[Path], labels: Sequence[Path]) -> pd.DataFrame:
    """Return each trial of each subject with its role, run, clip and source."""
    index = pd.concat([pd.read_parquet(p, columns=["subject", "trial", "run", "role"]) for p in trials], ignore_index=True)
    known = pd.concat([pd.read_parquet(p) for p in labels], ignore_index=True)
    table = index.merge(known, on=["subject", "trial"], validate="one_to_one")
    if not len(table) == len(index) == len(known):
        raise UserError(
            f"labels of {dataset}",
            f"found {len(known)} labels for {len(index)} trials, of which {len(table)} match, expected one label per trial; "
            "run the trials stage again",
        )
    return table.sort_values(["subject", "trial"], ignore_index=True)


def check_disjoint(dataset: str, table: pd.DataFrame) -> None:
    """Check that no subject is both trained on and tested, and that no run of a subject is used for both adaptation and testing.

    Args:
        dataset: name, for messages.
        table: `subject, run, role` of all trials.

    Raises:
        UserError: a subject or a run is used for both.
    """
    trained = set(table.loc[table["role"] == "train", "subject"])
    if both := sorted(trained & set(table.loc[table["role"] != "train", "subject"])):
        raise UserError(
            f"trials of {dataset}",
            f"subject: found {', '.join(both)} in both training and testing, expected only one of them; run the trials stage again",
        )
    of_run = table[table["role"] != "train"].groupby(["subject", "run"])["role"].nunique()
    if shared := [f"sub-{subject} run-{run}" for subject, run in of_run[of_run > 1].index]:
        raise UserError(
            f"trials of {dataset}",
            f"run: found {', '.join(shared[:SHOWN])} in both adaptation and testing, expected only one of them; correct "
            "adaptation_runs and test_runs, and run the trials stage again",
        )


def check_strict(dataset: str, of_training: Overlap, trained: pd.DataFrame) -> None:
    """Check that no test trial shares a clip or a source video with training, as the strict split promises.

    Raises:
        UserError: some do; the message lists test trials, clips, and the training trials that show them.
    """
    found = of_training.trials[of_training.trials["stimulus"] | of_training.trials["part"]]
    if found.empty:
        return
    problems = []
    for row in found.head(SHOWN).itertuples():
        with_it = trained[(trained["stim_file"] == row.stim_file) if row.stimulus else (trained["source"] == row.source)].iloc[0]
        what = f"shows {row.stim_file}" if row.stimulus else f"shows {row.stim_file}, cut from {row.source}"
        also = "" if row.stimulus else f" ({with_it['stim_file']})"
        by = f"trial {with_it['trial']} of sub-{with_it['subject']}"
        problems.append(f"test trial {row.trial} of sub-{row.subject} {what}, which {by} uses in training{also}")
    raise UserError(
        f"datasets.{dataset}.split",
        f"found {len(found)} of {len(of_training.trials)} test trials whose clip or source video is used in training "
        f"({of_training.count('stimulus')} clips, {of_training.count('part')} other parts), expected none in the strict split; write the "
        "trials again (snakemake --forcerun check_dataset trials), correct `source` in the stimulus manifest, or set split: paper, which "
        "only counts and reports them",
        *problems,
    )


def compare_captions(source: Sequence[Path], test: Sequence[Path]) -> dict[str, float]:
    """Count the test references that occur verbatim among the source captions because the captioner repeats its phrases.

    A decoder can reproduce such a reference exactly without a leak, having learnt the sentence from another clip.

    Returns:
        `count` of `n` references and their `percent`; `distinct_source` and `distinct_test` texts.
    """
    trained, tested = (
        pd.concat([pd.read_parquet(p, columns=["text"]) for p in paths], ignore_index=True)["text"] for paths in (source, test)
    )
    known, asked = (texts.str.split().str.join(" ") for texts in (trained, tested))
    count = int(asked.isin(set(known)).sum())
    percent = round(100 * count / len(asked), 2) if len(asked) else 0.0
    return {"count": count, "n": len(asked), "percent": percent, "distinct_source": known.nunique(), "distinct_test": asked.nunique()}


def _sentence_of(texts: dict[str, float]) -> str:
    return (
        f"{texts['count']} of {texts['n']} test references ({texts['percent']:.1f} %) occur verbatim among the captions of source "
        "clips: this is how often a text can equal its reference because the captioner repeats itself."
    )


def _page(design: Dataset, dataset: str, report: dict[str, Any]) -> str:
    rows = [
        f"| {name} | " + " | ".join(f"{int(v['count'])} ({v['percent']:.1f} %)" for v in report[key].values()) + " |"
        for name, key in (
            ("training", "training"),
            ("adaptation runs, unlabelled", "adaptation"),
            ("of the same subject", "adaptation_of_same_subject"),
        )
    ]
    simulated = " Simulated BOLD." if report["simulated"] else ""
    return "\n".join(
        [
            f"# Leakage: {design.title or dataset}",
            "",
            f"Split `{design.split}`; {report['trials']['test']} test trials of {len(design.validation_subjects)} target subjects, "
            f"{report['trials']['train']} training trials of {len(design.train_subjects)} source subjects.{simulated}",
            "",
            f"| test trials that share with | a clip | another part of its video | within {SECONDS_APART:g} s |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            *(f"- {finding}" for finding in report["findings"]),
            "",
        ]
    )
