"""BERTScore of all conditions at once against the bert-score package called once per condition: `python -m benchmarks.bertscore --help`."""

from __future__ import annotations

import tempfile
from contextlib import chdir
from functools import partial
from pathlib import Path

import bert_score
import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertModel

from benchmarks.measuring import machine, timed
from boldscribe.evaluation.bertscore import BertScore
from boldscribe.evaluation.decoded import read_decoded
from boldscribe.evaluation.scores import PAIR, pairs_of
from boldscribe.models.embedded_models import unpack


def pairs_of_results(results: Path) -> pd.DataFrame:
    """`dataset, condition, prediction, reference` of all pairs in the tables of scores and pairs of a finished run."""
    tables = []
    for folder in sorted((results / "decoded").iterdir()):
        captions = sorted((results / "stimuli" / folder.name).glob("test-*_captions.parquet"))
        tables.append(pairs_of(read_decoded(sorted(folder.glob("condition-*.parquet")), captions)).assign(dataset=folder.name))
    return pd.concat(tables, ignore_index=True)


def pairs_at_full_scale(conditions: int = 20, trials: int = 180, instructions: int = 5) -> pd.DataFrame:
    """The same for a subject of HAD, with texts of 30 to 60 drawn words in place of captions."""
    rng = np.random.default_rng(0)
    words = [
        "a",
        "man",
        "woman",
        "boy",
        "dog",
        "in",
        "red",
        "blue",
        "shirt",
        "runs",
        "plays",
        "sings",
        "on",
        "the",
        "grass",
        "with",
        "ball",
    ]
    drawn = [" ".join(rng.choice(words, rng.integers(30, 61))) for _ in range((conditions + 1) * trials)]
    names = np.repeat([f"condition {i}" for i in range(conditions)], trials)
    texts = pd.DataFrame({"condition": names, "subject": "01", "prediction": drawn[trials:], "reference": drawn[:trials] * conditions})
    texts["trial"] = np.tile(np.arange(trials), conditions)
    return pairs_of(texts.assign(instruction=texts["trial"] % instructions)).assign(dataset="had")


def make_encoder(folder: Path) -> Path:
    """An encoder of roberta-large's shape with random weights, behind MiniLM's tokenizer."""
    unpack("sentence_encoder", folder / "minilm")
    tokenizer = AutoTokenizer.from_pretrained(folder / "minilm")
    torch.manual_seed(0)
    shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    return folder / "encoder"


def by_package(pairs: pd.DataFrame, folder: Path, layer: int) -> NDArray[np.float64]:
    """As the package's README shows it: a call of `score` for each condition, with its default batch size."""
    scores = np.zeros(len(pairs))
    with chdir(folder.parent):
        for rows in pairs.groupby(["dataset", "condition"]).indices.values():
            texts = (pairs[side].iloc[rows].tolist() for side in PAIR)
            scores[rows] = 100 * bert_score.score(*texts, model_type=folder.name, num_layers=layer)[2].numpy()
    return scores


def by_us(pairs: pd.DataFrame, folder: Path, layer: int) -> NDArray[np.float64]:
    """As the scores step does: each data set's distinct pairs once."""
    scores = np.zeros(len(pairs))
    for rows in pairs.groupby("dataset").indices.values():
        of_dataset = pairs.iloc[rows]
        distinct = of_dataset[PAIR].drop_duplicates(ignore_index=True)
        found = distinct.assign(score=BertScore(folder, layer, None)(distinct["prediction"].tolist(), distinct["reference"].tolist()))
        scores[rows] = of_dataset.merge(found, on=PAIR, how="left")["score"]
    return scores


@click.command()
@click.argument("results", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--repeats", default=1, show_default=True, help="Runs of each, in turn; the fastest counts.")
def main(results: Path | None, repeats: int) -> None:
    """Time both and print rates, their ratio and how far the scores differ.

    On the pairs of a finished run in RESULTS, with the last layer of its encoder. Without RESULTS on a subject of HAD with 20 conditions
    and drawn texts, with layer 17 of an encoder of roberta-large's shape with random weights: for a GPU.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = (results / "models" / "bertscore_encoder").resolve() if results else make_encoder(Path(name))
        pairs, layer = (
            (pairs_of_results(results), AutoConfig.from_pretrained(folder).num_hidden_layers) if results else (pairs_at_full_scale(), 17)
        )
        best: dict[str, float] = {}
        scores: dict[str, NDArray[np.float64]] = {}
        for _ in range(repeats):
            for title, function in (("bert-score, once per condition", by_package), ("ours, all conditions at once", by_us)):
                scores[title], wall = timed(partial(function, pairs, folder, layer))
                best[title] = min(wall, best.get(title, np.inf))
    package, ours = best.values()
    apart = np.abs(np.subtract(*scores.values()))
    calls = len(pairs[["dataset", "condition"]].drop_duplicates())
    print(f"BERTScore of {len(pairs)} pairs, {len(pairs.drop_duplicates(PAIR))} of them distinct, of {calls} conditions; {machine()}\n")
    print("| | s | pairs/s |\n| --- | ---: | ---: |")
    print("\n".join(f"| {title} | {wall:.1f} | {len(pairs) / wall:.0f} |" for title, wall in best.items()))
    print(f"| **ratio** | | **{package / ours:.1f}** |\n")
    print(f"Scores differ by {np.median(apart):.1e} % in the median and {apart.max():.1e} % at most, where the package's padding counts.")


if __name__ == "__main__":
    main()
