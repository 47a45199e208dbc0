"""References of the scores: captions; and, in tables of their own, sentences that people wrote of the clips."""

TABLES = [(dataset, references) for dataset in DATASETS for references in experiment.references(dataset)]


def of_tables(pattern):
    """One file per table."""
    return [path for dataset, references in TABLES for path in expand(pattern, dataset=dataset, references=references)]


def description_files(dataset):
    """A data set's file of descriptions, or what it is fetched with, and the manifest by which it may name clips; none without such a file."""
    design, whole = experiment.datasets[dataset], experiment.whole(dataset)
    described = f"{R}/fetched/{whole}.json" if design.fetches(design.description_file) else design.description_file
    return [path for path in (described, design.stimulus_manifest) if path] if described else []


def descriptions(wildcards):
    """The descriptions of the job's data set."""
    return description_files(wildcards.dataset)


def given_descriptions(wildcards):
    """The descriptions that are the data set's captions, if they are given in a file of their own."""
    return description_files(wildcards.dataset) if KIND == "given" else []


def people(wildcards):
    """The descriptions that are the references of a table, if they are not its captions."""
    return description_files(wildcards.dataset) if wildcards.references else []
