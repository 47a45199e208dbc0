"""Tables in the paper's layout, as Markdown and LaTeX, with what a reader must know to believe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from boldscribe.config import Config

# Columns of the printed tables, in the paper's order; the CSV has sentence-level BLEU too.
COLUMNS = {
    "bertscore": "BERTScore",
    "sacrebleu_1": "SacreBLEU-1",
    "sacrebleu_2": "SacreBLEU-2",
    "rouge_l_f": "ROUGE-L F",
    "rouge_l_p": "ROUGE-L P",
    "rouge_l_r": "ROUGE-L R",
    "identification_2way": "Identification 2-way",
    "identification": "Identification top-1",
}
CONDITIONS = {"model": "model", "llm": "LLM without brain", "shuffled": "shuffled trials", "noise": "noise"}
MARK = "†"
STAR = "*"


def title(config: Config, dataset: str) -> str:
    """Number and name of a table; says so where the BOLD is simulated."""
    settings = config.datasets[dataset]
    return f"Table {settings.table}. {settings.title or dataset}" + (": SIMULATED BOLD" if settings.simulated else "")


def notes(config: Config, dataset: str, values: pd.DataFrame, data: str) -> list[str]:
    """What the numbers are, one sentence or two each; `data` says which test clips source subjects saw, and what is left out."""
    evaluation, simulated = config.evaluation, config.datasets[dataset].simulated
    published = "The paper does not name its validation subjects: its rows stand beside ours by their order."
    if simulated:
        published = (
            f"The BOLD is simulated (signal at {config.simulation.snr:g} times the default): no brain was measured. The "
            "published values were measured on other data, by larger models: they are not comparable with this miniature."
        )
    embedded = evaluation.bertscore_model == "embedded"
    scale = "rescaled by the baseline of unrelated sentences" if evaluation.bertscore_baseline else "not rescaled"
    encoder = "all-MiniLM-L6-v2, a small encoder whose values do not compare with those of others" if embedded else "the configured encoder"
    return [
        published,
        references(config),
        data,
        f"Scores are in percent, with 95 % intervals of a percentile bootstrap ({evaluation.bootstrap_samples} resamples of trials within "
        "subjects, seeded). The total is the mean over subjects. Intervals say what other trials of these subjects would give, not what "
        "other subjects would, and are not corrected for the number of comparisons.",
        "Controls: the LLM without brain has the same prompt and no fMRI tokens; shuffled trials are decoded from other trials of the "
        "same subject; noise is Gaussian, with the mean and covariance of the subject's BOLD. What a score owes to the brain is its "
        "distance from the controls. The LLM without brain has never learnt what captions look like: by form alone a model beats it in "
        "every score of texts, though not in identification; shuffled trials and noise have that form.",
        f"BERTScore: F1, {encoder}, layer {evaluation.bertscore_layer}, {scale}. SacreBLEU: corpus-level per subject, 13a tokenizer, "
        "cased. ROUGE-L: mean over trials, no stemmer.",
        "Identification: the caption of the clip found among the distinct captions of the subject's test clips (top-1), or against one "
        "other (2-way), by the cosine of sentence embeddings; ties are shared.",
        *(f"{MARK} {note}." for note in dict.fromkeys(values["note"].dropna()) if note),
    ]


def references(config: Config) -> str:
    """Who wrote the references, and what follows where it is not Video-LLaMA."""
    captioner = config.captioner
    aligned = {"video_llama": "Video-LLaMA"}[captioner.alignment_target]
    written = f"The references are captions by {captioner.author}; fMRI is aligned with the video tokens of {aligned}, whose LLM decodes."
    if captioner.kind == "video_llama":
        return written
    return f"{written} The paper's references are Video-LLaMA's: its scores and these are not comparable."


def grid(values: pd.DataFrame) -> list[list[str]]:
    """Rows of the table: the paper's row, the condition, and a cell per column of `COLUMNS`: value, interval, mark of a wrong value."""
    rows = []
    for (row, condition), group in values.groupby(["row", "condition"], sort=False):
        entries = {entry["metric"]: entry for entry in group.to_dict("records")}
        cells = [_cell(entries[m], "value") if m in entries else "" for m in COLUMNS]
        rows.append([str(row), CONDITIONS.get(str(condition), str(condition)), *cells])
    return rows


