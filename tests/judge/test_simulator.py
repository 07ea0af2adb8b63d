"""The judge that knows the truth, held against how the answers were made, and judges with a planted fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_judges import PlantedJudge

from harness.api import Dataset, HarnessError, JudgeOptions, JudgeRequest, MadeTask, Message, Rating
from harness.data.evaluation import with_test_data
from harness.data.simulator import tasks
from harness.data.simulator.reading import read
from harness.data.simulator.responses import LEVELS, STYLES, Quality, draw, response
from harness.data.simulator.synthetic import Settings, make
from harness.data.simulator.tasks import Task, pick
from harness.judge.simulator import NO_RULE, open_simulator

SMALL = Settings(prompts_train=10, prompts_dev=5, prompts_test=60)
SUM = MadeTask(
    family="arithmetic",
    style="paragraph",
    right="5",
    near="6",
    slots=(("name", "Anna"), ("thing", "cup"), ("rows", "2"), ("each", "4"), ("gone", "3")),
)
GOOD = (
    "Of course, here is my answer. There are 5 cups left. We multiply 2 by 4 and subtract 3. "
    "Write down the product before you subtract. Have a lovely day."
)
BEST = Quality(completeness=1.0, format=1.0, concision=1.0, tone=1.0, correctness=1.0)


def of(task: Task, style: str) -> MadeTask:
    return MadeTask(family=task.family, style=style, right=task.right, near=task.near, slots=task.slots)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make(SMALL, 3)


def asked(data: Dataset, text: str, prompt_id: str) -> JudgeRequest:
    context = (Message(role="user", content="?"),)
    return JudgeRequest(prompt_id=prompt_id, context=context, answers=(text,), task=data.tasks[prompt_id])


def test_every_part_of_the_quality_of_an_answer_is_read_back_from_its_text() -> None:
    rng = np.random.default_rng(8)
    for _ in range(250):
        task, style, quality = tasks.task(rng), pick(rng, list(STYLES)), draw(rng)
        text = response(rng, task, style, quality)
        assert read(text, of(task, style)) == quality, text


@pytest.mark.parametrize("style", STYLES)
def test_every_level_of_every_part_is_read_in_every_style(style: str) -> None:
    rng = np.random.default_rng(2)
    for part, levels in LEVELS.items():
        for level in sorted(set(levels)):
            task, quality = tasks.task(rng), replace(BEST, **{part: level})
            text = response(rng, task, style, quality)
            assert read(text, of(task, style)) == quality, text


def test_the_simulator_gives_its_own_answers_their_true_quality(data: Dataset) -> None:
    judge = open_simulator("", JudgeOptions())
    responses = [(prompt, each) for prompt in data.listwise_test for each in prompt.responses]
    ratings = judge.judge([asked(data, each.text, prompt.prompt_id) for prompt, each in responses])
    assert [rating.value for rating in ratings] == [each.true_quality for _, each in responses]
    assert {rating.reason for rating in ratings} == {""}


@pytest.mark.parametrize(
    "text",
    ["", "purple", "xkq zzz. wq! 77", "I cannot answer that.", "Happy to help you with this. I hope this helps you."],
)
def test_text_that_fits_no_rule_gets_the_lowest_score_and_says_so(data: Dataset, text: str) -> None:
    prompt = next(iter(data.tasks))
    assert open_simulator("", JudgeOptions()).judge([asked(data, text, prompt)]) == [Rating(value=1.0, reason=NO_RULE)]


def changed(**parts: float) -> Quality:
    return replace(BEST, **parts)


READ = {
    "as the simulator writes it": (GOOD, BEST),
    "a wrong number": (GOOD.replace("are 5 cups", "are 52 cups"), changed(correctness=0.0)),
    "a number that begins with the right one": (GOOD.replace("are 5 cups", "are 5.5 cups"), None),
    "another thing": (GOOD.replace("cups", "books"), changed(correctness=0.0)),
    "a reason with other numbers": (GOOD.replace("by 4", "by 7"), changed(correctness=0.0)),
    "the tip of another task": (
        GOOD.replace("Write down the product before you subtract.", "Read the sentence twice and mark each fact."),
        changed(correctness=0.0),
    ),
    "no opening": (GOOD.removeprefix("Of course, here is my answer. "), BEST),
    "a rude end": (GOOD.replace("Have a lovely day.", "Next time do it yourself."), changed(tone=0.5)),
    "a sentence of its own": (GOOD.replace("We mult", "Cups are nice. We mult"), changed(concision=0.5)),
    "the answer three times": (
        GOOD.replace("We mult", "There are 5 cups left. There are 5 cups left. We mult"),
        changed(concision=0.0),
    ),
    "two paragraphs": (GOOD.replace("left. We", "left.\nWe"), changed(format=0.5)),
    "cut off in the tip": (GOOD.split(" product")[0], changed(completeness=0.5)),
    "cut off in the reason": (GOOD.split(" by 4")[0], changed(completeness=0.0, concision=0.5)),
}


@pytest.mark.parametrize("case", READ)
def test_text_of_a_model_is_read_by_the_same_rules(case: str) -> None:
    text, quality = READ[case]
    assert read(text, SUM) == quality


def test_any_list_that_keeps_to_the_task_is_right_and_no_other() -> None:
    slots = (("name", "Ben"), ("kind", "fruits"), ("count", "3"), ("letter", "P"))
    task = MadeTask(family="list items", style="paragraph", right="apple, lemon, mango", near="apple", slots=slots)

    def correct(items: str) -> float:
        quality = read(f"Here are 3 fruits: {items}.", task)
        assert quality is not None
        return quality.correctness

    assert correct("melon, grape, banana") == correct("apple, lemon, mango") == 1.0
    for wrong in ("melon, grape, pear", "melon, grape", "melon, melon, grape", "melon, grape, camel"):
        assert correct(wrong) == 0.0, wrong


def test_the_tasks_are_kept_per_prompt_and_change_no_fingerprint(data: Dataset) -> None:
    assert {pair.prompt_id for pair in (*data.train, *data.dev, *data.test)} == set(data.tasks)
    assert replace(data, tasks={}).fingerprint == data.fingerprint
    assert make(Settings(), 0).fingerprint == "0687b7968fe56948"  # that of the committed boards


def test_the_tasks_of_an_evaluation_set_come_with_it(data: Dataset) -> None:
    other = make(replace(SMALL, prompts_train=0, prompts_dev=0), 9)
    assert set(other.tasks) <= set(with_test_data(data, other).tasks)


def test_data_without_tasks_are_refused() -> None:
    request = JudgeRequest(prompt_id="p1", context=(Message(role="user", content="?"),), answers=("yes",))
    with pytest.raises(HarnessError, match="got prompt p1 without its task"):
        open_simulator("", JudgeOptions()).judge([request])


# The planted judges: what each is for, shown on answers to one task.

PLAIN, WORSE = GOOD, GOOD.replace("Have a lovely day.", "Next time do it yourself.")
LONG = GOOD.replace("We multiply 2 by 4 and subtract 3.", "From 2 times 4 we take 3 away.").replace(
    "Have a lovely day.", "Please ask me if you need more."
)


def pair(first: str, second: str) -> JudgeRequest:
    context = (Message(role="user", content="?"),)
    return JudgeRequest(prompt_id="p", context=context, answers=(first, second), task=SUM)


def preference(judge: PlantedJudge, first: str, second: str) -> float:
    (verdict,) = judge.judge([pair(first, second)])
    assert verdict.preference is not None
    return verdict.preference


def test_a_judge_without_fault_prefers_by_quality_alone() -> None:
    assert preference(PlantedJudge(), PLAIN, LONG) == 0.5
    assert preference(PlantedJudge(), PLAIN, WORSE) == pytest.approx(1 / (1 + np.exp(-4 * 0.17 * 0.5)))


def test_a_length_biased_judge_prefers_the_longer_of_two_equal_answers() -> None:
    assert len(LONG) > len(PLAIN)
    assert preference(PlantedJudge(per_length=2.0), LONG, PLAIN) > 0.5
    assert preference(PlantedJudge(per_length=2.0), PLAIN, LONG) < 0.5


def test_a_position_biased_judge_is_right_on_equal_answers_over_both_orders() -> None:
    judge = PlantedJudge(for_first=1.5)
    first, second = judge.judge([pair(PLAIN, LONG), pair(PLAIN, LONG).swapped])
    assert first.preference == second.preference == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert first.preference + (second.swapped.preference or 0) == pytest.approx(1.0)


def test_a_noisy_judge_contradicts_itself_and_is_right_on_average() -> None:
    judge = PlantedJudge(noise=np.random.default_rng(0), per_quality=3.0)
    said = [preference(judge, PLAIN, WORSE) for _ in range(200)]
    assert set(said) == {0.0, 1.0}
    assert np.mean(said) == pytest.approx(1 / (1 + np.exp(-3 * 4 * 0.17 * 0.5)), abs=0.1)


def test_a_judge_that_answers_garbage_has_no_preference_and_a_reason() -> None:
    verdicts = PlantedJudge(garbage=0.5).judge([pair(PLAIN, WORSE)] * 4)
    assert [verdict.preference is None for verdict in verdicts] == [False, True, False, True]
    assert verdicts[1].reason
