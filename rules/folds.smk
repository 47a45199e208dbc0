"""Rotation: a fold has its own folder for files that depend on the split, and shares all others with its whole data set."""

# Names under which data sets are trained and decoded: their own, or those of their folds (datasets.*.leave_out).
FOLDS = [fold for dataset in DATASETS for fold in experiment.folds(dataset)]
OF_WHOLE = (SERIES, VOXELS, DISPLACEMENT)


def place(pattern, dataset, subject):
    """The path of a subject's file, for a data set or a fold."""
    return pattern.format(dataset=experiment.whole(dataset) if pattern in OF_WHOLE else dataset, subject=subject)


def of_subject(pattern):
    """The file of the job's subject."""
    return lambda w: place(pattern, w.dataset, w.subject)


def of_folds(pattern):
    """One file per fold of a data set, or per fold and subject, of the job's references; without a rotation, per data set."""

    def files(wildcards):
        folds = [(fold, {"subject": subjects(fold), "references": wildcards.references}) for fold in experiment.folds(wildcards.dataset)]
        return [path for fold, others in folds for path in expand(pattern, dataset=fold, **others)]

    return files


def checked(wildcards):
    """Findings of the check of the whole data set."""
    return f"{R}/checked/{experiment.whole(wildcards.dataset)}.json"
