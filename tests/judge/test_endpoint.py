"""Endpoints like OpenAI's, against a stub on the loopback: faults are counted rows, and nothing is asked twice."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stub_endpoint import LATE, TOO_LONG_AT_VLLM, Stub, stub
from waiting import HANGS

from harness.api import HarnessError, JudgeOptions, JudgeRequest, Message, Rating, Verdict
from harness.judge.endpoint import KEY, Endpoint, harness_judges
from harness.judge.wording import (
    CUT_OFF,
    NO_LOGPROBS,
    NO_RATING,
    NO_VERDICT,
    OTHER_TOKEN,
    SEVERAL_RATINGS,
    SEVERAL_VERDICTS,
    Reply,
    read_rating,
    read_token,
    read_verdict,
)

JUDGES = {source.name: source for source in harness_judges()}
SECRET = "sk-a-key-that-no-file-may-have-0451"
QUICK = JudgeOptions(parallel=4, timeout=1.0, retries=1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv(KEY, SECRET)
    with stub() as made:
        yield made


def asks(*prompts: str, answers: tuple[str, ...] = ("yes", "no"), repeat: int = 0) -> list[JudgeRequest]:
    return [
        JudgeRequest(prompt_id=prompt, context=(Message(role="user", content=prompt),), answers=answers, repeat=repeat)
        for prompt in prompts
    ]


def said(
    server: Stub, requests: list[JudgeRequest], options: JudgeOptions = QUICK, name: str = "openai"
) -> list[Verdict] | list[Rating]:
    judge = JUDGES[name].open(f"nano@{server.url}", options)
    try:
        return judge.judge(requests)
    finally:
        judge.close()


def test_verdicts_come_in_the_order_of_the_requests_and_not_more_at_a_time_than_asked_for(server: Stub) -> None:
    verdicts = said(server, asks(*(f"prompt {number}" for number in range(24))))
    assert verdicts == [Verdict(preference=0.75)] * 24
    assert server.asked.total() == 24
    assert 1 < server.most_at_a_time <= 4
    assert server.keys == {f"Bearer {SECRET}"}


def test_the_judge_sees_both_answers_in_the_order_given_and_the_reference(server: Stub) -> None:
    (one,) = asks("Is it so?", answers=("first said", "second said"))
    said(server, [one, one.swapped])
    seen = sorted(server.asked)
    assert [text.index("first said") < text.index("second said") for text in seen] in ([True, False], [False, True])
    assert all("<answer-1>" in text and "Is it so?" in text for text in seen)
    assert all(body["temperature"] == 0 and body["model"] == "nano" for body in server.bodies)


FAULTS = {
    "429": "HTTP 429",
    "500": "HTTP 500",
    "400": "HTTP 400",
    "half": "not the JSON of an answer",
    "empty": "not the JSON of an answer",
    "html": "not the JSON of an answer",
    "no-choices": "not the JSON of an answer",
    "null": "not the JSON of an answer",
    "broken-off": "no connection, or one that broke",
    "nothing": "no connection, or one that broke",
    "late": "no answer within 1 s",
    "trickle": "no answer within 1 s",
    "too-long": "longer than the model's context window",
}


def test_every_fault_ends_in_a_row_with_its_reason_and_never_in_a_preference(server: Stub, tmp_path: Path) -> None:
    assert QUICK.timeout < LATE
    requests = asks(*(f"fault: {name}" for name in FAULTS), "a good one")
    options = JudgeOptions(parallel=14, timeout=1.0, retries=1, cache=tmp_path)
    verdicts = said(server, requests, options)
    assert [verdict.reason for verdict in verdicts] == [*FAULTS.values(), ""]
    assert verdicts[:-1] == [Verdict(preference=None, reason=reason) for reason in FAULTS.values()]
    assert verdicts[-1] == Verdict(preference=0.75)


def test_what_passes_at_the_second_try_is_answered(server: Stub) -> None:
    faults = ("429", "500", "broken-off", "nothing", "late")
    requests = asks(*(f"fault: {name} once" for name in faults))
    verdicts = said(server, requests, JudgeOptions(parallel=8, timeout=1.0, retries=2))
    assert verdicts == [Verdict(preference=0.75)] * len(faults)
    assert set(server.asked.values()) == {2}


def test_what_a_model_refuses_of_the_options_it_is_asked_without_or_by_the_newer_name(server: Stub) -> None:
    server.unsupported = ("max_tokens", "temperature")
    verdicts = said(server, asks("one", "two", "three"), JudgeOptions(parallel=1))
    assert verdicts == [Verdict(preference=0.75)] * 3
    assert server.asked.total() == 5
    assert [sorted({"max_tokens", "max_completion_tokens", "temperature"} & body.keys()) for body in server.bodies] == [
        ["max_tokens", "temperature"],
        ["max_completion_tokens", "temperature"],
        *[["max_completion_tokens"]] * 3,
    ]


@pytest.mark.parametrize(
    "told",
    [
        {"message": TOO_LONG_AT_VLLM, "code": 400},
        {"message": "Please reduce the length of the messages.", "code": "context_length_exceeded"},
        {"message": "the request exceeds the available context size (2048 tokens), try increasing it", "code": 400},
    ],
    ids=["vllm", "openai", "llama.cpp"],
)
def test_a_question_that_is_too_long_for_the_model_is_known_by_what_servers_say(
    server: Stub, told: dict[str, object]
) -> None:
    server.error = told
    assert said(server, asks("one")) == [Verdict(preference=None, reason="longer than the model's context window")]


def test_what_was_answered_is_never_asked_again_and_what_failed_is(server: Stub, tmp_path: Path) -> None:
    options = JudgeOptions(parallel=2, retries=1, timeout=1.0, cache=tmp_path)
    requests = asks("one", "two", "fault: half once", "one")
    first = said(server, requests, options)
    second = said(server, requests, options)
    assert [verdict.reason for verdict in first] == ["", "", "not the JSON of an answer", ""]
    assert second == [Verdict(preference=0.75)] * 4
    assert sorted(server.asked.values()) == [1, 1, 2]


def test_a_reply_without_a_verdict_is_kept_as_well(server: Stub, tmp_path: Path) -> None:
    server.reply = "Both are fine, I would say."
    for _ in range(2):
        (verdict,) = said(server, asks("one"), JudgeOptions(cache=tmp_path))
        assert verdict == Verdict(preference=None, reason=NO_VERDICT)
    assert server.asked.total() == 1


def test_repeats_other_manners_and_other_orders_are_asked_apart(server: Stub, tmp_path: Path) -> None:
    options = JudgeOptions(cache=tmp_path)
    (request,) = asks("one")
    (again,) = asks("one", repeat=1)
    said(server, [request, again, request.swapped], options)
    said(server, asks("one", answers=("yes",)), options, name="openai-rating")
    said(server, [request, again], options)
    assert server.asked.total() == 4
    assert sorted(body["seed"] for body in server.bodies) == [0, 0, 0, 1]


JUDGING = """
import sys
from pathlib import Path
from harness.api import JudgeOptions, JudgeRequest, Message
from harness.judge.endpoint import harness_judges

