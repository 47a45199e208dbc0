"""Notes that the reader of a table needs: who wrote the references, what is simulated, what each number is."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from boldscribe.conditions import CONDITIONS, KINDS
from boldscribe.config import Config
from boldscribe.descriptions import CAPTIONS
from boldscribe.evaluation.published import OF_THE_PAPER
from boldscribe.evaluation.verdicts import NAMES_OF
from boldscribe.models.model_names import is_miniature, language_model, video_model

MARK = "†"


def title(config: Config, dataset: str, against: str = CAPTIONS) -> str:
    """Return number and name of a table, whether its BOLD is simulated or measured, and its references if they are not captions."""
    settings = config.datasets[dataset]
    name = f"Table {settings.table}. {settings.title or dataset}: {'SIMULATED' if settings.simulated else 'measured'} BOLD"
    return name if against == CAPTIONS else f"{name}, scored against sentences that people wrote"


def notes(
    config: Config, dataset: str, values: pd.DataFrame, signatures: Mapping[str, str], data: str, against: str = CAPTIONS
) -> list[str]:
    """Explain the numbers, in one or two sentences each.

    Args:
        values: the table, whose notes explain marked values.
        signatures: how each metric was computed (`read_signatures`).
        data: which test clips source subjects saw, and what is excluded (`trials_sentence`).
        against: the references, captions or people's sentences.
    """
    captions = against == CAPTIONS
    return [
        origin(config, dataset, values) if captions else bold(config, dataset),
        references(config) if captions else people(config, dataset),
        data,
        *intervals(config, dataset),
        *tests(config),
        *conditions(config, dataset, against),
        *metrics(config, signatures, against),
        *(f"{MARK} {note}." for note in dict.fromkeys(values["note"].dropna()) if note),
    ]


def bold(config: Config, dataset: str) -> str:
    """State whether the BOLD is simulated or measured."""
    if config.datasets[dataset].simulated:
        return f"The BOLD is simulated (signal at {config.simulation.snr:g} times the default): no brain was measured."
    return "The BOLD was measured."


def origin(config: Config, dataset: str, values: pd.DataFrame) -> str:
    """State whether the BOLD is simulated or measured, and whether published values in the table can be compared with ours."""
    simulated, small = config.datasets[dataset].simulated, is_miniature(config.video_llama)
    sentences = [bold(config, dataset)]
    if not values["condition"].isin(OF_THE_PAPER).any():
        sentences.append("The paper has no values of these data.")
    elif simulated:
        sentences.append("The published values were measured on other data, by larger models: they are not comparable with this miniature.")
    else:
        sentences.append("The paper does not name its validation subjects: its rows stand beside ours by their order.")
        sentences += ["Its values were measured by larger models: they are not comparable with this miniature."] if small else []
    return " ".join(sentences)


def author(config: Config) -> str:
    """Name who wrote the references."""
    return video_model(config.video_llama) if config.captioner.kind == "video_llama" else config.captioner.author


def references(config: Config) -> str:
    """State who wrote the references, with what fMRI is aligned and what decodes; and the consequence if it is not Video-LLaMA."""
    own = config.captioner.kind == "video_llama"
    aligned = "its video tokens" if own else f"the video tokens of {video_model(config.video_llama)}"
    decoder = language_model(config.video_llama)
    written = f"The references are captions by {author(config)}; fMRI is aligned with {aligned}, and {decoder} decodes."
    if own and not is_miniature(config.video_llama):
        return written
    return f"{written} The paper's references are Video-LLaMA's: its scores and these are not comparable."


def people(config: Config, dataset: str) -> str:
    """State whose sentences the references are, and that the paper's values are against others."""
    return (
        f"The references are sentences that people wrote ({config.datasets[dataset].description_file}), one drawn for each clip. The same "
        f"decoded texts stand in the other table, against captions by {author(config)}, which also wrote the captions that were learnt: "
        "here the author of the references taught nothing. The paper's references are Video-LLaMA's: its scores and these are not "
        "comparable, and none is shown."
    )


