from __future__ import annotations

import pytest
import torch

from masa.rewards.overlong import overlong_punishment


def test_the_punishment_is_linear_over_the_buffer() -> None:
    lengths = [1, 80, 81, 90, 100, 130]
    expected = [0.0, 0.0, -0.05, -0.5, -1.0, -1.0]
    assert overlong_punishment(lengths, limit=100, buffer=20).tolist() == pytest.approx(expected)
    assert torch.equal(overlong_punishment(torch.tensor(lengths), 100, 20), overlong_punishment(lengths, 100, 20))


@pytest.mark.parametrize("buffer", [0, 101])
def test_a_buffer_outside_the_limit_is_refused(buffer: int) -> None:
    with pytest.raises(ValueError, match=f"buffer is {buffer} tokens; allowed are 1 to the limit of 100"):
        overlong_punishment([1], limit=100, buffer=buffer)
