"""Leave-k-subjects-out rotation: a data set is trained and decoded in folds, in which each of its subjects is a target once.

A fold is a data set of the configuration like any other, with a split of its own: `hadfold01`, `hadfold02`, ... of `had`. What does
not depend on the split (raw data, preprocessing, series) is made once, for the whole data set; tables are of the whole, too.
"""

from __future__ import annotations

from boldscribe.sections.data import Dataset


def targets_of_folds(name: str, dataset: Dataset) -> dict[str, list[str]]:
    """Target subjects of each fold, by its name: consecutive subjects in the order of the configuration. The data set itself if it is
    not rotated."""
    if dataset.leave_out is None:
        return {name: dataset.validation_subjects}
    members, k = dataset.subjects, dataset.leave_out
    return {f"{name}fold{i // k + 1:02d}": members[i : i + k] for i in range(0, len(members), k)}


def with_folds(datasets: dict[str, Dataset]) -> dict[str, Dataset]:
    """The data sets with the folds of those that have `leave_out`, each after its whole. Folds that are there already are made anew, so
    that a configuration which is written and read again has the same.

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