def intervals(config: Config, dataset: str) -> list[str]:
    """Explain what the intervals cover and how they were computed."""
    n_subjects, resamples = len(config.datasets[dataset].targets), config.evaluation.bootstrap_samples
    over_subjects = "There is one target subject: no interval says what others would give."
    if n_subjects > 1:
        over_subjects = (
            f"Intervals of the total are over subjects: what other subjects would give ({resamples:,} resamples of subjects, then of "
            f"their trials, brought to Student's t for {n_subjects} subjects)."
        )
        if n_subjects == 2:
            over_subjects += " Two subjects say little of others: these intervals are wide."
    return [
        "Scores are in percent. The total is the mean over subjects. Intervals are 95 %, of one number each: they are not corrected for "
        "how many are shown.",
        over_subjects,
        f"Intervals of a subject, and of all differences, are over trials ({resamples:,} resamples of trials within subjects): what "
        "other trials of these subjects would give, not what other subjects would. The CSV has both.",
    ]


def tests(config: Config) -> list[str]:
    """Explain the tests, and the meaning of a star, p and d."""
    evaluation = config.evaluation
    return [
        "Tests against chance and null controls permute the references of a subject's trials of the same instruction "
        f"({evaluation.permutations:,} times, the same for the model and for the control), one-sided. Style stays as it is under "
        "permutation: they ask whether the model's advantage is about the trial's own clip.",
        "Tests against other conditions, which know something of the clips too, swap the two texts of a trial "
        f"({evaluation.permutations:,} times; all trials of a clip together) and ask which of the two scores higher, in either direction.",
        "p is corrected for the number of scores (largest standardised one) and of comparisons (Holm: null controls; all others in both "
        f"directions). * (the model beats) and ‡ (the model is beaten) mark p < {evaluation.significance:g} after both; against a null "
        "control the interval of the difference over trials must also lie above 0. 'p' is that of the largest of all scores; 'p own clip' "
        "tests a condition's texts by themselves against chance. All tests are of these subjects: what they show need not hold in others.",
        "d is Cohen's d of the paired differences of trials (mean by standard deviation, within subjects); for corpus-level SacreBLEU "
        "it is that of the sentence-level scores.",
    ]


def conditions(config: Config, dataset: str, against: str = CAPTIONS) -> list[str]:
    """Describe the conditions by kind; list impossible ones with reasons, and those not requested with the setting that adds them."""
    present = config.conditions(dataset, against)
    sentences = []
    for kind, what in KINDS.items():
        of_kind = [CONDITIONS[name] for name in present if CONDITIONS[name].kind == kind and kind != "model"]
        if of_kind:
            sentences.append(f"{LABELS[kind]} ({what}): " + "; ".join(f"{c.title}: {c.what}" for c in of_kind) + ".")
    if config.captioner.kind == "given" and "captioner" in present:
        sentences.append("The captions are given: the captioner's second answer is another of the data set's descriptions of the clip.")
    missing = [f"{CONDITIONS[name].title} ({reason})" for name, reason in config.impossible(dataset, against).items()]
    if missing:
        sentences.append(f"Asked for, and impossible here: {'; '.join(missing)}.")
    if others := [CONDITIONS[name].title for name in CONDITIONS if name not in {"model", *config.decoding.asked_for}]:
        demo = "; the demo has them by `make demo-full`" if config.datasets[dataset].simulated else ""
        sentences.append(f"Left out of this run: {'; '.join(others)}. `decoding: {{controls: all}}` adds them{demo}.")
    return sentences


NOMINAL, EXPECTED = "nominal chance", "model, references permuted"
LABELS = {"model": "Model", "null": "Null controls", "control": "Controls", "ablation": "Ablations", "ceiling": "Ceilings"}


def metrics(config: Config, signatures: Mapping[str, str], against: str = CAPTIONS) -> list[str]:
    """Explain how metrics were computed."""
    names = NAMES_OF[against]
    styled = (
        "A text without a brain may exceed it: the candidates are captions of all instructions, and the style of a text tells its own. "
        if against == CAPTIONS
        else ""
    )
    embedded = config.evaluation.bertscore_model == "embedded"
    small = ["BERTScore is by all-MiniLM-L6-v2, a small encoder whose values do not compare with those of others."] if embedded else []
    return [
        *small,
        *(f"{name}: {signature}." for name, signature in signatures.items()),
        f"SacreBLEU is corpus-level per subject; all else are means over trials. Identification: the {names[:-1]} of the clip found "
        f"among the distinct {names} of the subject's test clips (top-1), or against others (n-way), by the cosine of sentence embeddings; "
        "ties are shared.",
        f"'{NOMINAL}' of identification is 1 in the number of candidates. {styled}"
        f"'{EXPECTED}' is what style earns: the mean of the model's scores when the references of the trials of an instruction are "
        "permuted.",
    ]
