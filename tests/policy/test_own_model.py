"""A model, a tokenizer or problems of the wrong kind are refused in one message before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

from masa import MASATrainer, load_config
from masa.embedded import load_embedded_tokenizer
from masa.problems.errors import ProblemDataError

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


class _Model:
    """Has a configuration, and is no model all the same."""

    config = None


@pytest.mark.parametrize(
    ("given", "kind", "found"),
    [
        ({"model": "Qwen/Qwen3-8B"}, TypeError, r"model is 'Qwen/Qwen3-8B' \(str\), .*named in model\.path"),
        ({"model": _Model}, TypeError, "model is the class _Model, a causal language model"),
        ({"model": load_embedded_tokenizer()}, TypeError, "a causal language model of transformers is needed"),
        ({"tokenizer": "embedded"}, TypeError, r"tokenizer is 'embedded' \(str\), a tokenizer of transformers"),
        ({"eval_problems": 3}, ProblemDataError, r"found 3 \(int\), allowed: a name, a path, or a list of rows"),
        ({"problems": 3}, ProblemDataError, r"found 3 \(int\), allowed: a name, a path, or a list of rows"),
    ],
)
def test_objects_of_another_kind_are_refused_by_name(
    given: dict[str, Any], kind: type[Exception], found: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=found):
        MASATrainer(load_config(QUICKSTART, [f"run.dir={tmp_path}", "problems.limit=8"]), **given)
