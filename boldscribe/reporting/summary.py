"""What the tests say, in words; and what a reader must be warned of first."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from boldscribe.conditions import CONDITIONS, NULLS, Kind
from boldscribe.reporting.scoreboard import title_of

KIND_OF = {name: condition.kind for name, condition in CONDITIONS.items()}
NAMED = 6  # how many things a sentence names before it counts the rest
NOUNS: dict[Kind, tuple[str, str]] = {
    "null": ("null control", "null controls"),
    "control": ("control that knows something of the clip", "controls that know something of the clip"),
    "ablation": ("ablation", "ablations"),
}


ANY, CHANCE = "any", "chance"  # what tests name: a metric, and a comparison (docs/data.md)


def of_total(tests: pd.DataFrame) -> pd.DataFrame:
    """The tests of all subjects together that compare the model with a control, one per score."""
    against_control = (tests["condition"] == "model") & tests["against"].isin(CONDITIONS)
    return tests[against_control & (tests["row"] == "Total") & (tests["metric"] != ANY)]


def in_words(name: str, simulated: bool, tests: pd.DataFrame) -> list[str]:
    """Which controls the model beats and which it does not, a sentence or two for each kind.

    Args:
        name: of the data set.
        simulated: whether its BOLD is.
        tests: `D_tests.csv` (docs/data.md); `beats` says where the model is better, and significantly so after correction.
    """
    judged = of_total(tests)
    sentences = [_of_kind(*nouns, own) for kind, nouns in NOUNS.items() if len(own := judged[judged["against"].map(KIND_OF) == kind])]
    if not sentences:
        return [f"On {name}, the model was tested against no control: its scores say nothing by themselves."]
    where = f"On {name} ({'simulated' if simulated else 'measured'} BOLD)"
    return [f"{where}, the model {sentences[0]}", *(f"It {sentence}" for sentence in sentences[1:])]


def _of_kind(singular: str, plural: str, judged: pd.DataFrame) -> str:
    beaten = judged.groupby("against", sort=False)["beats"].agg(["sum", "size"])
    titles = {control: CONDITIONS[str(control)].title for control in beaten.index}
    nowhere = [titles[c] for c in beaten.index[beaten["sum"] == 0]]
    partly = [f"{titles[c]} in {n} of {size}" for c, n, size in beaten.itertuples() if 0 < n < size]
    n_all, noun = len(beaten), singular if len(beaten) == 1 else plural
    if len(nowhere) == n_all:
        return f"does not beat {'the' if n_all == 1 else f'any of {n_all}'} {noun} in any score: {_named(nowhere)}."
    n_everywhere = n_all - len(nowhere) - len(partly)
    sentence = f"beats {n_all - len(nowhere)} of {n_all} {noun}"
    sentence += f", {n_everywhere} of them in all {beaten['size'].max()} scores" if partly and n_everywhere else ""
    sentence += f" in all {beaten['size'].max()} scores" if not partly else f" ({_named(partly)} scores)"
    return sentence + (f"; it does not beat {_named(nowhere, 'or')} in any." if nowhere else ".")


def _named(names: Sequence[str], last: str = "and") -> str:
    shown = list(names) if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def null_alarms(tests: pd.DataFrame) -> list[str]:
    """Null controls whose texts tell trials apart, which by construction they cannot: something leaks, or a test is wrong.

    Args:
        tests: `D_tests.csv`; those against chance are of a condition's own texts.
    """
    of_nulls = tests["condition"].isin(NULLS) & (tests["against"] == CHANCE)
    own = tests[of_nulls & (tests["row"] == "Total") & (tests["metric"] != ANY)]
    alarms = []
    for condition, group in own[own["beats"]].groupby("condition", sort=False):
        where = f"in {_named([title_of(m) for m in group['metric']])}; corrected p ≤ {group['p_holm'].max():.2g}"
        alarms.append(
            f"The null control “{CONDITIONS[str(condition)].title}” tells trials apart ({where}), though it knows nothing of them. Until "
            "this is explained, believe no score of this data set."
        )
    return alarms
