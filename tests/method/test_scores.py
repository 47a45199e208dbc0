"""Scores of texts: published examples, parity with the libraries, odd texts, and that a score depends on its two texts alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bert_score import BERTScorer
from pycocoevalcap.cider.cider import Cider as CocoCider
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from boldscribe.config.training_settings import Evaluation
from boldscribe.evaluation.bertscore import BertScore, load_bert_score
from boldscribe.evaluation.bleu import COUNTS, corpus_bleu, sentence_bleu
from boldscribe.evaluation.caption_metrics import Cider, meteor, words
from boldscribe.evaluation.fixed_batches import equal_batches
from boldscribe.evaluation.scores import TEXT_SCORES, score
from boldscribe.machinery.errors import UserError

EMBEDDED = Evaluation(bertscore_model="embedded", bertscore_layer=6, bertscore_baseline=None, sentence_encoder="embedded")
PREDICTIONS = ["A man plays squash in a gym.", "a dog", "A red figure jumps over the wall, twice.", "a man in a hat"]
REFERENCES = ["A young man is playing squash.", "A woman has her hair cut.", "A red figure jumps over a low wall.", "A man in a hat."]
# bert-score's tests/test_bert_score.py
CHEF = (
    [
        "28-year-old chef found dead in San Francisco mall",
        "A 28-year-old chef who recently moved to San Francisco was found dead in the staircase of a local shopping center.",
        'The victim\'s brother said he cannot imagine anyone who would want to harm him,"Finally, it went uphill again at him."',
    ],
    [
        "28-Year-Old Chef Found Dead at San Francisco Mall",
        "A 28-year-old chef who had recently moved to San Francisco was found dead in the stairwell of a local mall this week.",
        "But the victim's brother says he can't think of anyone who would want to hurt him, saying, "
        '"Things were finally going well for him."',
    ],
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bert_score(encoder_models_dir: Path) -> BertScore:
    return load_bert_score(EMBEDDED, encoder_models_dir)


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


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baseline.tsv"
    path.write_text("LAYER,P,R,F\n" + "".join(f"{layer},{layer / 40},{layer / 30},{layer / 20}\n" for layer in range(7)))
    return path


def test_published_examples() -> None:
    # Papineni et al. 2002, section 2.1: two of the seven words are in the reference, and the text is not shorter than it
    papineni = sentence_bleu(["the the the the the the the"], ["the cat is on the mat"]).iloc[0]
    assert papineni["sacrebleu_1"] == pytest.approx(100 * 2 / 7)
    # sacreBLEU's test/test_bleu.py: common and total n-grams, and its scores of orders that one- and two-word texts have
    counts = sentence_bleu(["am I am a character sequence"], ["I am a symbol string sequence a a"]).loc[0, COUNTS].tolist()
    assert counts == [4, 2, 6, 5, 6, 8]
    scores = sentence_bleu(["test", "a test"], ["a test", "a test"])
    np.testing.assert_allclose(scores["sacrebleu_2"], [36.78794411714425, 100])
    # Lin 2004, section 3.1: S2, S3 and S4 against S1
    rouge = RougeScorer(["rougeL"])
    for text, expected in [("police kill the gunman", 0.75), ("the gunman kill police", 0.5), ("the gunman police killed", 0.5)]:
        assert rouge.score("police killed the gunman", text)["rougeL"].fmeasure == expected
    # nltk's documentation of `meteor_score`
    guide = "It is a guide to action which ensures that the military always obeys the commands of the party"
    assert meteor(guide, "It is a guide to action that ensures that the military will forever heed Party commands") == pytest.approx(
        69.44, abs=0.005
    )
    # README of aac-metrics: CIDEr-D of two clips, the first with three captions, over which it is the mean
    speech = ["a man speaks.", "someone speaks.", "a man is speaking while a bird is chirping in the background"]
    rain = "rain is falling hard on a surface"
    cider = Cider([speech[2], rain])
    assert cider(["a man is speaking"] * 3, speech).mean() == pytest.approx(136.41, abs=0.01)
    assert cider(["rain falls"], [rain])[0] == pytest.approx(55.87, abs=0.01)


def test_scores_are_the_libraries_own(bert_score: BertScore) -> None:
    scores = score(PREDICTIONS, REFERENCES, bert_score)
    assert list(scores) == [*TEXT_SCORES, *COUNTS]
    for n in (1, 2):
        bleu = BLEU(max_ngram_order=n, effective_order=True)
        expected = [bleu.sentence_score(p, [r]).score for p, r in zip(PREDICTIONS, REFERENCES, strict=True)]
        assert scores[f"sacrebleu_{n}"].tolist() == expected
    # by hand: tokens "a man in a hat" against "a man in a hat" are the same, full stop and case aside
    assert scores.loc[3, ["rouge_l_f", "rouge_l_p", "rouge_l_r"]].tolist() == [100, 100, 100]
    # "a dog" against "a woman has her hair cut": one common token of 2 and of 6
    np.testing.assert_allclose(scores.loc[1, ["rouge_l_f", "rouge_l_p", "rouge_l_r"]].astype(float), [25, 50, 100 / 6])
    # the same by nltk's formula: fmean of 1/2 and 1/6 with weight 0.9 on recall, halved since the one match is one chunk
    assert scores.loc[1, "meteor"] == pytest.approx(50 * (1 / 12) / (0.9 / 2 + 0.1 / 6))
    assert meteor("he jumps", "she jumped") == pytest.approx(25), "words of one stem match"


def test_cider_is_the_librarys_over_the_same_documents() -> None:
    """All of a subject's texts at once, as coco-caption scores them."""
    told, truth = ({i: [" ".join(words(t))] for i, t in enumerate(texts)} for texts in (PREDICTIONS, REFERENCES))
    expected = CocoCider().compute_score(truth, told)[1]
    np.testing.assert_allclose(Cider(REFERENCES)(PREDICTIONS, REFERENCES), 100 * expected, rtol=1e-12)
    assert expected.max() > 1
    assert Cider(["A man."])(["A man."], ["A man."]).tolist() == [0], "in one document alone nothing is rare"


