"""Signatures of the metrics: a table must state how each was computed so that its numbers can be compared (docs/metrics.md)."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from sacrebleu.metrics import BLEU

from boldscribe.evaluation.bertscore import BertScore
from boldscribe.evaluation.metrics import METRICS, WORDS
from boldscribe.machinery.files import sha256_of


def metric_signatures(bert_score: BertScore, sentence_encoder: Path) -> dict[str, str]:
    """Return the signature of each metric, by column name; one covers all of its orders, parts or numbers of candidates.

    BERTScore has its library's hash (encoder, layer, idf, versions). The hash names the encoder by its folder, so the digest of the
    weights identifies it. SacreBLEU has its library's signature, for the corpus-level score and for a trial's.
    """
    scorer = bert_score.scorer
    scale = f"rescaled by {weights_digest(bert_score.baseline)}" if bert_score.baseline else "raw"
    corpus, sentence = BLEU(max_ngram_order=2), BLEU(max_ngram_order=2, effective_order=True)
    corpus.corpus_score(["a"], [["a"]])
    sentence.sentence_score("a", ["a"])
    return {
        "bertscore": f"{scorer.hash}|F1|layer:{scorer.num_layers}|{scale}|weights:{weights_digest(bert_score.folder)}",
        "sacrebleu": f"{corpus.get_signature()} (corpus); {sentence.get_signature()} (trial); n-grams up to 1 and 2",
        "rouge_l": f"rouge-score {version('rouge-score')}|rougeL|stemmer:no",
        "cider": f"CIDEr-D|pycocoevalcap {version('pycocoevalcap')}|documents: the subject's test references|{WORDS}",
        **{name: metric.signature.format_map(_Versions()) for name, metric in METRICS.items() if metric.signature},
        "sentence_similarity": f"cosine|weights:{weights_digest(sentence_encoder)}",
        "identification": f"nearest by cosine|weights:{weights_digest(sentence_encoder)}",
    }


class _Versions(dict[str, str]):
    """Mapping from a package to its installed version."""

    def __missing__(self, package: str) -> str:
        return version(package)


def weights_digest(path: Path) -> str:
    """Return the first 12 digits of the SHA-256 of a file, or of each weight file in a folder."""
    files = [path] if path.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*.bin")])
    return ",".join(f"sha256:{sha256_of(file)[:12]}" for file in files)
