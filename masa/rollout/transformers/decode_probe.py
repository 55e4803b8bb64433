"""Which way of decoding is right for a model: each is compared with the model's own pass over whole sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from masa.config import ConfigError
from masa.rollout.transformers.decoders import Decoder, GrowingDecoder, OwnCacheDecoder, sampling_alone

_STEPS = 4
_SHORT, _LONG = 5, 40
# Windows beyond this are not filled: a pass over more tokens would no longer be a matter of seconds.
_LONGEST_WINDOW = 4096
# Largest difference of probabilities, as a share of what the model's own next-token distributions differ by from
# position to position. Rounding gives about 1e-6 in float32; a wrong mask or a mixed row gives 0.01 to 1.
_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
_WINDOWS = ("sliding_window", "attention_chunk_size", "sliding_window_size", "local_attention_window", "window_size")


@dataclass(frozen=True)
class _Way:
    name: str
    decoder: Decoder


def trusted_decoder(model: PreTrainedModel) -> Decoder | None:
    """The fast way where the model's structure alone shows that it is right; None where numbers must decide."""
    inner = model.get_decoder()
    return _ways(model)[0].decoder if has_full_attention(model) and hasattr(inner, "rotary_emb") else None


def has_full_attention(model: PreTrainedModel) -> bool:
    """Whether the configuration names nothing but full attention."""
    config = model.config.get_text_config()
    types = getattr(config, "layer_types", None) or ["full_attention"]
    return set(types) == {"full_attention"} and not _windows(model)


@torch.inference_mode()
def choose_decoder(model: PreTrainedModel) -> Decoder:
    """The first way of decoding, fastest first, that agrees with the model's own pass over whole sequences.

    Raises:
        ConfigError: none agrees; the message names the model and how far each is off.
    """
    failures = []
    with sampling_alone(model):
        prompts, fed = _sequences(model)
        expected = _whole_passes(model, prompts, fed)
        for way in _ways(model):
            try:
                found = _decoded(way.decoder, prompts, fed)
            except Exception as error:  # what models raise when they are given another cache than theirs is anything
                failures.append(f"{way.name}: {type(error).__name__}")
                continue
            difference = _difference(found, expected)
            if difference <= _TOLERANCES.get(model.dtype, 0.3):
                way.decoder.refills = way.decoder.refills and _refills(way.decoder, prompts, fed, expected)
                return way.decoder
            failures.append(f"{way.name}: {difference:.2g} off")
    raise ConfigError(
        f"rollout.engine: found transformers with {type(model).__name__}, whose decoding differs from its own pass "
        f"over whole sequences ({'; '.join(failures)}); allowed: models with attention layers, whatever their windows, "
        "or whose own cache gives what a whole pass gives, or rollout.engine=vllm"
    )


def _ways(model: PreTrainedModel) -> list[_Way]:
    ways = [
        _Way("a mask of new tokens", GrowingDecoder(model, four_dimensional=True)),
        _Way("a mask of padding", GrowingDecoder(model, four_dimensional=False)),
        _Way("the model's cache, padded", OwnCacheDecoder(model, padded=True)),
        _Way("the model's cache, prompts of one length", OwnCacheDecoder(model, padded=False)),
    ]
    # A window that the probe cannot fill, or random weights that hardly attend, must not make full attention look
    # right; and keys and values alone are not the memory of other layers than attention.
    config = model.config.get_text_config()
    types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if types - {"full_attention", "sliding_attention"}:
        return ways[2:]
    return ways if has_full_attention(model) else ways[1:]


def _windows(model: PreTrainedModel) -> list[int]:
    config = model.config.get_text_config()
    values = [getattr(config, name, None) for name in _WINDOWS]
    return [one for one in values if isinstance(one, int) and one > 0]


