"""All that a plugin may import. Importing it loads no torch."""

from harness.api.data import Dataset, DatasetSource, Listwise, LoadOptions, Message, Pair, Response
from harness.api.errors import HarnessError
from harness.api.hookspecs import hookimpl
from harness.api.loss import Loss, Range, Terms, require, wraps
from harness.api.pairs import Logps, PairLogps, ResponseLogps
from harness.api.scores import OpenScorer, ScoreRequest, ScorerOptions, ScorerSource

__all__ = [
    "Dataset",
    "DatasetSource",
    "HarnessError",
    "Listwise",
    "LoadOptions",
    "Logps",
    "Loss",
    "Message",
    "OpenScorer",
    "Pair",
    "PairLogps",
    "Range",
    "Response",
    "ResponseLogps",
    "ScoreRequest",
    "ScorerOptions",
    "ScorerSource",
    "Terms",
    "hookimpl",
    "require",
    "wraps",
]
