"""From the name of a selection method to the method."""

from __future__ import annotations

from masa.config import Config
from masa.controls.own.selection import own_selector
from masa.controls.selection.combined import CombinedSelector
from masa.controls.selection.history import HistorySelector
from masa.controls.selection.markov import MarkovSelector
from masa.controls.selection.meta import MetaSelector
from masa.controls.selection.oracle import OracleSelector
from masa.controls.selection.posterior import PosteriorSelector
from masa.controls.selection.selector import Selector
from masa.controls.selection.value_head import ValueHeadSelector


def make_selector(config: Config) -> Selector | None:
    """The method that ``controls.selection.method`` names; None where all problems are solved."""
    section, seed = config.controls.selection, config.run.seed
    match config.controls.selection_method:
        case "none":
            return None
        case "meta":
            return MetaSelector(config.controls.gating)
        case "combined":
            return CombinedSelector(section.combined.discount, config.controls.gating)
        case "history":
            return HistorySelector(section.history, seed)
        case "posterior":
            return PosteriorSelector(section.posterior.discount, section.target, seed)
        case "markov":
            return MarkovSelector(section.markov)
        case "value_head":
            return ValueHeadSelector(section.value_head, section.target)
        case "oracle":
            return OracleSelector()
        case _:
            return own_selector(config)
