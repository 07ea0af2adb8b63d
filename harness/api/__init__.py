"""All that a plugin may import. Importing it loads no torch."""

from harness.api.data import (
    Dataset,
    DatasetSource,
    Listwise,
    LoadOptions,
    MadeTask,
    Message,
    OpenPrompt,
    OpenPrompts,
    Origin,
    Pair,
    Response,
)
from harness.api.declarations import ComparisonKind, Domain, Limit, MovingReference, Range
from harness.api.errors import HarnessError
from harness.api.generation import Generated, GenerateRequest, OpenGenerator, Sampling
from harness.api.gradients import stop_gradient
from harness.api.hookspecs import hookimpl
from harness.api.judging import JudgeCost, JudgeOptions, JudgeRequest, JudgeSource, OpenJudge, Rating, Verdict
from harness.api.loss import Loss, State, Terms, require, wraps
from harness.api.pairs import Logps, PairLogps, ResponseLogps
from harness.api.scores import OpenScorer, ScoreRequest, ScorerOptions, ScorerSource
from harness.api.selection import Candidate, Selector, StartLogps, best_of_each_prompt, mean_gaps, score_margins
from harness.api.wrapper import Wrapper

__all__ = [
    "Candidate",
    "ComparisonKind",
    "Dataset",
    "DatasetSource",
    "Domain",
    "GenerateRequest",
    "Generated",
    "HarnessError",
    "JudgeCost",
    "JudgeOptions",
    "JudgeRequest",
    "JudgeSource",
    "Limit",
    "Listwise",
    "LoadOptions",
    "Logps",
    "Loss",
    "MadeTask",
    "Message",
    "MovingReference",
    "OpenGenerator",
    "OpenJudge",
    "OpenPrompt",
    "OpenPrompts",
    "OpenScorer",
    "Origin",
    "Pair",
    "PairLogps",
    "Range",
    "Rating",
    "Response",
    "ResponseLogps",
    "Sampling",
    "ScoreRequest",
    "ScorerOptions",
    "ScorerSource",
    "Selector",
    "StartLogps",
    "State",
    "Terms",
    "Verdict",
    "Wrapper",
    "best_of_each_prompt",
    "hookimpl",
    "mean_gaps",
    "require",
    "score_margins",
    "stop_gradient",
    "wraps",
]