url, cache = sys.argv[1], Path(sys.argv[2])
prompts = [f"prompt {number}" if number != 6 else "fault: hang once" for number in range(10)]
requests = [
    JudgeRequest(prompt_id=text, context=(Message(role="user", content=text),), answers=("yes", "no"))
    for text in prompts
]
judge = harness_judges()[0].open(f"nano@{url}", JudgeOptions(parallel=1, cache=cache, timeout=30))
print(sum(verdict.preference == 0.75 for verdict in judge.judge(requests)))
"""


def test_a_killed_judging_run_starts_again_without_repeating_one_answered_request(server: Stub, tmp_path: Path) -> None:
    command = [sys.executable, "-c", JUDGING, server.url, str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, KEY: SECRET}) as killed:
        assert server.stuck.wait(HANGS)
        killed.send_signal(signal.SIGKILL)
    before = server.asked.copy()
    rerun = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True)
    assert rerun.stdout.strip() == "10"
    assert len(before) == 7
    (twice,) = (text for text, times in server.asked.items() if times == 2)
    assert "fault: hang" in twice
    assert server.asked.total() == 11


def test_requests_beyond_the_cap_are_refused_before_any_is_sent(server: Stub, tmp_path: Path) -> None:
    options = JudgeOptions(cache=tmp_path, max_requests=2)
    with pytest.raises(HarnessError, match="got 3 requests that have no answer yet, expected at most 2"):
        said(server, asks("one", "two", "three"), options)
    assert not server.asked
    said(server, asks("one", "two"), options)
    assert len(said(server, asks("one", "two", "three"), options)) == 3


def test_the_cost_is_known_before_it_is_spent_and_answers_in_the_cache_cost_nothing(
    server: Stub, tmp_path: Path
) -> None:
    options = JudgeOptions(cache=tmp_path)
    source, what = JUDGES["openai"], f"nano@{server.url}"
    requests = asks("one", "two", "two")
    cost = source.cost(what, requests, options)
    assert not server.asked
    said(server, requests, options)
    sent = sum(len(turn["content"]) for body in server.bodies for turn in body["messages"])
    assert (cost.requests, cost.tokens_out) == (2, 2 * server.bodies[0]["max_tokens"])
    assert cost.tokens_in == math.ceil(sent / 4)
    assert source.cost(what, requests, options).requests == 0


def test_a_wrong_key_ends_judging_at_once_and_is_not_shown(server: Stub) -> None:
    with pytest.raises(HarnessError, match=r"got HTTP 401.*check the URL, the model's name and the key") as raised:
        said(server, asks("fault: 401", *(f"prompt {number}" for number in range(50))), JudgeOptions(parallel=1))
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__
    assert server.asked.total() < 10


def test_no_file_no_reason_and_no_name_has_the_key(server: Stub, tmp_path: Path) -> None:
    """The stub's errors quote the key, as some servers do."""
    options = JudgeOptions(cache=tmp_path, retries=0, timeout=1.0)
    source, what = JUDGES["openai"], f"nano@{server.url}"
    verdicts = said(server, asks("one", "fault: 500", "fault: 400", "fault: 429"), options)
    told = [*(verdict.reason for verdict in verdicts), source.identity(what), repr(source), repr(options)]
    assert server.keys == {f"Bearer {SECRET}"}
    assert SECRET not in " ".join(told)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert SECRET.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    "what",
    ["", "nano", "nano@localhost:8000", "nano@http://me:pw@host/v1", "nano@http://host/v1?key=pw", "@http://host/v1"],
)
def test_what_is_no_endpoint_is_refused_without_showing_a_password(what: str) -> None:
    with pytest.raises(HarnessError, match="expected MODEL@URL") as raised:
        Endpoint.parse(what)
    assert "pw" not in str(raised.value)
    assert JUDGES["openai"].why_not(what) is not None