@pytest.mark.parametrize("rescaled", [False, True])
def test_bertscore_is_the_librarys(encoder_models_dir: Path, baseline: Path, rescaled: bool) -> None:
    """Also of texts that have nothing in common, where the library is asked for one pair at a time: there padding would count."""
    folder = encoder_models_dir / "sentence_encoder"
    options = {"lang": "en", "rescale_with_baseline": True, "baseline_path": str(baseline)} if rescaled else {}
    library = BERTScorer(model_type=str(folder), num_layers=6, device="cpu", **options)
    ours = BertScore(folder, 6, baseline if rescaled else None)
    matched = [*PREDICTIONS, *CHEF[0]], [*REFERENCES, *CHEF[1]]
    np.testing.assert_allclose(ours(*matched), 100 * library.score(*matched)[2].numpy(), atol=3e-4)
    crossed = [matched[0][i] for i in range(7) for _ in range(7)], matched[1] * 7
    expected = 100 * library.score(*crossed, batch_size=1)[2].numpy()
    np.testing.assert_allclose(ours(*crossed), expected, atol=3e-4)
    assert np.ptp(expected) > 50


def test_odd_texts_are_scored(bert_score: BertScore) -> None:
    odd = ["", "   ", "\n\n", "\u200b", "[SEP]", "😀", "line\nline", "שלום עולם", "word " * 3000]
    scores = score(odd, ["A man walks."] * len(odd), bert_score)[TEXT_SCORES]
    assert np.isfinite(scores.to_numpy(float)).all()
    assert (scores.iloc[:5].to_numpy() == 0).all(), "texts without tokens score 0"
    assert scores["bertscore"].iloc[5:].gt(0).all()
    blank = score(["A man walks.", ""], ["", ""], bert_score)[TEXT_SCORES]
    assert (blank.to_numpy() == 0).all()
    same = score(odd[5:8], odd[5:8], bert_score)
    np.testing.assert_allclose(same[["bertscore", "sacrebleu_1"]], 100, atol=1e-3)
    assert Cider(["A man walks.", "A dog."])(odd, ["A man walks."] * len(odd)).tolist() == [0] * len(odd)


def test_a_score_depends_on_its_two_texts_alone(bert_score: BertScore) -> None:
    """Bit by bit: among others, in another order, and alone, also for texts so short that routines for small matrices are chosen."""
    texts = [" ".join(["a man is in the red gym"[: 2 * n], *["runs"] * (n % 4)]) for n in range(1, 12) for _ in range(3)]
    predictions = [f"{text} {i}" for i, text in enumerate(texts)]
    together = score(predictions, texts, bert_score)
    backwards = score(predictions[::-1], texts[::-1], bert_score)[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(together, backwards, check_exact=True)
    for i in (0, 7, 20, 32):
        alone = score(predictions[i : i + 1], texts[i : i + 1], bert_score)
        assert together.loc[i].tolist() == alone.loc[0].tolist()


def test_batches_are_of_one_length_and_size() -> None:
    lengths = [3, 5, 3, 3, 4, 5, 3]
    batches = list(equal_batches(lengths, 3))
    assert batches == [[0, 2, 3], [6, 6, 6], [4, 4, 4], [1, 5, 5]]


def test_bertscore_of_a_roberta_rescaled_and_truncated(roberta: Path, baseline: Path) -> None:
    raw, rescaled = BertScore(roberta, 2, None), BertScore(roberta, 2, baseline)
    texts = ["a man runs", "b" * 500], ["a man walks", "a man walks"]
    np.testing.assert_allclose(rescaled(*texts), (raw(*texts) - 10) / 0.9, rtol=1e-4)
    assert rescaled([""], ["a man"]).tolist() == [0]
    # the first word has its space, as the library wants it: the same word elsewhere has the same token
    assert raw.tokenizer.tokenize("man") == raw.tokenizer.tokenize("x man")[-4:]


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
