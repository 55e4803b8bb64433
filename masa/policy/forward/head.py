"""What a model does to its output head's product to make logits, found out by numbers: a scale, and a soft cap.

Configurations name these in many ways (`final_logit_softcapping`, `logits_scaling`, `lm_head_multiplier`, ...), at the
top or in a part of theirs. So the model itself is asked: its head is made to answer with chosen numbers, and what comes
out as logits tells what was done to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from masa.config import ConfigError
from masa.errors import brief

_PROBE_TOKENS = 5
# Relative: what is compared was computed in the model's own precision.
_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


@dataclass(frozen=True)
class LogitTransform:
    """Logits are softcap * tanh(scale * raw / softcap), or scale * raw without a soft cap.

    Here ``raw`` is what the head answers, hidden @ weight.T + bias.
    """

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, raw: Tensor) -> Tensor:
        scaled = raw if self.scale == 1.0 else raw * self.scale
        return scaled if self.softcap is None else self.softcap * torch.tanh(scaled / self.softcap)


PLAIN = LogitTransform()


@dataclass
class _Seen:
    states: Tensor | None = None
    read: Tensor | None = None


def decoder_of(model: Any) -> Any:
    """The part that makes hidden states of tokens; ``model`` itself where it has no such part."""
    decoder = model.get_decoder()
    # Some name themselves (Llama 4's text model) though they have one.
    return decoder if decoder is not None and decoder is not model else getattr(model, "model", model.base_model)


@torch.no_grad()
def logit_transform(model: Any) -> LogitTransform:
    """How ``model`` makes logits of its decoder's last hidden states, its head's matrix and bias.

    One forward pass of a few tokens. Torch's random state stays as it is.

    Raises:
        ConfigError: it does something else than scale and cap, and the message gives the size of the difference; or it
            needs more than token ids.
    """
    head: Any = model.get_output_embeddings()
    decoder: Any = decoder_of(model)
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise _refusal(model, "it has no output head that is one matrix")
    if decoder is model:
        raise _refusal(model, "it names no decoder beside its head")
    seen = _Seen()
    raw = _numbers(weight.shape[0]).to(weight.device)

    def note_states(module: nn.Module, inputs: Any, output: Any) -> None:
        states = getattr(output, "last_hidden_state", None)
        seen.states = states if isinstance(states, Tensor) else output[0]

    def answer(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        seen.read = inputs[0]
        return raw.expand(*output.shape[:-1], -1).clone()

    handles = [decoder.register_forward_hook(note_states), head.register_forward_hook(answer)]
    training = model.training
    model.eval()
    try:
        ids = torch.arange(3, 3 + _PROBE_TOKENS, device=weight.device)[None] % weight.shape[0]
        logits = model(input_ids=ids, use_cache=False).logits
    except (TypeError, ValueError, AttributeError) as error:  # of decoders that need another model's states
        raise _refusal(model, f"it makes no logits of token ids alone ({brief(error)})") from error
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if seen.read is None or seen.states is None:
        raise _refusal(model, "its logits are made without a call of its decoder or its output head")
    before = _factor(model, seen.states, seen.read, _TOLERANCES[weight.dtype])
    if before != 1.0 and getattr(head, "bias", None) is not None:
        raise _refusal(model, f"it multiplies hidden states by {before:g} before a head with a bias")
    after = _fitted(model, raw, logits[0, -1].to(raw.dtype))
    return LogitTransform(_as_configured(before * after.scale, model.config), after.softcap)


def _numbers(vocabulary: int) -> Tensor:
    """[V] in float32, from -60 to 60 and far beyond, in an order that has nothing to do with the words'."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.empty(vocabulary).uniform_(-60.0, 60.0, generator=generator)
    # The slope at nothing is the scale, the value at very much the cap.
    raw[:4] = torch.tensor([2.0**-10, 2.0**24, -(2.0**-10), -(2.0**24)])[:vocabulary]
    return raw


def _factor(model: Any, states: Tensor, read: Tensor, tolerance: float) -> float:
    """What the decoder's states are multiplied by before the head reads them."""
    states, read = states.double()[..., -1:, :], read.double()[..., -1:, :]
    if states.shape != read.shape:
        raise _refusal(model, f"its head reads states of shape {tuple(read.shape)}, not {tuple(states.shape)}")
    factor = float((states * read).sum() / (states * states).sum())
    off = float((read - factor * states).abs().max() / read.abs().max())
    if not off <= tolerance:
        raise _refusal(model, f"what its head reads is off by {off:.2g} from a multiple of the decoder's states")
    return 1.0 if abs(factor - 1.0) <= tolerance else factor


def _fitted(model: Any, raw: Tensor, logits: Tensor) -> LogitTransform:
    logits = logits.double()
    if logits.shape != raw.shape:
        raise _refusal(model, f"it makes {logits.shape[-1]} logits of {raw.shape[-1]} words")
    scale = float(logits[0] / raw.double()[0])
    capped = float(logits[1]) < 0.5 * scale * float(raw[1])
    found = LogitTransform(scale, _as_configured(float(logits[1]), model.config) if capped else None)
    # Some models make logits in half precision.
    rounding = max(_TOLERANCES[torch.float32], 4 * torch.finfo(model.dtype).eps)
    off = float(((logits - found(raw.double())).abs() / (1.0 + logits.abs())).max())
    if not off <= rounding:
        raise _refusal(
            model, f"its logits are off by {off:.2g} (relative) from the head's product scaled and soft-capped"
        )
    return found


def _as_configured(value: float, config: Any) -> float:
    """The number of the configuration that ``value`` is up to rounding, or one over it; else ``value``."""
    numbers = {abs(one) for one in _all_numbers(config.to_dict()) if one} | {1.0}
    named = sorted((abs(one / value - 1.0), one) for number in numbers for one in (number, 1.0 / number))
    return named[0][1] if named[0][0] <= 1e-4 else value


def _all_numbers(values: Any) -> list[float]:
    if isinstance(values, dict):
        return [number for one in values.values() for number in _all_numbers(one)]
    return [float(values)] if isinstance(values, int | float) and not isinstance(values, bool) else []


def _refusal(model: Any, why: str) -> ConfigError:
    return ConfigError(
        f"model.path: {type(model).__name__} cannot be trained here: {why}; allowed are models whose logits are their "
        "decoder's last states times one matrix, with a bias, a scale and a soft cap where they have them"
    )
