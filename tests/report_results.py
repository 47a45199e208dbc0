"""Small results of the form that the report reads (docs/data.md), of a simulated and a measured data set; values are made up."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from boldscribe.conditions import CONDITIONS
from boldscribe.config import Config
from boldscribe.evaluation.published import published_scores
from boldscribe.evaluation.score_tables import SIGNATURES
from boldscribe.machinery.files import save_array

SUBJECTS = ("05", "06")
MEANS = ("bertscore", "sacrebleu_1", "sacrebleu_2", "rouge_l_f", "rouge_l_p", "rouge_l_r", "cider", "meteor", "sentence_similarity")
WAYS = ("identification", "identification_2way", "identification_10way", "identification_50way")
METRICS = (*MEANS, *WAYS)
LEVEL = {"model": 60, "null": 35, "control": 45, "ablation": 50, "ceiling": 80}
SCRIPT = "<script>alert(1)</script> & שלום"
ACTORS, ACTIONS, PLACES = ("man", "girl", "dog"), ("juggling", "kicking a ball", "rowing"), ("park", "desert", "kitchen")


def small_config(conditions: tuple[str, ...], names: tuple[str, ...]) -> Config:
    split = {"train_subjects": ["01"], "adaptation_runs": ["01"], "test_runs": ["02"], "validation_subjects": list(SUBJECTS)}
    datasets = {
        "had": {"title": "HAD in miniature", "table": 1, "simulated": {}, **split},
        "urgen": {"title": "Urgen", "table": 2, **split},
    }
    controls = [c for c in conditions if c != "model"]
    return Config.model_validate({"datasets": {name: datasets[name] for name in names}, "decoding": {"controls": controls}})


def write_results(
    root: Path, n_trials: int = 12, conditions: tuple[str, ...] = tuple(CONDITIONS), datasets: tuple[str, ...] = ("had", "urgen")
) -> tuple[Config, dict[str, list[Path]]]:
    """Write the results of data sets with two target subjects each; returns the experiment, and the files by kind."""
    config = small_config(conditions, datasets)
    files: dict[str, list[Path]] = {}
    for dataset in config.datasets:
        rng = np.random.default_rng(len(dataset))
        for kind, paths in (
            *_tables(root, dataset, conditions, n_trials, rng).items(),
            *_trials(root, dataset, conditions, n_trials, rng).items(),
            *_learning(root, dataset).items(),
            *_evidence(root, dataset, rng).items(),
        ):
            files.setdefault(kind, []).extend(paths)
    return config, files


def _save(path: Path, table: pd.DataFrame) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return [path]


def _tables(root: Path, dataset: str, conditions: tuple[str, ...], n_trials: int, rng: np.random.Generator) -> dict[str, list[Path]]:
    rows = {"Subject-1": "05", "Subject-2": "06", "Total": ""}
    values, differences, tests = [], [], []
    for row, subject in rows.items():
        of_row = {"dataset": dataset, "row": row, "subject": subject, "n_trials": n_trials * (2 if not subject else 1)}
        for condition in conditions:
            kind = CONDITIONS[condition].kind
            for metric in METRICS:
                value = LEVEL[kind] + rng.normal(0, 3)
                if metric in WAYS[1:]:
                    k = int(metric.split("_")[1].removesuffix("way"))
                    value = 100 / k if kind == "null" else value / k**0.4
                ends = {"low": value - 4, "high": value + 4, "low_trials": value - 3, "high_trials": value + 3}
                values.append({**of_row, "condition": condition, "metric": metric, "value": value, **ends, "note": ""})
                if condition == "model":
                    continue
                beats = kind == "null" or (kind == "control" and metric in WAYS)
                difference = (LEVEL["model"] - LEVEL[kind] if beats else 1) + rng.normal(0, 1)
                ends = {"low": difference - 3, "high": difference + 3, "low_trials": difference - 2, "high_trials": difference + 2}
                entry = {
                    **of_row,
                    "control": condition,
                    "kind": kind.replace("null", "null control"),
                    "metric": metric,
                    "difference": difference,
                    **ends,
                }
                differences.append({**entry, "effect_size": difference / 10, "excludes_zero": beats})
                p = {"p": 0.001 if beats else 0.4, "p_max": 0.002 if beats else 0.6, "p_holm": 0.004 if beats else 0.8, "beats": beats}
                names = {"condition": "model", "against": condition, "kind": kind.replace("null", "null control"), "metric": metric}
                found: dict[str, Any] = {"statistic": difference, "expected": 0.0, "detectable": None if kind == "null" else 3.0}
                tests.append({"dataset": dataset, "row": row, "subject": subject, **names, **found, **p})
            if condition != "model":
                beats = kind in ("null", "control")
                names = {"condition": "model", "against": condition, "kind": kind.replace("null", "null control"), "metric": "any"}
                p = {"p": 0.001 if beats else 0.4, "p_max": 0.001 if beats else 0.4, "p_holm": 0.004 if beats else 0.8, "beats": beats}
                tests.append({"dataset": dataset, "row": row, "subject": subject, **names, "statistic": 5.0, **p})
                if kind != "null":
                    lost = {"condition": condition, "against": "model", "p": 0.9, "p_max": 0.9, "p_holm": 1.0, "beats": False}
                    tests.append({"dataset": dataset, "row": row, "subject": subject, **names, "statistic": -5.0, **p, **lost})
        for condition in conditions:
            null = CONDITIONS[condition].kind == "null"
            written = CONDITIONS[condition].kind.replace("null", "null control")
            names = {"condition": condition, "against": "chance", "kind": written, "metric": "bertscore"}
            p = {"p": 0.5, "p_max": 0.5, "p_holm": 1.0 if null else 0.03, "beats": not null}
            tests += [
                {"dataset": dataset, "row": row, "subject": subject, **names, "metric": m, "statistic": 1.0, **p}
                for m in ("bertscore", "any")
            ]
    chance = {"dataset": dataset, "row": "Total", "subject": "", "condition": "chance", "metric": "identification_2way", "value": 50.0}
    published = published_scores({"had": 1, "urgen": 2}[dataset]).assign(dataset=dataset)
    table = pd.concat([pd.DataFrame(values), pd.DataFrame([chance]), published], ignore_index=True)
    left_out = [["05", "02", 9, "test", "broken clip", "frames: found 3"]] if dataset == "had" else []
    texts = {"markdown": f"# {dataset}\n", "latex": f"% {dataset}\n"}
    for form, text in texts.items():
        (root / "tables").mkdir(parents=True, exist_ok=True)
        (root / "tables" / f"{dataset}{'.md' if form == 'markdown' else '.tex'}").write_text(text)
    return {
        "tables": _save(root / "tables" / f"{dataset}.csv", table),
        "differences": _save(root / "tables" / f"{dataset}_differences.csv", pd.DataFrame(differences)),
        "tests": _save(root / "tables" / f"{dataset}_tests.csv", pd.DataFrame(tests)),
        "left_out": _save(
            root / "tables" / f"{dataset}_left_out.csv",
            pd.DataFrame(left_out, columns=["subject", "run", "trial", "role", "reason", "detail"]),
        ),
        "markdown": [root / "tables" / f"{dataset}.md"],
        "latex": [root / "tables" / f"{dataset}.tex"],
    }


def _sentence(rng: np.random.Generator) -> str:
    return f"A {rng.choice(ACTORS)} in a red shirt is {rng.choice(ACTIONS)} in a {rng.choice(PLACES)}."


def _trials(root: Path, dataset: str, conditions: tuple[str, ...], n_trials: int, rng: np.random.Generator) -> dict[str, list[Path]]:
    scores, labels, frames = [], [], []
    for subject in ("01", *SUBJECTS):
        clips = [f"{subject}-{t}.mp4" for t in range(n_trials)]
        actions = [ACTIONS[t % 3] for t in range(n_trials)]
        table = pd.DataFrame({"subject": subject, "trial": range(n_trials), "stim_file": clips, "action": actions, "source": clips})
        labels += _save(root / "trials" / dataset / f"sub-{subject}_labels.parquet", table)
    for subject in SUBJECTS:
        references = [_sentence(rng) for _ in range(n_trials)]
        for condition in conditions:
            table = pd.DataFrame(
                {"condition": condition, "subject": subject, "trial": range(n_trials), "instruction": "Describe the video."}
            )
            table["prediction"] = [_sentence(rng) for _ in range(n_trials)]
            table["reference"] = references
            for metric in METRICS:
                table[metric] = rng.uniform(20, 80, n_trials)
            if condition == "model":
                table["bertscore"] = [90.0, 30, 20, 50, 40, 60, 85, 10, *rng.uniform(35, 45, n_trials - 8)]
                table.loc[[0, 7], "prediction"] = [SCRIPT, ""]
            scores.append(table)
        n_shown = min(n_trials, 60)  # all trials of a large page show the same few clips
        brightness = np.arange(n_shown, dtype=np.uint8)[:, None, None, None, None] * 4
        path = root / "stimuli" / dataset / f"test-{subject}0_frames.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = [f"{subject}-{t}.mp4" for t in range(n_trials)]
        save_array(path, np.broadcast_to(brightness, (n_shown, 4, 32, 32, 3))[np.arange(n_trials) % n_shown], clips=shown)
        frames.append(path)
    table = pa.Table.from_pandas(pd.concat(scores, ignore_index=True))
    signed = {SIGNATURES: json.dumps({"sacrebleu": "case:mixed|tok:13a|made up"}), **(table.schema.metadata or {})}
    path = root / "scores" / f"{dataset}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(signed), path)
    return {
        "scores": [path],
        "labels": labels,
        "frames": frames,
    }


def _learning(root: Path, dataset: str) -> dict[str, list[Path]]:
    curve = pd.DataFrame({"step": range(5), "loss": np.linspace(3, 1, 5), "learning_rate": 0.1, "phase": "train"})
    stages = []
    for stage in ("stage1", "stage2"):
        stages.append(root / stage / dataset / "model")
        _save(stages[-1] / "curve.parquet", curve)
    nothing = dataset == "urgen"
    return {"stages": stages, "sc_mbm": _save(root / "sc_mbm" / dataset / "curve.parquet", pd.DataFrame() if nothing else curve)}


def _evidence(root: Path, dataset: str, rng: np.random.Generator) -> dict[str, list[Path]]:
    retrieval = [
        (dataset, row, subject, encoder, data, metric, value, chance, p, 12)
        for row, subject in (("Subject-1", "05"), ("Subject-2", "06"), ("Total", ""))
        for encoder, data, p in (("model", "fmri", 0.0002), ("noise", "noise", 0.4))
        for metric, value, chance in (("top_1", 21.5, 8.3), ("top_5", 61.0, 41.7), ("mean_rank", 3.2, 6.5))
    ]
    columns = ["dataset", "row", "subject", "encoder", "data", "metric", "value", "chance", "p", "n_candidates"]
    shared = {"stimulus": {"count": 0, "percent": 0.0}, "part": {"count": 2, "percent": 8.3}, "near": {"count": 1, "percent": 4.2}}
    report = {
        "split": "paper",
        "trials": {"train": 24, "adapt": 24, "test": 24},
        "training": shared,
        "adaptation": shared,
        "adaptation_of_same_subject": shared,
        "findings": ["The clips of 2 of 24 test trials were cut from a video of which another part was shown in training."],
    }
    values = np.zeros((33, 39, 33), np.float32)
    values[12:16, 4:9, 12:16] = rng.uniform(0.5, 1, (4, 5, 4))
    affine = np.array([[6, 0, 0, -94.5], [0, 6, 0, -130.5], [0, 0, 6, -76.5], [0, 0, 0, 1.0]])
    for folder in ("maps", "leakage"):
        (root / folder).mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), root / "maps" / f"{dataset}_information.nii.gz")
    about = {
        "what": "What each voxel adds to the match of a trial with its own clip",
        **{"units": "cosine", "method": "expected gradients", "space": "MNI152NLin2009aSym", "n_subjects": 2, "n_trials": 24},
        "checks": {"grey_matter": {"share_of_mass": 0.81, "share_of_voxels": 0.4, "roc_auc": 0.77}},
    }
    (root / "maps" / f"{dataset}_information.json").write_text(json.dumps(about))
    (root / "leakage" / f"{dataset}.json").write_text(json.dumps(report))
    quality = pd.DataFrame(
        {"subject": SUBJECTS, "role": "target", "run": "02", "mean_fd": [0.112, 0.31], "missing_responses": [0, 3], "trials": [24, 24]}
    )
    reliability = pd.DataFrame(
        {"dataset": dataset, "subject": SUBJECTS, "comparison": "other subjects", "median": [0.31, 0.275], "note": ""}
    )
    if dataset == "had":
        reliability = pd.DataFrame({"dataset": [dataset], "subject": [""], "comparison": ["none"], "note": ["no stimulus repeats"]})
    return {
        "retrieval": _save(root / "retrieval" / f"{dataset}.csv", pd.DataFrame(retrieval, columns=columns)),
        "maps": [root / "maps" / f"{dataset}_information{suffix}" for suffix in (".nii.gz", ".json")],
        "leakage": [root / "leakage" / f"{dataset}.json"],
        "quality": _save(root / "quality" / f"{dataset}.csv", quality),
        "reliability": _save(root / "reliability" / f"{dataset}.csv", reliability),
    }
