"""Scores of texts: parity with the libraries, odd texts, identification by a worked example, joins that refuse."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bert_score import BERTScorer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.evaluation.bertscore import BertScore
from boldscribe.evaluation.bleu import COUNTS, corpus_bleu, sentence_bleu
from boldscribe.evaluation.identification import identification_accuracy, identify
from boldscribe.evaluation.scores import COLUMNS, SCORES, load_bert_score, score, write_scores
from boldscribe.models.sentence_encoder import SentenceEncoder
from boldscribe.sections.training import Evaluation

EMBEDDED = Evaluation(bertscore_model="embedded", bertscore_layer=6, bertscore_baseline=None, sentence_encoder="embedded")
PREDICTIONS = ["A man plays squash in a gym.", "a dog", "A red figure jumps over the wall, twice.", "a man in a hat"]
REFERENCES = ["A young man is playing squash.", "A woman has her hair cut.", "A red figure jumps over a low wall.", "A man in a hat."]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random RoBERTa with a byte-level tokenizer, in a folder whose path holds 't5'."""
    folder = tmp_path_factory.mktemp("t5") / "bertscore_encoder"
    vocab = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *bytes_to_unicode().values()])}
    RobertaTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    torch.manual_seed(0)
    RobertaModel(
        RobertaConfig(
            vocab_size=len(vocab),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=130,
            type_vocab_size=1,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    return folder


def test_scores_are_the_libraries_own(encoder_models_dir: Path, sentence_encoder: Path) -> None:
    scores = score(PREDICTIONS, REFERENCES, load_bert_score(EMBEDDED, encoder_models_dir))
    assert list(scores) == SCORES
    bert = BERTScorer(model_type=str(sentence_encoder), num_layers=6, device="cpu").score(PREDICTIONS, REFERENCES)[2]
    np.testing.assert_allclose(scores["bertscore"], 100 * bert.numpy(), atol=1e-3)
    for n in (1, 2):
        bleu = BLEU(max_ngram_order=n, effective_order=True)
        expected = [bleu.sentence_score(p, [r]).score for p, r in zip(PREDICTIONS, REFERENCES, strict=True)]
        assert scores[f"sacrebleu_{n}"].tolist() == expected
    # by hand: tokens "a man in a hat" against "a man in a hat" are the same, full stop and case aside
    assert scores.loc[3, ["rouge_l_f", "rouge_l_p", "rouge_l_r"]].tolist() == [100, 100, 100]
    # "a dog" against "a woman has her hair cut": one common token of 2 and of 6
    np.testing.assert_allclose(scores.loc[1, ["rouge_l_f", "rouge_l_p", "rouge_l_r"]].astype(float), [25, 50, 100 / 6])
    rouge = RougeScorer(["rougeL"]).score(REFERENCES[0], PREDICTIONS[0])["rougeL"]
    assert scores.loc[0, "rouge_l_p"] == 100 * rouge.precision


def test_odd_texts_are_scored(encoder_models_dir: Path) -> None:
    odd = ["", "   ", "\n\n", "\u200b", "😀", "line\nline", "שלום עולם", "word " * 3000]
    scores = score(odd, ["A man walks."] * len(odd), load_bert_score(EMBEDDED, encoder_models_dir))
    assert np.isfinite(scores.to_numpy(float)).all()
    assert (scores.iloc[:4].to_numpy() == 0).all(), "texts without tokens score 0"
    assert scores["bertscore"].iloc[4:].gt(0).all()
    blank = score(["A man walks.", ""], ["", ""], load_bert_score(EMBEDDED, encoder_models_dir))
    assert (blank.to_numpy() == 0).all()
    same = score(odd[4:7], odd[4:7], load_bert_score(EMBEDDED, encoder_models_dir))
    np.testing.assert_allclose(same[["bertscore", "sacrebleu_1"]], 100, atol=1e-3)


def test_a_score_depends_on_its_two_texts_alone(encoder_models_dir: Path) -> None:
    together = score(PREDICTIONS, REFERENCES, load_bert_score(EMBEDDED, encoder_models_dir))
    alone = score(PREDICTIONS[2:3], REFERENCES[2:3], load_bert_score(EMBEDDED, encoder_models_dir))
    assert together.loc[2].tolist() == alone.loc[0].tolist()


def test_bertscore_of_a_roberta_rescaled_and_truncated(roberta: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.tsv"
    baseline.write_text("LAYER,P,R,F\n" + "".join(f"{layer},{layer / 10},{layer / 10},{layer / 5}\n" for layer in range(3)))
    raw, rescaled = BertScore(roberta, 2, None), BertScore(roberta, 2, baseline)
    texts = ["a man runs", "b" * 500], ["a man walks", "a man walks"]
    np.testing.assert_allclose(rescaled(*texts), (raw(*texts) - 40) / 0.6, rtol=1e-4)
    assert rescaled([""], ["a man"]).tolist() == [0]
    # the first word has its space, as the library wants it: the same word elsewhere has the same token
    assert raw._tokenizer.tokenize("man") == raw._tokenizer.tokenize("x man")[-4:]


@pytest.mark.parametrize(
    "layer, baseline, message",
    [(7, None, "bertscore_layer: found 7, expected 1 to 2"), (1, Path("nowhere.tsv"), "no baseline"), (2, "short", "found 2 rows")],
)
def test_bertscore_refuses_what_it_cannot_use(roberta: Path, tmp_path: Path, layer: int, baseline: Path | str | None, message: str) -> None:
    if baseline == "short":
        baseline = tmp_path / "short.tsv"
        baseline.write_text("LAYER,P,R,F\n0,0,0,0\n1,0,0,0\n")
    with pytest.raises(UserError, match=message):
        BertScore(roberta, layer, baseline)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [1, 2])
def test_corpus_bleu_from_counts_is_the_librarys(order: int) -> None:
    corpora = [
        (PREDICTIONS, REFERENCES),
        (PREDICTIONS[:1], REFERENCES[:1]),
        (["a b", ""], ["b a c d", "x"]),
        (["q r"], ["s"]),
        (["", ""], ["a", ""]),
    ]
    summed = np.stack([sentence_bleu(p, r)[COUNTS].to_numpy(float).sum(0) for p, r in corpora])
    expected = [BLEU(max_ngram_order=order).corpus_score(p, [r]).score for p, r in corpora]
    np.testing.assert_allclose(corpus_bleu(summed, order), expected, rtol=1e-12)
    assert expected[0] > 0 and expected[3] == 0


def test_identification_worked_by_hand() -> None:
    similarity = np.array(
        [
            [0.9, 0.1, 0.2, 0.3],  # nearest to its own
            [0.5, 0.5, 0.2, 0.1],  # ties with one other
            [0.1, 0.2, 0.3, 0.4],  # second of four
            [0.3, 0.3, 0.3, 0.3],  # says nothing
        ]
    )
    top_1, two_way = identification_accuracy(similarity, np.arange(4))
    np.testing.assert_allclose(top_1, [1, 1 / 2, 0, 1 / 4])
    np.testing.assert_allclose(two_way, [1, 2.5 / 3, 2 / 3, 1 / 2])


def test_identification_of_sentences(sentence_encoder: Path) -> None:
    encoder = SentenceEncoder(sentence_encoder)
    references = ["A man is playing squash.", "A woman has her hair cut.", "A man is playing squash.", "Dogs run in the snow."]
    predictions = ["He hits a squash ball with his racket.", "", "Dogs are running.", "Some dogs in snow"]
    top_1, two_way = identify(predictions, references, encoder)
    np.testing.assert_allclose(top_1, [1, 1 / 3, 0, 1])
    assert two_way.tolist()[:2] == [1, 0.5] and two_way[3] == 1
    assert identify(["x", "y"], ["same", "same"], encoder)[1].tolist() == [0.5, 0.5]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Decoded texts of two conditions and the captions of two shards, which also hold another subject's."""
    trials = [{"subject": "05", "trial": t, "instruction": "What?"} for t in range(4)]
    (tmp_path / "decoded").mkdir()
    for condition, texts in {"model": PREDICTIONS, "llm": ["", "a", "b", "c"]}.items():
        table = pd.DataFrame(trials).assign(prediction=texts).iloc[::-1]
        table.to_parquet(tmp_path / "decoded" / f"sub-05_condition-{condition}.parquet")
    captions = pd.DataFrame(trials).assign(text=REFERENCES, stim_file="x.mp4")
    captions.iloc[:1].to_parquet(tmp_path / "test-000_captions.parquet")
    pd.concat([captions.iloc[1:], captions.assign(subject="06", text="other")]).to_parquet(tmp_path / "test-001_captions.parquet")
    return {"folder": tmp_path}


def _write(folder: Path, models_dir: Path, conditions: tuple[str, ...] = ("model", "llm")) -> list[Path]:
    names = [f"sub-05_condition-{c}.parquet" for c in conditions]
    outputs = [folder / "scores" / name for name in names]
    write_scores(
        Config(evaluation=EMBEDDED),
        "had",
        "05",
        decoded=[folder / "decoded" / name for name in names],
        captions=sorted(folder.glob("*_captions.parquet")),
        models_dir=models_dir,
        outputs=outputs,
    )
    return outputs


def test_scores_of_a_subject(files: dict[str, Path], encoder_models_dir: Path) -> None:
    model, llm = (pd.read_parquet(p) for p in _write(files["folder"], encoder_models_dir))
    assert list(model) == COLUMNS and set(model["condition"]) == {"model"} and set(llm["condition"]) == {"llm"}
    assert model["trial"].tolist() == [0, 1, 2, 3]
    assert model["prediction"].tolist() == PREDICTIONS and model["reference"].tolist() == REFERENCES
    pd.testing.assert_frame_equal(model[SCORES], score(PREDICTIONS, REFERENCES, load_bert_score(EMBEDDED, encoder_models_dir)))
    assert llm.loc[0, "identification"] == 0.25, "a blank text identifies nothing: chance among 4"


def test_what_does_not_fit_is_refused(files: dict[str, Path], encoder_models_dir: Path) -> None:
    folder = files["folder"]
    path = folder / "decoded" / "sub-05_condition-model.parquet"
    whole = pd.read_parquet(path)
    for table, message in [
        (pd.concat([whole, whole.assign(trial=9)[:1]]), r"trial\(s\) \[9\] have no reference"),
        (whole[1:], r"trial\(s\) \[3\] of sub-05 were not decoded"),
        (pd.concat([whole, whole[:1]]), "repeated"),
        (whole.assign(subject="06"), "expected '05' alone"),
        (whole.assign(prediction=None), "null"),
    ]:
        table.to_parquet(path)
        with pytest.raises(UserError, match=message):
            _write(folder, encoder_models_dir)
    assert not (folder / "scores").exists()
