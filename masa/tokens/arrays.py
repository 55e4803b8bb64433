"""Token ids and log-probs as immutable sequences around numpy arrays: 4 bytes each, and no Python object for any.

They are read as tuples are (length, iteration, indices, slices, comparison), and as arrays by `numpy.asarray`, without
a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

import numpy as np

_Number = TypeVar("_Number", int, float)
_SHOWN = 4


class NumberArray(Sequence[_Number], Generic[_Number]):
    """What `TokenIds` and `LogProbs` have in common.

    Args:
        values: a sequence, an array or a tensor on the CPU; they are copied.

    Raises:
        TypeError: values that are no numbers of this kind.
        ValueError: values of another shape than [L], or out of range.
    """

    __slots__ = ("_hash", "_values")
    dtype: ClassVar[type[np.generic]]
    kinds: ClassVar[str]
    """The kinds of numpy types that are taken."""

    def __init__(self, values: Any = ()) -> None:
        found = np.asarray(values)
        if found.ndim != 1:
            raise ValueError(f"{type(self).__name__}: found an array of shape {found.shape}, allowed: one dimension")
        if found.size and found.dtype.kind not in self.kinds:
            raise TypeError(f"{type(self).__name__}: found values of the type {found.dtype}")
        self._check_range(found)
        self._take(found.astype(self.dtype))

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """The array with these bytes, which are not copied."""
        return cls._around(np.frombuffer(data, dtype=cls.dtype))

    @classmethod
    def _around(cls, values: Any) -> Self:
        made = cls.__new__(cls)
        made._take(values)
        return made

    def _take(self, values: Any) -> None:
        values.flags.writeable = False
        self._values = values
        self._hash: int | None = None

    def _check_range(self, found: Any) -> None:
        """Every number that has this kind is in range, unless a subclass says otherwise."""

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[_Number]:
        return iter(self._values.tolist())

    @overload
    def __getitem__(self, place: int) -> _Number: ...

    @overload
    def __getitem__(self, place: slice) -> Self: ...

    def __getitem__(self, place: int | slice) -> _Number | Self:
        if isinstance(place, slice):
            return self._around(self._values[place])
        number: _Number = self._values[place].item()
        return number

    def __contains__(self, value: object) -> bool:
        return bool((self._values == value).any())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if dtype is None or np.dtype(dtype) == self._values.dtype:
            return self._values.copy() if copy else self._values
        if copy is False:
            raise ValueError(f"{self._values.dtype} cannot become {np.dtype(dtype)} without a copy")
        return self._values.astype(dtype)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(tuple(self._values.tolist()))
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).of_bytes, (self._values.tobytes(),)

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._values[:_SHOWN].tolist()))
        more = f", ... {len(self)} in all" if len(self) > _SHOWN else ""
        return f"{type(self).__name__}({shown}{more})"


class TokenIds(NumberArray[int]):
    """[L] token ids, int32. They equal tuples and lists of the same numbers, and hash as such a tuple does."""

    __slots__ = ()
    dtype = np.int32
    kinds = "iu"

    def _check_range(self, found: Any) -> None:
        if found.size and found.dtype.itemsize > 2 and found.dtype != np.int32:
            least, largest = int(found.min()), int(found.max())
            if least < -(2**31) or largest >= 2**31:
                outside = least if least < -(2**31) else largest
                raise ValueError(f"TokenIds: found {outside}, allowed: -2,147,483,648 to 2,147,483,647")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TokenIds):
            return self is other or np.array_equal(self._values, other._values)
        if isinstance(other, (tuple, list)):
            return len(other) == len(self) and self._values.tolist() == list(other)
        return NotImplemented

    __hash__ = NumberArray.__hash__


class LogProbs(NumberArray[float]):
    """[L] log-probs in nats, float32, which is what engines compute.

    They equal tuples and lists of numbers that are the same in float32; NaN equals NaN. The hash is that of a tuple of
    the float32 numbers.
    """

    __slots__ = ()
    dtype = np.float32
    kinds = "fiu"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (tuple, list)):
            if len(other) != len(self):
                return False
            try:
                other = LogProbs(other)
            except (TypeError, ValueError):
                return False
        if isinstance(other, LogProbs):
            return self is other or np.array_equal(self._values, other._values, equal_nan=True)
        return NotImplemented

    __hash__ = NumberArray.__hash__