def _sequences(model: PreTrainedModel) -> tuple[list[list[int]], Tensor]:
    """Two prompts, one of them longer than every window, and the tokens that follow each, ``[2, steps]``."""
    config = model.config.get_text_config()
    longest = max([_LONG, *(one + 9 for one in _windows(model) if one <= _LONGEST_WINDOW)])
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > _STEPS + 1:
        longest = min(longest, positions - _STEPS)
    generator = torch.Generator().manual_seed(0)
    embeddings: Any = model.get_input_embeddings()
    vocabulary = int(embeddings.weight.shape[0])

    def drawn(length: int) -> list[int]:
        return torch.randint(0, vocabulary, (length,), generator=generator).tolist()

    prompts = [drawn(longest), drawn(min(_SHORT, longest))]
    return prompts, torch.tensor([drawn(_STEPS) for _ in prompts], device=model.device)


def _whole_passes(model: Any, prompts: Sequence[list[int]], fed: Tensor) -> Tensor:
    """Log-probs of the next token after the prompt and after each token fed, ``[2, steps + 1, vocabulary]``."""
    rows = []
    for prompt, tokens in zip(prompts, fed, strict=True):
        ids = torch.tensor([[*prompt, *tokens.tolist()]], device=fed.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, -_STEPS - 1 :]
        rows.append(logits.float().log_softmax(-1))
    return torch.stack(rows)


def _decoded(decoder: Decoder, prompts: Sequence[list[int]], fed: Tensor) -> Tensor:
    """The same by decoding; rows are given out twice, in another order, and one is dropped, as sampling does."""
    results: list[Tensor] = []
    for group in [[0], [1]] if decoder.equal_lengths else [[0, 1]]:
        count = len(group)
        batch = decoder.prefill([prompts[one] for one in group])
        # The first rows are neighbours that are fed other tokens, which shows whether rows mix.
        rows = torch.tensor([*reversed(range(count)), *range(count)], device=fed.device)
        tokens = fed[torch.tensor(group, device=fed.device)[rows]]
        tokens[:count] = tokens[:count].flip(1)
        batch.give_out(rows)
        present = torch.arange(len(rows), device=fed.device)
        steps = [batch.logits[count:]]
        for step in range(_STEPS):
            decoder.advance(batch, tokens[present, step])
            order = torch.argsort(present)
            steps.append(batch.logits[order[-count:]])
            if step == _STEPS // 2:
                present = present[batch.keep(present != 0)]
        results += list(torch.stack(steps, dim=1).float().log_softmax(-1))
    return torch.stack(results)


def _refills(decoder: Decoder, prompts: Sequence[list[int]], fed: Tensor, expected: Tensor) -> bool:
    """Whether a row that is given to the second prompt while the first goes on in another gives what it should."""
    found = []
    try:
        batch, ahead = decoder.prefill(prompts), decoder.prefill(prompts)
        decoder.advance(batch, fed[:, 0])
        row, last = torch.tensor([1], device=fed.device), torch.tensor(prompts[1][-1:], device=fed.device)
        batch.refill(row, ahead, row)
        for step in range(1, _STEPS):
            decoder.advance(batch, torch.cat([fed[:1, step], last if step == 1 else fed[1:, step - 2]]))
            found.append(batch.logits)
    except Exception:  # as above: then batches are decoded one after the other
        return False
    logits = torch.stack(found, dim=1).float().log_softmax(-1)
    wanted = torch.stack([expected[0, 2 : _STEPS + 1], expected[1, : _STEPS - 1]])
    return _difference(logits, wanted) <= _TOLERANCES.get(decoder.model.dtype, 0.3)


def _difference(found: Tensor, expected: Tensor) -> float:
    """Total variation between the two, as a share of that between the expected distributions of different positions."""
    found, expected = found.exp(), expected.exp()
    flat = expected.flatten(0, 1)
    spread = (flat - flat.roll(1, dims=0)).abs().sum(-1).mean()
    difference = (found - expected).abs().sum(-1).max() / spread.clamp(min=1e-6)
    return float(difference) if bool(found.isfinite().all()) else float("inf")
