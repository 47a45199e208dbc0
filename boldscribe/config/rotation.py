"""Leave-k-subjects-out rotation: training and decoding in folds, with each subject of a data set as a target once.

A fold is an ordinary data set of the configuration with its own split: `hadfold01`, `hadfold02`, ... of `had`. Data that do not depend
on the split (raw data, preprocessing, series) are produced once for the whole data set, which tables also cover.
"""

from __future__ import annotations

from boldscribe.config.data_settings import Dataset


def targets_of_folds(name: str, dataset: Dataset) -> dict[str, list[str]]:
    """Target subjects of each fold by name: consecutive subjects in configuration order. A data set without rotation is its only fold."""
    if dataset.leave_out is None:
        return {name: dataset.validation_subjects}
    members, k = dataset.subjects, dataset.leave_out
    return {f"{name}fold{i // k + 1:02d}": members[i : i + k] for i in range(0, len(members), k)}


def with_folds(datasets: dict[str, Dataset]) -> dict[str, Dataset]:
    """Add the folds of each data set that has `leave_out`, after the data set itself.

    Existing folds are rebuilt, so that a configuration has the same folds after it is written and read again.

    Raises:
        ValueError: a fold has the name of another data set.
    """
    configured = {name: dataset for name, dataset in datasets.items() if dataset.fold_of is None}
    made: dict[str, Dataset] = {}
    for name, dataset in configured.items():
        made[name] = dataset
        if dataset.leave_out is None:
            continue
        for fold, targets in targets_of_folds(name, dataset).items():
            if fold in configured:
                raise ValueError(f"{fold} is the name of a fold of {name}, which has leave_out; rename the data set {fold}")
            sources = [subject for subject in dataset.subjects if subject not in targets]
            split = {"train_subjects": sources, "validation_subjects": targets, "leave_out": None, "fold_of": name}
            made[fold] = dataset.model_copy(update=split)
    return made
