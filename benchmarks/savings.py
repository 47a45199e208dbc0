"""What the demo's steps are spared on a CPU, each against what it replaces, in the same run: `python -m benchmarks.savings RESULTS`.

Products by oneDNN against MKL's; answers from which finished rows are dropped against transformers' own loop; CIDEr whose texts are weighed
once against pycocoevalcap's scorer called once per pair.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from pycocoevalcap.cider.cider_scorer import CiderScorer, cook_refs, cook_test
from torch import nn

from boldscribe.config import Config
from boldscribe.decoding.brain import load_bridge
from boldscribe.evaluation.caption_metrics import Cider, words
from boldscribe.models.products import OneDnnLinear
from boldscribe.models.token_files import read_fmri_tokens
from boldscribe.models.video_llama import load_llm

ROWS, WIDTHS = 48, (576, 1536)  # of the demo's LLM: prompts at once, and its MLP


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median CPU time of a piece of work, after a first time that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def products() -> tuple[float, float]:
    """MKL's and oneDNN's time for 2,000 products."""
    mkl, onednn = nn.Linear(*WIDTHS, bias=False), OneDnnLinear(*WIDTHS, bias=False)
    x = torch.randn(ROWS, WIDTHS[0])
    with torch.inference_mode():
        return tuple(seconds(lambda m=m: [m(x) for _ in range(2000)]) for m in (mkl, onednn))  # type: ignore[misc, return-value]


def answers(results: Path, dataset: str) -> tuple[float, float, float]:
    """Times of transformers' loop and of ours for the test trials of a data set, and the share of equal texts."""
    config = Config.load(results / "config.yaml")
    llm, bridge = load_llm(config, results / "models"), load_bridge(results / "stage2" / dataset / "model")
    z_NLD, rows = read_fmri_tokens(results / "fmri_tokens" / dataset / "encoder-model_data-fmri_role-test_tokens.npy", "test")
    trials = pd.concat([pd.read_parquet(file) for file in (results / "trials" / dataset).glob("*_trials.parquet")])
    instructions = rows.merge(trials, on=["subject", "trial"])["instruction"].tolist()
    texts = {}

    def write(static: bool) -> None:
        texts[static] = llm.generate(
            instructions, torch.from_numpy(z_NLD), through=bridge, max_new_tokens=40, batch_size=48, static_cache=static
        )

    taken = [seconds(lambda static=static: write(static), 1) for static in (True, False)]  # type: ignore[misc]
    return taken[0], taken[1], float(np.mean([a == b for a, b in zip(texts[True], texts[False], strict=True)]))


def cider(results: Path, dataset: str) -> tuple[float, float, float]:
    """Times of the library's scorer and of ours for texts and captions of a data set, and the largest difference of two scores."""
    scores = pd.read_parquet(results / "scores" / f"{dataset}.parquet")
    references = scores.drop_duplicates(["subject", "trial"])["reference"].tolist()
    pairs = [(p, r) for p in scores["prediction"].unique()[:40] for r in references[:40]]
    documents = [cook_refs([" ".join(words(text))]) for text in references]
    counting = CiderScorer()
    counting.crefs = documents
    counting.compute_doc_freq()
    found: dict[str, list[float]] = {}

    def library() -> None:
        found["library"] = []
        for prediction, reference in pairs:
            scorer = CiderScorer()
            scorer.document_frequency = counting.document_frequency
            scorer.crefs = [cook_refs([" ".join(words(reference))]), *documents[1:]]
            scorer.ctest = [cook_test(" ".join(words(prediction)))]
            found["library"].append(100 * float(scorer.compute_cider()[0]))

    def ours() -> None:
        found["ours"] = Cider(references)(*zip(*pairs, strict=True)).tolist()

    return seconds(library), seconds(ours), float(np.abs(np.subtract(found["library"], found["ours"])).max())


@click.command()
@click.argument("results", type=click.Path(exists=True, path_type=Path))
def main(results: Path) -> None:
    """Measure, and print a table."""
    torch.set_num_threads(1)
    dataset = min(path.stem for path in (results / "tables").glob("*.tex"))
    mkl, onednn = products()
    theirs, ours, equal = answers(results, dataset)
    library, cached, difference = cider(results, dataset)
    print("| | before, CPU s | now, CPU s | ratio | |", "| --- | ---: | ---: | ---: | --- |", sep="\n")
    print(f"| 2,000 products of {ROWS} rows, {WIDTHS[0]} to {WIDTHS[1]} | {mkl:.2f} | {onednn:.2f} | {mkl / onednn:.2f} | MKL, oneDNN |")
    print(f"| answers to the test trials | {theirs:.1f} | {ours:.1f} | {theirs / ours:.2f} | {100 * equal:.0f} % of the texts are equal |")
    print(f"| CIDEr of 1,600 pairs | {library:.2f} | {cached:.3f} | {library / cached:.1f} | largest difference {difference:.1e} |")


if __name__ == "__main__":
    main()
