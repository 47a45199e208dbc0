"""The frozen language model, prompted with text in which L soft tokens represent the video or the brain's response."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.generation import (
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from boldscribe.config.model_settings import PLACEHOLDER, QUESTION, VideoLlamaSettings
from boldscribe.losses import answer_loss
from boldscribe.machinery.provenance.cache import state_of
from boldscribe.models.products import with_onednn


class PromptedLlm(nn.Module):
    """A causal language model with its tokenizer and the prompt template.

    Args:
        config: template and stop tokens.
        tokenizer, model: from transformers.
    """

    def __init__(self, config: VideoLlamaSettings, tokenizer: Any, model: Any) -> None:
        super().__init__()
        self.prompt, self.stop = config.prompt, config.stop
        self.tokenizer = tokenizer
        self.model = model.eval().requires_grad_(False)
        self._known_ids: dict[tuple[str, bool], list[int]] = {}

    @classmethod
    def load(cls, config: VideoLlamaSettings, folder: Path) -> PromptedLlm:
        """Load weights (safetensors) and tokenizer from a folder, in the configured precision."""
        return cls(config, *_load(folder, config.dtype, state_of(sorted(folder.iterdir()))))

    @property
    def width(self) -> int:
        """Width of the token embeddings, d_llm."""
        return int(self.model.config.hidden_size)

    def _ids(self, text: str, first: bool) -> list[int]:
        """Tokenize a piece of a prompt, with the start token (if any) for the first piece; cached, since a few pieces recur often."""
        if (text, first) not in self._known_ids:
            self._known_ids[text, first] = list(self.tokenizer(text, add_special_tokens=first).input_ids)
        return self._known_ids[text, first]

    def _answer_ids(self, answer: str) -> list[int]:
        return list(self.tokenizer(answer + self.tokenizer.eos_token, add_special_tokens=False).input_ids)

    def _pieces(self, instruction: str, soft: bool) -> list[list[int]]:
        """Tokenize the prompt before and after the soft tokens; without soft tokens, the same question without the video placeholder."""
        if not soft:
            plain = re.sub(rf"(<Video>)?{PLACEHOLDER}(</Video>)? ?", "", self.prompt)
            return [self._ids(plain.replace(QUESTION, instruction), True)]
        before, after = self.prompt.split(PLACEHOLDER)
        return [self._ids(before.replace(QUESTION, instruction), True), self._ids(after.replace(QUESTION, instruction), False)]

    def lengths(self, instructions: Sequence[str], answers: Sequence[str]) -> list[int]:
        """Count the text tokens of each prompt together with its answer."""
        prompts = {i: sum(map(len, self._pieces(i, True))) for i in set(instructions)}
        return [prompts[i] + self.answer_length(a) for i, a in zip(instructions, answers, strict=True)]

    def answer_length(self, answer: str) -> int:
        """Count the tokens of an answer that `caption_loss` scores, end token included."""
        return len(self._answer_ids(answer))

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long, device=self.model.device))

    def _sequences(self, instructions: Sequence[str], tokens_BLD: Tensor | None) -> list[Tensor]:
        if tokens_BLD is None:
            return [self._embed(self._pieces(i, False)[0]) for i in instructions]
        soft = tokens_BLD.to(self.model.get_input_embeddings().weight)
        pieces = [self._pieces(i, True) for i in instructions]
        return [torch.cat([self._embed(before), soft[b], self._embed(after)]) for b, (before, after) in enumerate(pieces)]

    def embed_prompt(self, instructions: Sequence[str], tokens_BLD: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embed prompts, padded on the left.

        Args:
            instructions: B questions.
            tokens_BLD: (B, L, d_llm) soft tokens for the placeholder; None removes the placeholder and its wrapping.

        Returns:
            embeddings (B, S, d_llm) and attention mask (B, S).
        """
        return _pad_left(self._sequences(instructions, tokens_BLD))

    @torch.inference_mode()
    def generate(
        self,
        instructions: Sequence[str],
        tokens_BLD: Tensor | None,
        *,
        max_new_tokens: int,
        batch_size: int,
        through: nn.Module | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_p: float = 1.0,
        static_cache: bool | None = None,
    ) -> list[str]:
        """Answer each instruction, in batches; return stripped texts without special tokens, cut where the model stopped.

        Without sampling, equal prompts have equal answers, so each distinct prompt is answered once.

        Args:
            instructions: questions.
            tokens_BLD: their soft tokens, or the input of `through` that yields them; or None.
            max_new_tokens: maximum length of an answer.
            batch_size: questions per batch.
            through: maps tokens to the LLM's width.
            do_sample, temperature, top_p: nucleus sampling; otherwise greedy.
            static_cache: keep keys and values in memory of fixed size, finished rows included; None enables it on a GPU, where it
                saves allocations.
        """
        prompts = range(len(instructions)) if do_sample else _first_equals(instructions, tokens_BLD)
        asked = sorted(set(prompts))
        instructions, tokens_BLD = [instructions[i] for i in asked], None if tokens_BLD is None else tokens_BLD[asked]
        if through is not None and tokens_BLD is not None:
            tokens_BLD = through(tokens_BLD)
        warpers = LogitsProcessorList()
        if do_sample:
            warpers += [TemperatureLogitsWarper(temperature)] * (temperature != 1) + [TopPLogitsWarper(top_p)] * (top_p < 1)
        if static_cache is None:
            static_cache = self.model.device.type == "cuda"
        write = self._write_in_place if static_cache else self._write
        answers: list[str] = []
        for start in range(0, len(instructions), batch_size):
            rows = slice(start, start + batch_size)
            embeds, mask = self.embed_prompt(instructions[rows], None if tokens_BLD is None else tokens_BLD[rows])
            kept = [cut_at_stop(ids, self.stop) for ids in write(embeds, mask, max_new_tokens, warpers, do_sample)]
            answers += [text.strip() for text in self.tokenizer.batch_decode(kept, skip_special_tokens=True)]
        answer_of = dict(zip(asked, answers, strict=True))
        return [answer_of[i] for i in prompts]

    def _write(
        self, embeds_BSD: Tensor, mask_BS: Tensor, max_new_tokens: int, warpers: LogitsProcessorList, do_sample: bool
    ) -> list[list[int]]:
        """Generate the token ids of each row, end token included; finished rows are dropped and the others continue.

        Draws match `torch.multinomial` over all rows, so that a text does not depend on when others end.
        """
        ends = self._end_ids()
        stops = StopIds(self.stop)
        cache = DynamicCache(config=self.model.config)
        positions = (mask_BS.cumsum(1) - 1).clamp(min=0)
        left = torch.arange(len(mask_BS), device=mask_BS.device)
        written: list[list[int]] = [[] for _ in left]
        for n in range(max_new_tokens):
            hidden_BSD = self.model.model(
                inputs_embeds=embeds_BSD, attention_mask=mask_BS, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state
            logits_BV = self.model.lm_head(hidden_BSD[:, -1]).float()
            if n == 0:
                logits_BV[:, ends] = -torch.inf  # forbid empty answers
            if do_sample:
                shares_BV = warpers(None, logits_BV).softmax(-1)
                draws_BV = shares_BV.new_empty(len(written), shares_BV.shape[1]).exponential_()
                ids_B = (shares_BV / draws_BV[left]).argmax(-1)
            else:
                ids_B = logits_BV.argmax(-1)
            for row, token in zip(left.tolist(), ids_B.tolist(), strict=True):
                written[row].append(token)
            recent = torch.tensor([written[row][-stops.longest :] for row in left.tolist()], device=left.device)
            goes_on = ~(torch.isin(ids_B, ends) | stops(recent, logits_BV))
            if not goes_on.any():
                break
            if not goes_on.all():
                kept = goes_on.nonzero()[:, 0]
                cache.batch_select_indices(kept)
                left, ids_B, mask_BS, positions = left[kept], ids_B[kept], mask_BS[kept], positions[kept]
            embeds_BSD = self.model.get_input_embeddings()(ids_B)[:, None]
            mask_BS = torch.cat([mask_BS, mask_BS.new_ones(len(left), 1)], 1)
            positions = positions[:, -1:] + 1
        return written

    def _write_in_place(
        self, embeds_BSD: Tensor, mask_BS: Tensor, max_new_tokens: int, warpers: LogitsProcessorList, do_sample: bool
    ) -> list[list[int]]:
        """Like `_write`, with transformers' loop and keys and values in memory of fixed size; finished rows are padded to the longest."""
        ids: list[list[int]] = self.model.generate(
            inputs_embeds=embeds_BSD,
            attention_mask=mask_BS,
            max_new_tokens=max_new_tokens,
            min_new_tokens=1,
            do_sample=do_sample,
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=warpers,
            pad_token_id=self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id,
            stopping_criteria=StoppingCriteriaList([StopIds(self.stop)]) if self.stop else None,
            cache_implementation="static",
            disable_compile=True,
        ).tolist()
        return ids

    def _end_ids(self) -> Tensor:
        """Tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        return torch.tensor(ends if isinstance(ends, list) else [ends], device=self.model.device)

    def caption_loss(
        self, instructions: Sequence[str], tokens_BLD: Tensor, answers: Sequence[str], reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """Cross-entropy of the answers given tokens and instruction (equation 3), end token included.

        Only answer tokens are scored, and only their logits are computed. Gradients reach `tokens_BLD` through the
        frozen LLM, whose weights get none: the backward pass computes only what flows to its inputs.
        """
        targets = [torch.tensor(self._answer_ids(a)) for a in answers]
        device = self.model.device
        prompts = self._sequences(instructions, tokens_BLD)
        # The last answer token is predicted but never fed in.
        embeds, mask = _pad_left([torch.cat([p, self._embed(t[:-1].tolist())]) for p, t in zip(prompts, targets, strict=True)])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        hidden = self.model.model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
        predicting = torch.cat([h[-len(t) :] for h, t in zip(hidden, targets, strict=True)])
        return answer_loss(self.model.lm_head(predicting), torch.cat(targets).to(device), reduction)


@lru_cache(1)
def _load(folder: Path, dtype: str, state: str) -> tuple[Any, Any]:
    """Load tokenizer and model once per process while the folder's files keep their state; nothing modifies the loaded objects."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True, attn_implementation="sdpa")
    return AutoTokenizer.from_pretrained(folder), with_onednn(model)


class StopIds(StoppingCriteria):
    """Criterion that ends a row of a batch at a stop sequence, which some models write instead of an end token.

    Args:
        stop: sequences of token ids.
    """

    def __init__(self, stop: Sequence[Sequence[int]]) -> None:
        self.stop = stop
        self.longest = max(map(len, stop), default=1)

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Return which rows (B,) are finished."""
        finished = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for sequence in self.stop:
            if input_ids.shape[1] >= len(sequence):
                wanted = torch.tensor(sequence, device=input_ids.device)
                finished |= (input_ids[:, -len(sequence) :] == wanted).all(1)
        return finished


def cut_at_stop(ids: list[int], stop: Sequence[Sequence[int]]) -> list[int]:
    """Return the tokens before the first stop sequence."""
    ends = [i for sequence in stop for i in range(len(ids) - len(sequence) + 1) if ids[i : i + len(sequence)] == list(sequence)]
    return ids[: min(ends, default=len(ids))]


def _first_equals(instructions: Sequence[str], tokens_BLD: Tensor | None) -> list[int]:
    """Index of the first equal prompt, for each prompt."""
    first: dict[tuple[str, bytes], int] = {}
    contents = [b""] * len(instructions) if tokens_BLD is None else [_digest(tokens_LD) for tokens_LD in tokens_BLD]
    return [first.setdefault(prompt, i) for i, prompt in enumerate(zip(instructions, contents, strict=True))]


def _digest(tokens_LD: Tensor) -> bytes:
    return hashlib.sha256(tokens_LD.detach().float().cpu().numpy().tobytes()).digest()


def _pad_left(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    longest = max(len(s) for s in sequences)
    embeds = torch.stack([torch.cat([s.new_zeros(longest - len(s), s.shape[1]), s]) for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences], device=embeds.device)
    return embeds, mask
