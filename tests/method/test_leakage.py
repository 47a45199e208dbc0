"""The leakage report: what it counts on planted overlaps, in both modes, and what it says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldscribe.config import Config
from boldscribe.evaluation.leakage import overlap, write_leakage
from boldscribe.machinery.errors import UserError

# subject, role, run, clip, source, where it starts (s)
TRIALS = [
    ("01", "train", "01", "a.mp4", "film a", 10.0),
    ("01", "train", "01", "b.mp4", "film b", 10.0),
    ("02", "train", "02", "c.mp4", "film c", np.nan),
    ("03", "adapt", "01", "b2.mp4", "film b", 40.0),
    ("03", "adapt", "01", "e.mp4", "film e", 0.0),
    ("03", "test", "02", "a.mp4", "film a", 10.0),  # the same clip
    ("03", "test", "02", "b3.mp4", "film b", 20.0),  # 10 s after a trained part; 20 s before an adaptation part of the same subject
    ("03", "test", "02", "c2.mp4", "film c", 3.0),  # another part, nobody knows how far
    ("03", "test", "02", "d.mp4", "film d", 5.0),
    ("04", "adapt", "01", "g.mp4", "film g", 0.0),
    ("04", "test", "02", "e2.mp4", "film e", 8.0),  # near what another target subject saw while adapting
]


def design(demo: Config, split: str = "paper") -> Config:
    raw = demo.model_dump(by_alias=True)
    raw["datasets"]["had"].update(train_subjects=["01", "02"], validation_subjects=["03", "04"], split=split)
    return Config.model_validate(raw)


def report(config: Config, folder: Path, rows: list[tuple[Any, ...]], texts: bool = True) -> tuple[dict[str, Any], str]:
    """What the report says of trials; the captions of two of five test trials are those of source clips, but for spaces."""
    table = pd.DataFrame(rows, columns=["subject", "role", "run", "stim_file", "source", "start"])
    table["trial"] = table.groupby("subject").cumcount()
    files: dict[str, list[Path]] = {"trials": [], "labels": []}
    for subject, part in table.groupby("subject"):
        for kind, columns in (
            ("trials", ["subject", "trial", "run", "role"]),
            ("labels", ["subject", "trial", "stim_file", "source", "start"]),
        ):
            files[kind].append(folder / f"sub-{subject}_{kind}.parquet")
            part[columns].to_parquet(files[kind][-1])
    for split, said in (
        ("train", ["A man runs.", "A man swims."]),
        ("test", ["A man runs.", "A  man swims. ", "A man.", "a man runs.", "x"]),
    ):
        pd.DataFrame({"text": said}).to_parquet(folder / f"{split}-000_captions.parquet")
    captions = {
        f"{name}_captions": [folder / f"{split}-000_captions.parquet"] if texts else []
        for name, split in (("source", "train"), ("test", "test"))
    }
    write_leakage(config, "had", **files, **captions, json=folder / "had.json", md=folder / "had.md")
    return json.loads((folder / "had.json").read_text()), (folder / "had.md").read_text()


def test_planted_overlaps_are_counted_and_told(demo: Config, tmp_path: Path) -> None:
    found, page = report(design(demo), tmp_path, TRIALS)
    counts = {key: {kind: values["count"] for kind, values in found[key].items()} for key in ("training", "adaptation")}
    assert counts == {"training": {"stimulus": 1, "part": 2, "near": 1}, "adaptation": {"stimulus": 0, "part": 2, "near": 1}}
    assert found["adaptation_of_same_subject"]["part"] == {"count": 1, "percent": 20.0} and found["sources_known"]
    assert found["training_by_subject"]["03"]["stimulus"] == {"count": 1, "percent": 25.0}
    assert found["training_by_subject"]["04"]["part"]["count"] == 0
    assert found["trials"] == {"train": 3, "adapt": 3, "test": 5} and found["runs"] == {"adapt": ["01"], "test": ["02"]}
    assert found["captions"] == {"count": 2, "n": 5, "percent": 40.0, "distinct_source": 2, "distinct_test": 5}
    assert "The clips of 1 of 5 test trials (20.0 %) were also shown in training." in page
    assert "2 of 5 test trials (40.0 %) were cut from a video of which another part was shown in training, 1 of them within 10 s" in page
    assert "| training | 1 (20.0 %) | 2 (40.0 %) | 1 (20.0 %) |" in page and "Simulated BOLD." in page


def test_the_strict_split_stops_at_a_shared_clip_and_at_a_shared_source(demo: Config, tmp_path: Path) -> None:
    clean = [row for row in TRIALS if row[3] not in ("a.mp4", "b3.mp4", "c2.mp4") or row[1] == "train"]
    strict = design(demo, "strict")
    found, page = report(strict, tmp_path, clean)
    assert found["training"]["part"]["count"] == 0 and "no other part of its video, was shown in training" in page
    for shared, message in (
        ("a.mp4", r"sub-03 shows a\.mp4, which trial 0 of sub-01 uses in training"),
        ("c2.mp4", r"sub-03 shows c2\.mp4, cut from film c, which trial 0 of sub-02 uses in training \(c\.mp4\)"),
    ):
        leaky = clean + [row for row in TRIALS if row[3] == shared and row[1] == "test"]
        with pytest.raises(UserError, match=message) as raised:
            report(strict, tmp_path, leaky)
        assert "found 1 of 3 test trials" in str(raised.value) and "snakemake --forcerun check_dataset trials" in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [(("03", "train", "01", "z.mp4", "z", 0.0), "subject: found 03"), (("04", "adapt", "02", "z.mp4", "z", 0.0), "found sub-04 run-02")],
)
def test_a_subject_or_a_run_that_serves_both_sides_stops_any_split(
    demo: Config, tmp_path: Path, change: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        report(design(demo), tmp_path, [*TRIALS, change])


def test_without_sources_and_captions_the_report_says_what_it_cannot_see(demo: Config, tmp_path: Path) -> None:
    found, page = report(design(demo), tmp_path, [(*row[:4], row[3], np.nan) for row in TRIALS], texts=False)
    assert not found["sources_known"] and found["captions"] is None and found["starts_known"] == 0
    assert "does not state which clips were cut from the same video" in page and "other part of its video, was" not in page


LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 50) | st.just(float("nan"))), min_size=1, max_size=8)


@given(LABELS, LABELS)
@settings(max_examples=60, deadline=None)
def test_overlaps_agree_with_a_look_at_each_pair(test: list[tuple[int, int, float]], others: list[tuple[int, int, float]]) -> None:
    def table(rows: list[tuple[int, int, float]]) -> pd.DataFrame:
        # a clip belongs to one source, as in any data set
        return pd.DataFrame(
            {"subject": "01", "trial": i, "stim_file": f"{source}/{clip}", "source": str(source), "start": start}
            for i, (source, clip, start) in enumerate(rows)
        )

    found = overlap(table(test), table(others), "others").trials
    for row, (source, clip, start) in zip(found.itertuples(), test, strict=True):
        same = any((source, clip) == (s, c) for s, c, _ in others)
        part = not same and any(source == s for s, _, _ in others)
        assert (row.stimulus, row.part) == (same, part)
        assert row.near == (part and any(source == s and abs(start - t) <= 10 for s, _, t in others))
