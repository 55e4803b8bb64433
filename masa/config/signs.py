"""The names of the warning signs that a run can show; `masa.tracking.warning_signs` says what each means."""

from typing import Literal

SignName = Literal[
    "metas_unparsed",
    "responses_truncated",
    "groups_flat",
    "no_gradient",
    "entropy_collapse",
    "kl_explosion",
    "length_explosion",
    "parse_rate_falling",
]
