"""The prompted LLM: the same text whatever the batch and the cache, stops where it should, and scores answers whatever the passes."""

from pathlib import Path

import pytest
import torch

from boldscribe.config import Config
from boldscribe.models.prompted_llm import PromptedLlm, cut_at_stop

QUESTIONS = [
    "Describe the video.",
    "What is the main thing happening in the video?",
    "What?",
    "Describe the video.",
    "Go on, and on, and on.",
]


@pytest.fixture(scope="module")
def llm(demo: Config, models_dir: Path) -> PromptedLlm:
    return PromptedLlm.load(demo.video_llama, models_dir / "llm")


@pytest.fixture(scope="module")
def soft(llm: PromptedLlm) -> torch.Tensor:
    """Soft tokens that are mixtures of words, so that texts differ."""
    words = llm.model.get_input_embeddings().weight
    rows = torch.randint(len(words), (len(QUESTIONS), 8, 3), generator=torch.Generator().manual_seed(0))
    return words[rows].mean(2)


def test_batches_of_any_kind_give_the_texts_of_one_at_a_time(llm: PromptedLlm, soft: torch.Tensor) -> None:
    alone = [llm.generate([q], soft[i : i + 1], max_new_tokens=20, batch_size=1)[0] for i, q in enumerate(QUESTIONS)]
    assert len(set(alone)) > 1 and all(alone)
    assert llm.generate(QUESTIONS, soft, max_new_tokens=20, batch_size=5) == alone
    assert llm.generate(QUESTIONS, soft, max_new_tokens=20, batch_size=2, static_cache=True) == alone


def test_sampled_texts_do_not_depend_on_the_loop(llm: PromptedLlm, soft: torch.Tensor) -> None:
    texts = []
    for static_cache in (False, True):
        torch.manual_seed(0)
        texts.append(
            llm.generate(
                QUESTIONS, soft, max_new_tokens=12, batch_size=5, do_sample=True, temperature=0.7, top_p=0.9, static_cache=static_cache
            )
        )
    assert texts[0] == texts[1] and len(set(texts[0])) > 1, "rows that have ended are dropped, and the others draw as if they were not"


def test_rows_that_have_ended_are_dropped_and_equal_prompts_asked_once(
    llm: PromptedLlm, soft: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = soft[[0, 1, 0, 3, 4]]
    rows: list[int] = []
    layers = llm.model.model.forward
    monkeypatch.setattr(llm.model.model, "forward", lambda **given: rows.append(len(given["inputs_embeds"])) or layers(**given))
    questions = [QUESTIONS[i] for i in (0, 1, 0, 3, 4)]
    halved = llm.generate(questions, again, max_new_tokens=40, batch_size=5, through=torch.nn.Identity())
    assert rows[0] == 4 and halved[0] == halved[2]
    assert rows == sorted(rows, reverse=True) and rows[-1] < 4, "the longest answer is written alone"


def test_answers_end_before_a_stop_sequence(demo: Config, llm: PromptedLlm, soft: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = llm.generate(QUESTIONS, soft, max_new_tokens=16, batch_size=5)
    ids = llm.tokenizer(whole[1], add_special_tokens=False).input_ids
    assert len(ids) > 6
    monkeypatch.setattr(llm, "stop", [[49151], ids[4:6]])
    stopped = llm.generate(QUESTIONS, soft, max_new_tokens=16, batch_size=5)
    assert stopped[1] == llm.tokenizer.decode(ids[:4]).strip(), "though other rows of the batch go on"
    assert any(a == b for a, b in zip(stopped, whole, strict=True))


def test_text_is_cut_at_the_first_stop_sequence_of_any_length() -> None:
    vicuna = [[835], [2277, 29937]]
    assert cut_at_stop([5, 2277, 7, 2277, 29937, 835], vicuna) == [5, 2277, 7]
    assert cut_at_stop([835], vicuna) == [] and cut_at_stop([5, 6], vicuna) == [5, 6] and cut_at_stop([5, 6], []) == [5, 6]


def test_a_piece_of_the_prompt_after_the_tokens_gets_no_opening_token(llm: PromptedLlm, monkeypatch: pytest.MonkeyPatch) -> None:
    class Marked:
        eos_token = "</s>"

        def __call__(self, text: str, add_special_tokens: bool) -> "Marked":
            self.input_ids = [1] * add_special_tokens + [ord(c) for c in text]
            return self

    monkeypatch.setattr(llm, "tokenizer", Marked())
    monkeypatch.setattr(llm, "_known_ids", {})
    monkeypatch.setattr(llm, "prompt", "A <Video><ImageHere></Video> {instruction} B")
    before, after = llm._pieces("Q?", True)
    assert before[0] == 1 and "".join(map(chr, before[1:])) == "A <Video>" and "".join(map(chr, after)) == "</Video> Q? B"
    (plain,) = llm._pieces("Q?", False)
    assert plain[0] == 1 and "".join(map(chr, plain[1:])) == "A Q? B", "without brain there is no place for a video"


def test_passes_of_any_size_have_the_gradients_of_the_whole(llm: PromptedLlm, soft: torch.Tensor) -> None:
    answers = ["A man runs.", "A woman in a red coat waves, then sits down.", "Nobody.", "A dog.", "Two people dance in the rain."]
    whole = soft.clone().requires_grad_()
    mean = llm.caption_loss(QUESTIONS, whole, answers)
    mean.backward()
    parts = soft.clone().requires_grad_()
    n_tokens = sum(map(llm.answer_length, answers))
    total = 0.0
    for rows in ([4], [0, 2, 3], [1]):
        loss = llm.caption_loss([QUESTIONS[i] for i in rows], parts[rows], [answers[i] for i in rows], reduction="sum") / n_tokens
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(mean.item(), rel=1e-5)
    torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-3, atol=1e-6)
    assert not any(p.requires_grad or p.grad is not None for p in llm.model.parameters()), "the backward pass ends at the inputs"
