"""Tables of scores and pairs for tests: random texts with real BLEU, and other scores drawn so that the model knows its clip."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from boldscribe.evaluation.bleu import sentence_bleu
from boldscribe.evaluation.score_tables import SIGNATURES

WORDS = ["man", "dog", "ball", "runs", "jumps", "red", "park", "blue"]
DRAWN = ["bertscore", "rouge_l_f", "rouge_l_p", "rouge_l_r", "cider", "meteor", "sentence_similarity"]
KNOWS = {"model": 25.0, "trueclass": 15.0}  # what a condition's scores of its own clip are above those of others


def pairs_of(subject: str, condition: str, n: int, n_instructions: int = 2, knows: float | None = None) -> pd.DataFrame:
    """Pairs of a subject's texts with the references of trials of the same instruction, texts included."""
    rng = np.random.default_rng(sum(map(ord, subject + condition)))
    shared = np.random.default_rng(int(subject))  # the same for all conditions
    references = [" ".join(shared.choice(WORDS, 5)) + f" {i}" for i in range(n)]
    instructions = [f"Say {i}." for i in shared.integers(0, n_instructions, n)]
    levels = shared.normal(40, 8, n)
    predictions = [" ".join(rng.choice(WORDS, 6)) for _ in range(n)]
    trial, other = (part.ravel() for part in np.divmod(np.arange(n * n), n))
    table = pd.DataFrame({"condition": condition, "subject": subject, "trial": trial, "other": other})
    for name, texts, index in (("instruction", instructions, trial), ("prediction", predictions, trial), ("reference", references, other)):
        table[name] = np.array(texts)[index]
    table = table[np.array(instructions)[trial] == np.array(instructions)[other]].reset_index(drop=True)
    own = (table["trial"] == table["other"]).to_numpy()
    known = own * (KNOWS.get(condition, 0.0) if knows is None else knows)
    for name in DRAWN:
        table[name] = (levels[table["other"]] + known + rng.normal(0, 4, len(table))).clip(0, 100)
    for name, chance in (("identification_2way", 0.5), ("identification_10way", 0.1), ("identification", 1 / n)):
        table[name] = 100.0 * (rng.uniform(size=len(table)) < chance + known / 30)
    table["identification_180way"] = np.nan
    return pd.concat([table, sentence_bleu(table["prediction"].tolist(), table["reference"].tolist())], axis=1)


def write_scored(folder: Path, conditions: list[str], sizes: dict[str, int], **knows: float) -> tuple[Path, Path]:
    """Files of scores and pairs of subjects with so many trials each; `knows` sets a condition's own-clip advantage."""
    pairs = pd.concat([pairs_of(s, c, n, knows=knows.get(c)) for c in conditions for s, n in sizes.items()], ignore_index=True)
    scores = pairs[pairs["trial"] == pairs["other"]].drop(columns="other")
    paths = folder / "had.parquet", folder / "had_pairs.parquet"
    content = pa.Table.from_pandas(scores, preserve_index=False)
    signatures = json.dumps({"bertscore": "layer:6|raw_50%"}).encode()
    pq.write_table(content.replace_schema_metadata({**content.schema.metadata, SIGNATURES: signatures}), paths[0])
    texts = ["instruction", "prediction", "reference"]
    names = [c for c in pairs if c not in (*texts, "condition", "subject", "trial", "other")]
    pairs.drop(columns=texts).astype(dict.fromkeys(names, np.float32)).to_parquet(paths[1], index=False)
    return paths
