"""Training lists: where they are from, and what pairs they give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.api import Dataset, HarnessError, Listwise, LoadOptions, Message, Pair, Response
from harness.data.list_pairs import list_pairs, pairable
from harness.data.noise import with_noise
from harness.data.simulator.synthetic import harness_datasets
from harness.data.sources import load
from harness.execute.resolve import limited
from harness.execute.selector_choice import choose_selector
from harness.manager import plugin_manager
from harness.planning.run_file import make_run


def prompt(name: str, *scores: float) -> Listwise:
    return Listwise(
        prompt_id=name,
        context=(Message(role="user", content=f"question {name}"),),
        responses=tuple(
            Response(response_id=str(number), text=f"{name}{number}", score=score, true_quality=-score)
            for number, score in enumerate(scores)
        ),
    )


def pair_of(listed: Listwise) -> Pair:
    one, other = listed.responses[:2]
    return Pair(
        pair_id=listed.prompt_id, prompt_id=listed.prompt_id, context=listed.context, chosen=one.text,
        rejected=other.text, score_chosen=one.score, score_rejected=other.score,
    )  # fmt: skip


P, Q, R = prompt("p", 3.0, 1.0, 2.0), prompt("q", 2.0, 2.0, float("nan")), prompt("r", 5.0, 4.0)
DATA = Dataset(name="few", train=(pair_of(P),), dev=(), test=(pair_of(R),), listwise_train=(P, Q, R))


def test_every_two_responses_with_different_scores_are_a_pair_and_held_out_prompts_give_none() -> None:
    found = list_pairs(DATA)
    assert [(pair.chosen, pair.rejected) for pair in found] == [("p0", "p1"), ("p0", "p2"), ("p2", "p1")]
    assert [(pair.score_chosen, pair.score_rejected) for pair in found] == [(3, 1), (3, 2), (2, 1)]
    assert [(pair.true_chosen, pair.true_rejected) for pair in found] == [(-3, -1), (-3, -2), (-2, -1)]
    assert {pair.prompt_id for pair in found} == {"p"}
    assert pairable(DATA.listwise_train) == 2  # q has one score


def test_a_response_that_is_there_twice_is_no_pair_with_itself() -> None:
    twice = replace(P, responses=(P.responses[0], replace(P.responses[1], text="p0")))
    assert list_pairs(replace(DATA, listwise_train=(twice,))) == ()


def test_rated_completions_of_training_prompts_are_lists_and_none_of_a_held_out_one_is(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"question {n}", "completions": [{"response": f"{n} {k}", "score": k} for k in range(3)]}
        for n in range(40)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load(str(tmp_path), LoadOptions(), {})
    assert {each.prompt_id for each in data.listwise_train} == {pair.prompt_id for pair in data.train}
    assert len(data.listwise_train) == 40 - len(data.dev) - len(data.test)
    lines = [
        {
            "prompt": row["prompt"],
            "responses": [{"content": row["completions"][k]["response"], "score": k} for k in (0, 1)],
        }
        for row in rows
    ]
    (tmp_path / "listwise_train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = load(str(tmp_path), LoadOptions(), {})  # lists of their own take the place of those
    assert {each.prompt_id for each in again.listwise_train} == {each.prompt_id for each in data.listwise_train}
    assert {len(each.responses) for each in again.listwise_train} == {2}
    assert again.fingerprint == data.fingerprint


def test_noise_in_scores_is_that_of_the_pairs_and_the_start_of_the_rest() -> None:
    noisy = with_noise(DATA, "gaussian=1", 0).data
    (pair,), (listed, *_) = noisy.train, noisy.listwise_train
    scores = {response.text: response.score for response in listed.responses}
    assert {pair.chosen: pair.score_chosen, pair.rejected: pair.score_rejected}.items() <= scores.items()
    assert scores["p2"] != 2.0
    assert noisy.train == with_noise(replace(DATA, listwise_train=()), "gaussian=1", 0).data.train


def test_a_limit_keeps_the_lists_of_the_pairs_that_it_keeps() -> None:
    data = limited(harness_datasets()[0].load(LoadOptions()), 6)
    assert [each.prompt_id for each in data.listwise_train] == list(dict.fromkeys(p.prompt_id for p in data.train))
    assert len(data.listwise_train) == 3


@pytest.mark.parametrize(
    ("select", "noise", "lists", "said"),
    [
        ("dcrm-pairing", None, (), "which pairs the responses of training lists, and the data have none; "),
        ("dcrm-pairing", None, (P, Q), "which makes 2 pairs, one per prompt, and 1 training prompt has"),
        (
            "dcrm-pairing:share=0.25",
            "flip=0.5",
            (P, Q),
            "with --noise flip=0.5, which changes the labels of given pairs",
        ),
    ],
)
def test_what_lists_cannot_serve_is_refused(
    select: str, noise: str | None, lists: tuple[Listwise, ...], said: str
) -> None:
    data = replace(DATA, train=DATA.train * 4, listwise_train=lists)
    with pytest.raises(HarnessError, match=said):
        choose_selector(make_run({"select": select, "noise": noise}), data, plugin_manager())
    served = make_run({"select": "dcrm-pairing:share=0.25", "noise": "gaussian=1"})
    assert choose_selector(served, replace(data, listwise_train=(P, Q)), plugin_manager()) is not None
