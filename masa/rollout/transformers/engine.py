"""Rollouts with a `transformers` model in this process: batched, cached, seeded per sample, on any machine.

A batch of sequences is decoded together: prompts are left-padded and run once each, and their caches are shared out to
the samples. The row of a sequence that ends is given to the next sample; where none waits, or the model's cache has no
rows that could be given away, it leaves the batch so that it costs nothing more.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from masa.model.packed_linears import packed_linears
from masa.model.weights import Weights, named_tensors, policy_weights
from masa.rollout.engine import Ended, Rollout, RolloutRequest
from masa.rollout.statistics import EngineStatistics
from masa.rollout.stop_texts import StopTexts
from masa.rollout.stream import generate
from masa.rollout.transformers.decode_probe import choose_decoder, trusted_decoder
from masa.rollout.transformers.stream import Batches, TransformersStream


class TransformersEngine:
    """A `RolloutEngine` over a causal language model of `transformers`.

    The engine decodes with the very module it is given. Handed the policy itself it is always up to date and
    `update_weights` only advances the version; handed a copy, it copies the new parameters in.

    Args:
        model: the causal language model, on its device.
        stop_ids: token ids that end a response.
        max_batch_size: sequences decoded at a time.
        dtype: the type that linear layers are computed in while it samples, the head's excepted; None: the model's.
        stop_texts: texts that end a response as well.

    Raises:
        ConfigError: this machine has no products in ``dtype``.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_ids: Sequence[int],
        max_batch_size: int = 256,
        dtype: torch.dtype | None = None,
        stop_texts: StopTexts | None = None,
    ) -> None:
        if not stop_ids:
            raise ValueError("the engine needs at least one token id that ends a response")
        self.model = model
        self.max_batch_size = max_batch_size
        self.weight_version = 0
        self.weight_dtype = dtype or model.dtype
        self._linears = packed_linears(model, dtype)
        self._stop_ids = torch.tensor(sorted(set(stop_ids)), device=model.device)
        self._stop_texts = stop_texts
        self._decoder = trusted_decoder(model)
        self._statistics = EngineStatistics()
        self._closing = threading.Event()

    def generate(self, requests: Sequence[RolloutRequest], ended: Ended | None = None) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``."""
        return generate(self.stream(), requests, ended)

    def stream(self) -> TransformersStream:
        """A stream that decodes inside of `TransformersStream.take`."""
        if self._decoder is None:
            self.check_decoding()
        assert self._decoder is not None
        batches = Batches(
            self._decoder,
            self._stop_ids,
            self.max_batch_size,
            self.weight_version,
            self._closing,
            stop_texts=self._stop_texts,
            linears=self._linears,
        )
        return TransformersStream(batches, self._statistics)

    def check_decoding(self) -> None:
        """Find by numbers how to decode, with the weights that the model has now.

        Raises:
            ConfigError: no way of decoding gives what the model's own pass over whole sequences gives.
        """
        self._decoder = choose_decoder(self.model)

    def update_weights(self, weights: Weights, version: int) -> None:
        """Copy the named parameters in (those that are already the engine's own cost nothing)."""
        if self._linears is not None:
            self._linears.forget()
        if weights is self.model:
            self.weight_version = version
            return
        own = {**dict(self.model.named_buffers()), **dict(self.model.named_parameters())}
        with torch.no_grad():
            for name, tensor in named_tensors(weights):
                if name not in own:
                    raise KeyError(f"the engine's model has no parameter or buffer {name!r}")
                if own[name].data_ptr() != tensor.data_ptr():
                    own[name].copy_(tensor)
        self.weight_version = version

    def sleep(self) -> None:
        """Nothing to give back: the caches live no longer than `generate`."""

    def wake(self) -> None:
        """Nothing to undo."""

    def checksums(self) -> list[int]:
        """The checksum of the model that samples; none where it computes with copies in another type."""
        if self.weight_dtype != self.model.dtype:
            return []
        from masa.rollout.weights.agreement import weight_checksum

        return [weight_checksum(tensor for _, tensor in policy_weights(self.model))]

    def statistics(self) -> dict[str, float]:
        """Tokens per second since the last call; none where nothing was sampled."""
        return self._statistics.reading()

    def close(self) -> None:
        """Give up what another thread is sampling; the model belongs to whoever handed it in."""
        self._closing.set()
