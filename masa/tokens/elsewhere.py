"""Token ids and log-probs that another process of the run has: here they have a length and no numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from masa.tokens.arrays import LogProbs, TokenIds


class ElsewhereError(RuntimeError):
    """Numbers were read in a process that does not have them; the message says which one does."""


@dataclass(frozen=True)
class Elsewhere(Sequence[Any]):
    """``length`` numbers that are in process ``process``; `masa.tokens.exchange` brings them where they are needed."""

    process: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        self._refuse()

    def __getitem__(self, place: int | slice) -> Any:
        self._refuse()

    def __contains__(self, value: object) -> bool:
        self._refuse()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ElsewhereError(
            f"these {self.length} tokens were sampled by process {self.process} and are only there; a process has the "
            "tokens and texts of its own rollouts, and the lengths, verdicts and rewards of all (docs/distributed.md)"
        )


def token_ids(values: Any) -> TokenIds | Elsewhere:
    """``values`` as token ids; arrays stay the objects that they are.

    Raises: as `TokenIds`.
    """
    return values if isinstance(values, TokenIds | Elsewhere) else TokenIds(values)


def logprobs(values: Any) -> LogProbs | Elsewhere:
    """``values`` as log-probs; arrays stay the objects that they are.

    Raises: as `LogProbs`.
    """
    return values if isinstance(values, LogProbs | Elsewhere) else LogProbs(values)
