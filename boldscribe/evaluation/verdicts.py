"""Test results in words: alarms first, then whom the model beats, who beats it, and from whom it cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from boldscribe.conditions import CONDITIONS, Kind
from boldscribe.config import Config
from boldscribe.descriptions import CAPTIONS, DESCRIPTIONS
from boldscribe.evaluation.comparisons import ANY, CHANCE
from boldscribe.evaluation.metrics import title_of

ALARM = "ALARM"
UNFIT = {CAPTIONS: "the references do not describe the clips", DESCRIPTIONS: "the captions or people's sentences do not describe the clips"}
NAMES_OF = {CAPTIONS: "captions", DESCRIPTIONS: "sentences"}  # what references are called
NOUNS: dict[Kind, str] = {"null": "null controls", "control": "other controls", "ablation": "other trainings", "ceiling": "ceilings"}


def p_text(p: float) -> str:
    """Format a p-value with two digits; it is never 0 in a permutation test."""
    return f"{p:.2g}"


def alarms(tests: pd.DataFrame, references: str = CAPTIONS) -> dict[str, str]:
    """Return an alarm for each condition whose texts contradict its kind, all subjects together: condition → alarm.

    A null control knows nothing of the clips and must not tell them apart. A ceiling saw the clips: its texts must identify them, and
    better than the model's. If not, the references are captions of something else.

    Args:
        tests: the columns `TESTS`.
        references: what the texts were scored against, captions or people's sentences.
    """
    of_total = tests[tests["row"] == "Total"]
    against_chance = of_total[of_total["against"] == CHANCE]
    leaking = against_chance[(against_chance["kind"] == "null") & against_chance["beats"]]
    raised = {
        str(condition): f"{ALARM}: the null control '{CONDITIONS[str(condition)].title}' tells trials apart (p = "
        f"{p_text(group['p_holm'].min())} after Holm), which it cannot unless something of the clips has leaked to it: believe no number "
        "here until that is found"
        for condition, group in leaking.groupby("condition", sort=False)
    }
    for ceiling, own in against_chance[against_chance["kind"] == "ceiling"].groupby("condition", sort=False):
        name = f"the ceiling '{CONDITIONS[str(ceiling)].title}'"
        own = _identification(own)
        lost = _identification(of_total[(of_total["condition"] == "model") & (of_total["against"] == ceiling)])
        if not own["beats"].any():
            raised[str(ceiling)] = (
                f"{ALARM}: {name} saw the clips, but its texts do not identify them above chance (p = {p_text(own['p_holm'].min())} after "
                f"Holm): {UNFIT[references]}, or there are too few trials to tell: read some references next to their clips before you "
                "believe a number"
            )
        elif lost["beats"].any():
            raised[str(ceiling)] = (
                f"{ALARM}: the model identifies the clips better than {name}, which saw them (p = {p_text(lost['p_holm'].min())} after "
                f"Holm): {UNFIT[references]}: read some references next to their clips before you believe a number"
            )
    return raised


def _identification(tests: pd.DataFrame) -> pd.DataFrame:
    """Select the tests of identification; of any score, if there are none of identification."""
    of_clips = tests[tests["metric"].str.startswith("identification")]
    return of_clips if len(of_clips) else tests[tests["metric"] == ANY]


def verdicts(config: Config, tests: pd.DataFrame, references: str = CAPTIONS) -> list[str]:
    """Summarise all subjects together: alarms, the model against chance, and against the controls of each kind."""
    of_total = tests[tests["row"] == "Total"]
    overall = of_total[of_total["metric"] == ANY]
    against_chance = overall[(overall["condition"] == "model") & (overall["against"] == CHANCE)].iloc[0]
    of_subjects = tests[(tests["row"] != "Total") & (tests["metric"] == ANY)]
    own_tests = of_subjects[(of_subjects["condition"] == "model") & (of_subjects["against"] == CHANCE)]
    n_subjects = len(own_tests)
    own = f"the {NAMES_OF[references]} of their own clips"
    apart = "tells" if against_chance["beats"] else "does not tell"
    sentences = [
        *(f"{alarm}." for alarm in alarms(tests, references).values()),
        f"The model {apart} trials apart in {_these(n_subjects)}: its texts {'fit' if against_chance['beats'] else 'do not fit'} {own} "
        f"better than those of other clips of the same instruction (p = {p_text(against_chance['p'])}, {config.evaluation.permutations:,} "
        f"permutations, largest of all scores).{_of_other_people(own_tests['beats'], config.evaluation.significance)}",
    ]
    for kind, noun in NOUNS.items():
        of_kind = overall[(overall["against"] != CHANCE) & (overall["kind"] == kind)]
        if len(of_kind) and kind == "null":
            sentences.append(_against(noun, of_kind, of_total, config.evaluation.significance))
        elif len(of_kind):
            sentences.append(_compared(noun, of_kind, of_total))
    return sentences


def _these(n_subjects: int) -> str:
    return "this subject" if n_subjects == 1 else f"these {n_subjects} subjects" if n_subjects else "these subjects"


def _of_other_people(beats: pd.Series, significance: float) -> str:
    """State in how many subjects a finding holds by itself, and what that says of others (`prevalence`); empty if in none."""
    if not beats.any():
        return ""
    share = prevalence(int(beats.sum()), len(beats), significance)
    return (
        f" Taken by themselves, {beats.sum()} of {len(beats)} subjects show it: with 95 % probability it holds in at least "
        f"{100 * share:.0f} % of people."
    )


def prevalence(significant: int, n_subjects: int, significance: float) -> float:
    """Return the lower bound (95 %) of the share of people in whom an effect holds (Ince et al. 2021, eLife 10:e62461).

    A subject's test is significant with the probability `significance` where there is no effect, and always where there is one. The
    share has a uniform prior.
    """
    posterior = stats.beta(significant + 1, n_subjects - significant + 1)
    below = posterior.cdf(significance)
    return float((posterior.ppf(below + 0.05 * (1 - below)) - significance) / (1 - significance))


def _compared(noun: str, overall: pd.DataFrame, of_total: pd.DataFrame) -> str:
    """State which conditions of a kind the model beats, which beat it, and from which it cannot be told apart."""
    p_of = {(e["condition"], e["against"]): (e["p_holm"], bool(e["beats"])) for e in overall.to_dict("records")}
    groups: dict[str, list[str]] = {}
    undecided = []
    for control in overall.loc[overall["condition"] == "model", "against"]:
        (p_model, wins), (p_control, loses) = p_of["model", control], p_of[control, "model"]
        name = f"{CONDITIONS[control].title} (p = {p_text(min(p_model, p_control))})"
        single = of_total[(of_total["condition"] == "model") & (of_total["against"] == control) & (of_total["metric"] != ANY)]
        if wins and loses:
            groups.setdefault("beats in some scores, and is beaten in others by,", []).append(name)
        elif wins or loses:
            groups.setdefault("beats" if wins else "is beaten by", []).append(name)
        elif not (single["detectable"].fillna(0) != 0).any():
            groups.setdefault("scores the same in every trial as", []).append(CONDITIONS[control].title)
        else:
            groups.setdefault("cannot be told apart from", []).append(name)
            undecided.append(single)
    said = "; it ".join(f"{verb} {_listed(names)}" for verb, names in groups.items())
    return f"Of the {noun}, the model {said}{_could_be_seen(undecided)}."


def _could_be_seen(undecided: Sequence[pd.DataFrame]) -> str:
    """State the smallest differences that would have been seen where none was, in the first score and in the first of identification."""
    if not undecided:
        return ""
    largest = pd.concat(undecided).groupby("metric", sort=False)["detectable"].max().dropna()
    shown = [*largest.index[:1], *[metric for metric in largest.index if str(metric).startswith("identification")][:1]]
    return f" (a difference of {_listed([f'{largest[m]:.1f} in {title_of(str(m))}' for m in dict.fromkeys(shown)])} would have been seen)"


def _against(noun: str, overall: pd.DataFrame, of_total: pd.DataFrame, significance: float) -> str:
    """State how many controls of a kind the model beats, in how many scores, and which it does not beat, and why.

    A claim needs both a small p (the texts tell trials apart better) and higher scores, so that a small p alone must be explained.
    """
    beaten, others = overall[overall["beats"]], overall[~overall["beats"]]
    sentence = f"The model beats {len(beaten)} of {len(overall)} {noun}"
    if len(beaten):
        single = of_total[(of_total["metric"] != ANY) & of_total["against"].isin(beaten["against"])]
        counts = single.groupby("against", sort=False)["beats"].agg(["sum", "size"])
        fewest = counts["sum"].idxmin()
        sentence += (
            f" (largest p after Holm {p_text(beaten['p_holm'].max())}; fewest scores against {CONDITIONS[str(fewest)].title}: "
            f"{counts['sum'].min()} of {counts['size'].max()})"
        )
    apart = others["p_holm"] < significance
    if not apart.all():
        sentence += f"; it does not beat {_named(others[~apart])}"
    if apart.any():
        them = "it" if apart.sum() == 1 else "them"
        sentence += f"; it tells trials apart better than {_named(others[apart])}, but does not beat {them}: its scores are not higher"
    return sentence + "."


def _named(tests: pd.DataFrame) -> str:
    return _listed([f"{CONDITIONS[name].title} (p = {p_text(p)})" for name, p in zip(tests["against"], tests["p_holm"], strict=True)])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
