"""How often 95 % intervals hold the truth, and how often a model is said to beat controls where nothing is, or something small.

    TQDM_DISABLE=1 python -m benchmarks.coverage [--experiments 500] [--only intervals|tests|decoders] [--subjects 2 4]

Experiments are drawn from known truths, and go through the very functions that make the tables. docs/statistics.md has the figures.

Intervals: trials' scores are skewed (beta, SD 20) about the subject's own mean, which is normal about the population's with a
standard deviation of 0 to 3 times the standard error of a subject's mean. Corpus-level BLEU is from words that match with that
probability, so that its truth is known as well. Plain: the percentile interval of the same resamples, as most would take it.

Tests: a pair of text and reference scores by the style of condition and instruction, by the text, by the reference, and by chance.
The model and its controls differ in style; `information` (in SD of a pair's noise) is added where the reference is the text's own.

Decoders: the model and five informed controls without differences in style, each right in a share of its trials, drawn independently. Where
the shares are equal, every claim that one beats the other is false.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from boldscribe.conditions import CONDITIONS, NULLS
from boldscribe.config import Config
from boldscribe.evaluation.comparisons import ANY, CHANCE, judged
from boldscribe.evaluation.score_tables import Subject
from boldscribe.evaluation.statistics import SENTENCE_BLEU, Floats, Row, rows
from boldscribe.evaluation.tables import bootstrap_rows, permutation_rows

DESIGNS = [(2, 48), (4, 180), (8, 60), (26, 60)]  # target subjects, test trials of each: the demo and Urgen, HAD, further rotations
SPREADS = (0.0, 1.0, 3.0)
N_METRICS = 8
CONTROLS = [*NULLS, "trueclass", "ridge"]
DECODERS = ["shuffledclass", "trueclass", "predictedclass", "nearest", "ridge"]
# information (SD), and the share of trials in which the model, and each other decoder, has it
EQUAL_AND_UNEQUAL = [(0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (3.0, 0.7, 0.7), (6.0, 0.7, 0.7), (3.0, 0.8, 0.5), (3.0, 0.5, 0.8)]


@dataclass(frozen=True)
class Coverage:
    """Whether the intervals (score, corpus-level BLEU, difference of scores) of an experiment held their truths."""

    trials: Sequence[bool]
    subjects: Sequence[bool]
    plain: Sequence[bool]


def scored_subject(mean_C: Floats, n_trials: int, rng: np.random.Generator) -> Floats:
    """Statistics (trials, 2 conditions, 1 + 6) of a subject with these true scores (%): one mean, and counts of BLEU."""
    concentration = mean_C / 100 * (1 - mean_C / 100) / 0.2**2 - 1
    share_TC = rng.beta(mean_C / 100 * concentration, (1 - mean_C / 100) * concentration, (n_trials, len(mean_C)))
    words_TC = np.repeat(rng.integers(6, 15, (n_trials, 1)), len(mean_C), axis=1)
    correct_TC = rng.binomial(words_TC, share_TC)
    counts = [correct_TC, correct_TC, words_TC, words_TC, words_TC, words_TC]
    return np.stack([100 * share_TC, *counts], axis=-1).astype(float)


def one_coverage(n_subjects: int, n_trials: int, spread: float, n_resamples: int, rng: np.random.Generator) -> Coverage:
    """An experiment with two conditions, whose differences between subjects are as large as those of each."""
    population_C = np.array([45.0, 40.0])
    means_SC = np.clip(population_C + rng.normal(0, spread * 20 / np.sqrt(n_trials), (n_subjects, 2)), 6, 94)  # beta's limit at SD 20
    *_, total = rows([scored_subject(mean_C, n_trials, rng) for mean_C in means_SC], n_resamples, rng)
    difference = total.first_less_others()
    truth_of_these, truth = ([m[0], m[0], m[0] - m[1]] for m in (means_SC.mean(0), population_C))
    intervals = [
        (truth_of_these, total.over_trials(), difference.over_trials()),
        (truth, total.over_subjects(), difference.over_subjects()),
        (truth, plain_interval(total), plain_interval(difference)),
    ]
    held = []
    for truths, (low_CM, high_CM), (low_1M, high_1M) in intervals:
        ends = [(low_CM[0, 0], high_CM[0, 0]), (low_CM[0, 1], high_CM[0, 1]), (low_1M[0, 0], high_1M[0, 0])]
        held.append([bool(low <= t <= high) for t, (low, high) in zip(truths, ends, strict=True)])
    return Coverage(*held)


def plain_interval(row: Row) -> tuple[Floats, Floats]:
    """The percentile interval of the hierarchical bootstrap as it is."""
    assert row.hierarchical_BCM is not None
    low, high = np.quantile(row.hierarchical_BCM, [0.025, 0.975], axis=0)
    return low, high


def simulated_subject(
    n_trials: int,
    n_conditions: int,
    rng: np.random.Generator,
    *,
    advantage: float,
    information: float,
    right: tuple[float, float] = (1.0, 0.0),
    styles: float = 1.0,
    n_instructions: int = 5,
) -> Subject:
    """Pairs of a subject: style, texts, references and noise, and `information` about the own clip in a share of the trials.

    Args:
        advantage: of the first condition in style.
        right: the share, of the first condition and of the others.
        styles: SD of the styles of conditions and instructions.
    """
    instructions_T = rng.integers(0, n_instructions, n_trials)
    rows_P, columns_P = np.nonzero(np.equal.outer(instructions_T, instructions_T))
    shape = (n_conditions, N_METRICS)
    style_ICM = styles * rng.normal(0, 1, (n_instructions, *shape))
    texts_TCM, references_TM = rng.normal(0, 1, (n_trials, *shape)), rng.normal(0, 1, (n_trials, 1, N_METRICS))
    noise_PCM = rng.normal(0, 1, (len(rows_P), *shape)) + rng.normal(0, 1, (len(rows_P), n_conditions, 1))  # metrics correlate
    scores_PCM = style_ICM[instructions_T[rows_P]] + texts_TCM[rows_P] + references_TM[columns_P] + noise_PCM
    scores_PCM[:, 0] += advantage
    shares_C = np.array([right[0], *[right[1]] * (n_conditions - 1)])
    scores_PCM[rows_P == columns_P] += information * (rng.uniform(size=(n_trials, n_conditions, 1)) < shares_C[:, None])
    matched_PC1 = rng.binomial(10, stats.norm.cdf(scores_PCM[..., :1] / 4))
    counts_PCK = np.concatenate([matched_PC1, matched_PC1 // 2, np.full_like(matched_PC1, 10).repeat(4, -1)], axis=-1)
    pairs_PCK = np.concatenate([40 + 5 * scores_PCM, counts_PCK], axis=-1)
    pair_of = np.full((n_trials, n_trials), -1)
    pair_of[rows_P, columns_P] = np.arange(len(rows_P))
    clips = [f"{rng.integers(2**62)}" for _ in range(n_trials)]  # each subject saw its own
    return Subject(pairs_PCK[rows_P == columns_P], pairs_PCK, pair_of, [str(i) for i in instructions_T], clips)


def one_table(
    n_subjects: int,
    n_trials: int,
    seed: int,
    *,
    n_permutations: int,
    advantage: float,
    information: float,
    controls: Sequence[str] = CONTROLS,
    right: tuple[float, float] = (1.0, 0.0),
    styles: float = 1.0,
) -> pd.DataFrame:
    """The tests of the total of a simulated experiment: the model against the controls, and all against chance."""
    conditions = [name for name in CONDITIONS if name in ("model", *controls)]
    rng = np.random.default_rng(seed)
    drawn: dict[str, Any] = {"advantage": advantage, "information": information, "right": right, "styles": styles}
    own = [simulated_subject(n_trials, len(conditions), rng, **drawn) for _ in range(n_subjects)]
    names = {f"Subject-{i}": str(i) for i in range(1, n_subjects + 1)} | {"Total": ""}
    metrics = [*(f"metric_{m}" for m in range(N_METRICS - 2)), *SENTENCE_BLEU.values(), *SENTENCE_BLEU]
    config = Config.model_validate({"seed": seed, "evaluation": {"permutations": n_permutations, "bootstrap_samples": 200}})
    differences = bootstrap_rows(config, "had", names, own, conditions, metrics)[1].query("row == 'Total'")
    tests = permutation_rows(config, "had", names, own, conditions, metrics).query("row == 'Total'")
    return judged(tests, differences, config.evaluation.significance)


def summary(tests: pd.DataFrame) -> dict[str, float]:
    """What a table claims: of null controls beaten, of alarms, and of single tests."""
    overall = tests[tests["metric"] == ANY].set_index(["condition", "against"])
    nulls = [("model", name) for name in NULLS if ("model", name) in overall.index]
    of_nulls = [(name, CHANCE) for _, name in nulls]
    others = tests[(tests["against"] != CHANCE) & (tests["kind"] != "null")]
    return {
        "any null beaten": overall["beats"][nulls].any(),
        "all nulls beaten": overall["beats"][nulls].all(),
        "any other beaten": others["beats"].any(),
        "alarm": overall["beats"][of_nulls].any(),
        "one control, p < 0.05": overall["p"][nulls[0]] < 0.05,
        "model against chance": overall["beats"]["model", CHANCE],
    }


def _share(held: Sequence[bool]) -> str:
    """Share (%) of experiments with its 95 % binomial interval (Clopper & Pearson)."""
    low, high = stats.binomtest(int(np.sum(held)), len(held)).proportion_ci()
    return f"{100 * np.mean(held):.1f} ({100 * low:.1f}–{100 * high:.1f})"


def coverage_table(designs: Sequence[tuple[int, int]], n_experiments: int, n_resamples: int) -> None:
    """Print the coverage of each design and spread: of a mean, of corpus-level BLEU, and of a difference of means."""
    print("| subjects × trials | spread of subjects | trials: mean, BLEU, difference | subjects: mean, BLEU, difference | plain: mean |")
    print("| --- | ---: | --- | --- | --- |")
    for n_subjects, n_trials in designs:
        for spread in SPREADS:
            rng = np.random.default_rng([n_subjects, n_trials, int(10 * spread)])
            found = [one_coverage(n_subjects, n_trials, spread, n_resamples, rng) for _ in tqdm(range(n_experiments))]
            trials, subjects = (
                ", ".join(_share([getattr(f, kind)[i] for f in found]) for i in range(3)) for kind in ("trials", "subjects")
            )
            print(f"| {n_subjects} × {n_trials} | {spread:g} | {trials} | {subjects} | {_share([f.plain[0] for f in found])} |", flush=True)


def tests_table(designs: Sequence[tuple[int, int]], n_experiments: int, n_permutations: int) -> None:
    """Print how often a table claims something: under the null with equal and with better style, and with information planted."""
    for n_subjects, n_trials in designs:
        for advantage, information in ((0.0, 0.0), (2.0, 0.0), (0.0, 0.3), (0.0, 0.6), (0.0, 1.0)):
            claims = pd.DataFrame(
                summary(one_table(n_subjects, n_trials, s, n_permutations=n_permutations, advantage=advantage, information=information))
                for s in tqdm(range(n_experiments if information == 0 else n_experiments // 5))
            )
            if (n_subjects, advantage, information) == (designs[0][0], 0, 0):
                print("| subjects × trials | style | information | " + " | ".join(claims.columns) + " |")
                print("| --- | ---: | ---: | " + " | ".join("---" for _ in claims.columns) + " |")
            shares = " | ".join(_share(claims[name].tolist()) for name in claims)
            print(f"| {n_subjects} × {n_trials} | {advantage:g} | {information:g} | {shares} |", flush=True)


def decoders_table(designs: Sequence[tuple[int, int]], n_experiments: int, n_permutations: int) -> None:
    """Print how often the model is said to beat a decoder, or to be beaten by one, where they are equally good and where not."""
    print("| subjects × trials | information | right: model, others | one beaten | one beats | any of five beaten | any of five beats |")
    print("| --- | ---: | ---: | --- | --- | --- | --- |")
    for n_subjects, n_trials in designs:
        for information, *right in EQUAL_AND_UNEQUAL:
            claims: dict[str, list[bool]] = {}
            for controls in (["ridge"], DECODERS):
                for seed in tqdm(range(n_experiments)):
                    drawn: dict[str, Any] = {"advantage": 0.0, "information": information, "right": (right[0], right[1]), "styles": 0.0}
                    tests = one_table(n_subjects, n_trials, seed, n_permutations=n_permutations, controls=controls, **drawn)
                    overall = tests[(tests["metric"] == ANY) & (tests["against"] != CHANCE)]
                    for condition, group in overall.groupby(overall["condition"] == "model"):
                        claims.setdefault(f"{len(controls)} {condition}", []).append(bool(group["beats"].any()))
            shares = " | ".join(_share(claims[f"{n} {model}"]) for n in (1, len(DECODERS)) for model in (True, False))
            print(f"| {n_subjects} × {n_trials} | {information:g} | {right[0]:.0%}, {right[1]:.0%} | {shares} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--permutations", type=int, default=500)
    parser.add_argument("--only", choices=["intervals", "tests", "decoders"])
    parser.add_argument("--subjects", type=int, nargs="+", choices=[n for n, _ in DESIGNS], default=[n for n, _ in DESIGNS])
    args = parser.parse_args()
    designs = [design for design in DESIGNS if design[0] in args.subjects]
    if args.only in (None, "intervals"):
        coverage_table(designs, args.experiments, args.resamples)
    if args.only in (None, "tests"):
        tests_table(designs, args.experiments, args.permutations)
    if args.only in (None, "decoders"):
        decoders_table(designs, args.experiments, args.permutations)


if __name__ == "__main__":
    main()