def difference_grid(differences: pd.DataFrame) -> list[list[str]]:
    """The same for differences; a star marks an interval that excludes 0."""
    rows = []
    for (row, control), group in differences.groupby(["row", "control"], sort=False):
        entries = {entry["metric"]: entry for entry in group.to_dict("records")}
        cells = [_cell(entries[m], "difference") for m in COLUMNS]
        rows.append([str(row), f"model − {CONDITIONS.get(str(control), str(control))}", *cells])
    return rows


def verdicts(differences: pd.DataFrame) -> list[str]:
    """In how many of the total's scores the model is better or worse than each control."""
    sentences = []
    of_total = differences[(differences["row"] == "Total") & differences["metric"].isin(COLUMNS)]
    for control, group in of_total.groupby("control", sort=False):
        better, worse = ((group["low"] > 0).sum(), (group["high"] < 0).sum())
        sentences.append(
            f"Against {CONDITIONS.get(str(control), str(control))}, the model is better in {better} and worse in {worse} of {len(group)} "
            f"scores; in {len(group) - better - worse} the interval of the difference includes 0."
        )
    return sentences


def markdown(config: Config, dataset: str, values: pd.DataFrame, differences: pd.DataFrame, data: str) -> str:
    """The whole page of a table: title, verdicts, table, differences, notes."""
    parts = [f"# {title(config, dataset)}", *verdicts(differences), _markdown_table(grid(values))]
    if len(differences):
        parts += ["## Model minus control", f"\\{STAR} the 95 % interval excludes 0.", _markdown_table(difference_grid(differences))]
    return "\n\n".join([*parts, "## Notes", "\n".join(f"- {note}" for note in notes(config, dataset, values, data))]) + "\n"


def latex(config: Config, dataset: str, values: pd.DataFrame, data: str) -> str:
    """The table as a LaTeX float; needs the packages booktabs and graphicx."""
    lines, previous = [], ""
    for row in grid(values):
        if previous not in ("", row[0]):
            lines.append(r"\midrule")
        lines.append(" & ".join(_escape(cell) for cell in [row[0] if row[0] != previous else "", *row[1:]]) + r" \\")
        previous = row[0]
    caption = _escape(". ".join([title(config, dataset), " ".join(notes(config, dataset, values, data))]))
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{dataset}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{ll{'r' * len(COLUMNS)}}}",
            r"\toprule",
            " & ".join(["Subject", "Condition", *COLUMNS.values()]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def _cell(entry: Mapping[Any, Any], name: str) -> str:
    wrong = not pd.isna(entry.get("note")) and entry.get("note")
    mark = MARK if wrong else STAR if entry.get("excludes_zero") else ""
    rounded = entry[name] + 1e-9  # half a hundredth goes up, as in the paper: a mean of 35.755 is printed as 35.76
    value = f"{rounded:.2f}{mark}" if name == "value" else f"{rounded:+.2f}{mark}"
    return value if pd.isna(entry["low"]) else f"{value} [{entry['low']:.2f}, {entry['high']:.2f}]"


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    header = ["Subject", "Condition", *COLUMNS.values()]
    lines = [header, ["---", "---", *["---:"] * len(COLUMNS)]]
    lines += [[f"**{cell}**" if cell and row[1] == "model" else cell.replace("*", r"\*") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MARK: r"$^\dagger$", "−": "$-$"}
    return "".join(special.get(c, rf"\{c}" if c in "&%$#_{}" else c) for c in text)
