"""How each metric was computed: what a table must say beside its numbers so that they can be compared (docs/metrics.md)."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from sacrebleu.metrics import BLEU

from boldscribe.evaluation.bertscore import BertScore
from boldscribe.files import sha256_of


def metric_signatures(bert_score: BertScore, sentence_encoder: Path) -> dict[str, str]:
    """The signature of each metric, by the name of its column; one for all of its orders, parts or numbers of candidates.

    BERTScore has its library's hash (encoder, layer, idf, versions), which names the encoder by its folder: the digest of the
    weights says which it is. SacreBLEU has its library's signature, of the corpus-level score and of a trial's.
    """
    scorer, words = bert_score.scorer, "words by sacreBLEU's 13a tokenizer, lower case, no punctuation"
    scale = f"rescaled by {weights_digest(bert_score.baseline)}" if bert_score.baseline else "raw"
    corpus, sentence = BLEU(max_ngram_order=2), BLEU(max_ngram_order=2, effective_order=True)
    corpus.corpus_score(["a"], [["a"]])
    sentence.sentence_score("a", ["a"])
    return {
        "bertscore": f"{scorer.hash}|F1|layer:{scorer.num_layers}|{scale}|weights:{weights_digest(bert_score.folder)}",
        "sacrebleu": f"{corpus.get_signature()} (corpus); {sentence.get_signature()} (trial); n-grams up to 1 and 2",
        "rouge_l": f"rouge-score {version('rouge-score')}|rougeL|stemmer:no",
        "cider": f"CIDEr-D|pycocoevalcap {version('pycocoevalcap')}|documents: the subject's test references|{words}",
        "meteor": f"nltk {version('nltk')}|modules: exact, stem (no synonyms)|{words}",
        "sentence_similarity": f"cosine|weights:{weights_digest(sentence_encoder)}",
        "identification": f"nearest by cosine|weights:{weights_digest(sentence_encoder)}",
    }


def weights_digest(path: Path) -> str:
    """The first 12 digits of the SHA-256 of a file, or of each of the weight files in a folder."""
    files = [path] if path.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*.bin")])
    return ",".join(f"sha256:{sha256_of(file)[:12]}" for file in files)