def test_a_model_may_have_an_at_sign_and_slashes() -> None:
    parsed = Endpoint.parse("org/model@main@https://host:1/v1/")
    assert (parsed.model, parsed.url) == ("org/model@main", "https://host:1/v1")


# How replies are read: what the five grades are worth, and what is never guessed.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Why.\nVERDICT: 1 is much better", 1.0),
        ("**VERDICT: 1 is better.**", 0.75),
        ("verdict: Equal\n", 0.5),
        ("VERDICT: 2 is better", 0.25),
        ("Because.\n\n  VERDICT:  2 is much better  ", 0.0),
        ("VERDICT: equal\nVERDICT: equal", 0.5),
        ("VERDICT: 1 is better\nNo:\nVERDICT: equal", SEVERAL_VERDICTS),
        ("I would not write VERDICT: equal here", NO_VERDICT),
        ("VERDICT: 1 is better than 2 in style only", NO_VERDICT),
        ("1 is better", NO_VERDICT),
        ("VERDICT: 3 is better", NO_VERDICT),
        ("", NO_VERDICT),
    ],
)
def test_a_verdict_is_one_of_five_lines_or_none(text: str, expected: float | str) -> None:
    verdict = read_verdict(Reply(text=text, finish="stop"))
    assert expected == (verdict.reason if verdict.preference is None else verdict.preference)


def test_a_reply_that_was_cut_off_says_so() -> None:
    assert read_verdict(Reply(text="Let me think", finish="length")).reason == CUT_OFF
    assert read_rating(Reply(text="Let me think", finish="length")).reason == CUT_OFF


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good.\nRATING: 7", 7.0),
        ("RATING: 10/10.", 10.0),
        ("**Rating: 1**", 1.0),
        ("RATING: 11", NO_RATING),
        ("RATING: 0", NO_RATING),
        ("RATING: 7.5", NO_RATING),
        ("RATING: -3", NO_RATING),
        ("RATING: 7\nRATING: 8", SEVERAL_RATINGS),
        ("7", NO_RATING),
    ],
)
def test_a_rating_is_a_whole_number_from_1_to_10_or_none(text: str, expected: float | str) -> None:
    rating = read_rating(Reply(text=text, finish="stop"))
    assert expected == (rating.reason if rating.value is None else rating.value)


def test_log_probs_give_the_share_of_one_against_two(server: Stub) -> None:
    server.logprobs = {"1": math.log(0.6), " 2": math.log(0.2), "2": math.log(0.1), "Both": math.log(0.05)}
    (verdict,) = said(server, asks("one"), name="openai-logprobs")
    assert verdict.preference == pytest.approx(0.6 / 0.9)
    (body,) = server.bodies
    assert (body["max_tokens"], body["logprobs"]) == (1, True)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ((), NO_LOGPROBS),
        ((("Both", -0.1), ("1", -3.0)), OTHER_TOKEN),
        ((("1", 0.0), ("2", 0.0)), OTHER_TOKEN),
        ((("1", float("nan")), ("2", -1.0)), OTHER_TOKEN),
    ],
)
def test_log_probs_that_are_no_verdict_are_counted(first: tuple[tuple[str, float], ...], reason: str) -> None:
    assert read_token(Reply(text="", finish="length", first=first)) == Verdict(preference=None, reason=reason)


def test_a_log_prob_above_zero_is_no_answer(server: Stub) -> None:
    server.logprobs = {"1": 1e4}
    (verdict,) = said(server, asks("one"), name="openai-logprobs")
    assert verdict.reason == "not the JSON of an answer"


def test_ratings_are_asked_of_single_answers_in_all_turns_of_the_conversation(server: Stub) -> None:
    server.reply = "Fine.\nRATING: 8"
    turns = [("user", "Name a fruit."), ("assistant", "A pear."), ("user", "Another one.")]
    context = tuple(Message(role=role, content=content) for role, content in turns)
    request = JudgeRequest(prompt_id="p", context=context, answers=("A plum.",), reference="An apple.")
    assert said(server, [request], name="openai-rating") == [Rating(value=8.0)]
    (text,) = server.asked
    places = [text.index(part) for part in ("Name a fruit.", "A pear.", "Another one.", "An apple.", "A plum.")]
    assert places == sorted(places)
