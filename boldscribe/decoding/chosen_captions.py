"""Conditions whose texts are unchanged captions: chosen without a brain, by class, by similar fMRI, or written from the video."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldscribe.decoding.task import ANY, Task, asked
from boldscribe.machinery.errors import UserError
from boldscribe.models.token_files import read_fmri_tokens, tokens_of

Directions = NDArray[np.float32]


def constant(task: Task) -> list[str]:
    """Answer each trial with the source caption of its instruction that agrees best with all others."""
    return best_of_class(task, [ANY] * len(task.test))


def random_caption(task: Task) -> list[str]:
    """Answer each trial with a random source caption of its instruction."""
    texts = {text: asked(task.source, text)["text"].to_numpy() for text in task.test["instruction"].unique()}
    rng = task.rng()
    return [str(rng.choice(texts[instruction])) for instruction in task.test["instruction"]]


def true_class(task: Task) -> list[str]:
    """Answer each trial with the best source caption of the action that its clip shows."""
    return best_of_class(task, task.seen["action"].tolist())


def predicted_class(task: Task) -> list[str]:
    """Answer each trial with the best source caption of the action whose mean fMRI tokens over source trials are the most similar.

    This separate classifier is a stronger control than Stage II's head, which is trained for the adaptation, not to classify actions
    (docs/controls.md).
    """
    source_ND, target_ND, captions = similar(task)
    actions = captions.merge(task.labelled_source[["subject", "trial", "action"]], on=["subject", "trial"], how="left")["action"]
    prototypes = pd.DataFrame(source_ND).groupby(actions.to_numpy(object)).mean()
    return best_of_class(task, prototypes.index[(target_ND @ unit(prototypes.to_numpy()).T).argmax(1)].tolist())


def nearest(task: Task) -> list[str]:
    """Answer each trial with the caption of the source trial with the most similar fMRI tokens, even if its instruction differs.

    Restricted to captions of the trial's instruction, there are fewer clips to choose from: a weaker control (docs/controls.md).
    """
    source_ND, target_ND, captions = similar(task)
    return captions["text"].iloc[(target_ND @ source_ND.T).argmax(1)].tolist()


def captioned_again(task: Task) -> list[str]:
    """Return the captioner's second answers."""
    return task.test_with("captions_again")["text"].tolist()


def described(task: Task) -> list[str]:
    """Return the data set's own descriptions of the clips. A clip that a file of descriptions leaves out gets an empty text.

    Raises:
        UserError: a trial has no description in the events.
    """
    if "description" not in task.seen:
        raise UserError(
            ", ".join(map(str, task.files["test_labels"])), "found no column 'description'; set description_column in the configuration"
        )
    empty = task.seen[task.seen["description"].fillna("").str.strip() == ""]
    if len(empty) and task.config.datasets[task.dataset].description_column is None:
        logging.getLogger(__name__).warning("%d of %d test trials show a clip without description", len(empty), len(task.seen))
    elif len(empty):
        named = ", ".join(f"sub-{subject} trial {trial}" for subject, trial in empty[["subject", "trial"]].head(5).to_numpy())
        raise UserError(
            ", ".join(map(str, task.files["test_labels"])),
            f"description: found none for {len(empty)} of {len(task.seen)} test trials ({named}), expected one per trial; complete "
            "description_column, or remove the control (decoding.controls)",
        )
    return task.seen["description"].fillna("").tolist()


def best_of_class(task: Task, actions: Sequence[str]) -> list[str]:
    """Return the best source caption of each test trial's action and instruction (`boldscribe.decoding.best_captions`).

    If no source trial shows an action, the best caption of the instruction is used, and a warning is logged.

    Raises:
        UserError: an instruction has no best caption.
    """
    path = task.one("best_captions")
    best = pd.read_parquet(path).set_index(["action", "instruction"])["text"]
    if absent := sorted(set(task.test["instruction"]) - set(best.index.get_level_values("instruction"))):
        raise UserError(str(path), f"instruction: found no caption for {', '.join(map(repr, absent))}; choose the best captions again")
    known = set(best.index.get_level_values("action"))
    if unknown := sum(action not in known for action in actions):
        logging.getLogger(__name__).warning("%d of %d trials show an action that no source trial shows", unknown, len(actions))
    pairs = zip(actions, task.test["instruction"], strict=True)
    return [best[action if action in known else ANY, instruction] for action, instruction in pairs]


def similar(task: Task) -> tuple[Directions, Directions, pd.DataFrame]:
    """Return the directions of source and test trials, which are compared by cosine, and the source trials' captions.

    Raises:
        UserError: a source trial has no caption.
    """
    z_NLD, rows = read_fmri_tokens(task.one("train_tokens"), "train")
    captions = rows.merge(task.source, on=["subject", "trial"], how="left")
    if lacking := int(captions["text"].isna().sum()):
        raise UserError(
            f"captions of {task.dataset}",
            f"found none for {lacking} of {len(rows)} source trials with fMRI tokens; write the captions again",
        )
    target_NLD = tokens_of(task.one("tokens"), "test", task.test)
    return directions(z_NLD, rows["subject"]), directions(target_NLD, task.test["subject"]), captions


def directions(z_NLD: NDArray[np.float32], subjects: pd.Series) -> Directions:
    """Return the unit mean token of each trial, minus its subject's mean, which tells subjects apart but not clips: (trials, d)."""
    mean_ND = z_NLD.mean(1)
    for subject in subjects.unique():
        rows = (subjects == subject).to_numpy()
        mean_ND[rows] -= mean_ND[rows].mean(0)
    return unit(mean_ND)


def unit(x_ND: Directions) -> Directions:
    """Scale rows to length 1; zeros stay."""
    return x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), np.finfo(np.float32).tiny)
