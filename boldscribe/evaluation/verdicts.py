"""Test results in words: alarms first, then the controls that the model beats and those that it does not."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from boldscribe.conditions import CONDITIONS, Kind
from boldscribe.config import Config
from boldscribe.evaluation.comparisons import ANY, CHANCE

ALARM = "ALARM"
NOUNS: dict[Kind, str] = {"null": "null controls", "control": "other controls", "ablation": "other trainings", "ceiling": "ceilings"}


def p_text(p: float) -> str:
    """Format a p-value with two digits; it is never 0 in a permutation test."""
    return f"{p:.2g}"


def alarms(tests: pd.DataFrame) -> dict[str, str]:
    """Return an alarm for each null control whose texts tell the trials' clips apart, all subjects together.

    Args:
        tests: the columns `TESTS`.
    """
    of_total = tests[(tests["row"] == "Total") & (tests["against"] == CHANCE) & (tests["kind"] == "null") & tests["beats"]]
    return {
        str(condition): f"{ALARM}: the null control '{CONDITIONS[str(condition)].title}' tells trials apart (p = "
        f"{p_text(group['p_holm'].min())} after Holm), which it cannot unless something of the clips has leaked to it: believe no number "
        "here until that is found"
        for condition, group in of_total.groupby("condition", sort=False)
    }


def verdicts(config: Config, tests: pd.DataFrame) -> list[str]:
    """Summarise all subjects together: alarms, the model against chance, and against the controls of each kind."""
    of_total = tests[tests["row"] == "Total"]
    overall = of_total[of_total["metric"] == ANY]
    against_chance = overall[(overall["condition"] == "model") & (overall["against"] == CHANCE)].iloc[0]
    apart = "tells" if against_chance["beats"] else "does not tell"
    sentences = [
        *(f"{alarm}." for alarm in alarms(tests).values()),
        f"The model {apart} trials apart: its texts {'fit' if against_chance['beats'] else 'do not fit'} the captions of their own clips "
        f"better than those of other clips of the same instruction (p = {p_text(against_chance['p'])}, {config.evaluation.permutations:,} "
        "permutations, largest of all scores).",
    ]
    for kind, noun in NOUNS.items():
        of_kind = overall[(overall["against"] != CHANCE) & (overall["kind"] == kind)]
        if len(of_kind):
            sentences.append(_against(noun, of_kind, of_total))
    return sentences


def _against(noun: str, overall: pd.DataFrame, of_total: pd.DataFrame) -> str:
    """State how many controls of a kind the model beats, in how many scores, and which it does not beat."""
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
    if len(others):
        named = [f"{CONDITIONS[name].title} (p = {p_text(p)})" for name, p in zip(others["against"], others["p_holm"], strict=True)]
        sentence += f"; it does not beat {_listed(named)}"
    return sentence + "."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
