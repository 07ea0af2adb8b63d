"""What a cell trains on: the labels, swapped under the control, and the start checkpoint's log-probs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.api import Loss, Message, Pair, PairLogps, ResponseLogps, Terms
from harness.data.control import shuffled
from harness.data.tokens import TokenisedPairs, TokenPair
from harness.logps.packed_attention import use_packed_attention
from harness.models.families import FAMILIES
from harness.training.loss_inputs import LossInputs
from harness.training.prepared import Prepared, mismatched_tokens, reference_logps, visit_flops
from harness.training.training_data import training_data


@dataclass(frozen=True, kw_only=True)
class Asking(Loss):
    """Asks for all that a reference gives."""

    name: ClassVar[str] = "asking"
    needs_reference = needs_reference_tokens = needs_kl = True

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(pairs.rejected.sum() - pairs.chosen.sum())

    def reward(self, response: ResponseLogps) -> torch.Tensor:
        return response.sum


class Modest(Asking):
    """Asks for sums alone."""

    needs_reference_tokens = needs_kl = False


N = 20
rng = np.random.default_rng(0)


def model() -> Any:
    torch.manual_seed(0)
    config = FAMILIES["qwen"].nano_config(64)
    config.num_hidden_layers = 1
    return AutoModelForCausalLM.from_config(config)


def prepared(cache: Path, control: str = "none") -> Prepared:
    tokens = [
        TokenPair(
            pair_id=str(i), truncated=False, prompt_ids=tuple(rng.integers(5, 60, 3 + i % 4).tolist()),
            chosen_ids=tuple(rng.integers(5, 60, 1 + i % 5).tolist()),
            rejected_ids=tuple(rng.integers(5, 60, 1 + i % 3).tolist()),
        )
        for i in range(N)
    ]  # fmt: skip
    pairs = tuple(
        Pair(
            pair_id=str(i), prompt_id=str(i // 2), context=(Message(role="user", content="do"),),
            chosen="a", rejected="b", score_chosen=2.0 + i, score_rejected=1.0,
        )
        for i in range(N)
    )  # fmt: skip
    settings = SimpleNamespace(dtype="float32", max_length=9, micro_pairs=2, batch_pairs=4)
    run = SimpleNamespace(settings=settings, control=control, data_seed=0, plain_path=False)
    start: Any = SimpleNamespace(fingerprint="start", parameters=10, folder=cache)
    job: Any = SimpleNamespace(run=run, cache=cache)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "config.json").write_text("{}", encoding="utf-8")
    unscored: Any = None
    return Prepared(job=job, start=start, pairs=pairs, tokens=TokenisedPairs(pairs=tuple(tokens)), held_out=unscored)


def plain(net: Any, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        logp = net(torch.tensor([[*prompt, *response]])).logits.float().log_softmax(-1)[0]
    return torch.stack([logp[len(prompt) - 1 + i, token] for i, token in enumerate(response)])


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_the_reference_is_a_plain_forward_of_the_start_checkpoint(packed: bool, tmp_path: Path) -> None:
    ours, net, oracle = prepared(tmp_path), model(), model()
    if packed:
        use_packed_attention(net)
    reference = reference_logps(ours, Asking(), net, np.arange(N))
    assert reference is not None
    assert reference.tokens is not None
    assert reference.mismatched is not None
    for i, ids in enumerate(ours.tokens.pairs):
        for response, tokens, total in (
            (ids.chosen_ids, reference.tokens[0][i], reference.chosen[i]),
            (ids.rejected_ids, reference.tokens[1][i], reference.rejected[i]),
        ):
            expected = plain(oracle, ids.prompt_ids, response)
            torch.testing.assert_close(torch.from_numpy(tokens), expected, rtol=1e-4, atol=1e-5)
            assert total == pytest.approx(tokens.sum(dtype=np.float64))
        assert reference.mismatched[i] == pytest.approx(
            float(plain(oracle, ids.prompt_ids, ours.mismatched[i]).sum()), rel=1e-5
        )
    again = reference_logps(ours, Asking(), net, np.arange(N))
    assert again is not None
    assert (reference.cached, again.cached) == (False, True)
    assert again.seconds == reference.seconds


def test_with_the_start_model_as_policy_every_ratio_is_0(tmp_path: Path) -> None:
    net = model()
    use_packed_attention(net)
    for control in ("none", "shuffled-labels"):
        data = training_data(prepared(tmp_path / control, control), Asking(), net, np.arange(N), seed=0)
        inputs = LossInputs(Asking(), data, "float32")
        with torch.no_grad():
            pairs = inputs.pair_logps(net, inputs.collated(np.arange(5, 12)), for_loss=True)
        assert pairs.ref_tokens is not None
        assert pairs.kl is not None
        zero = {"rtol": 0, "atol": 2e-5}
        for policy, reference in zip((pairs.chosen, pairs.rejected), pairs.ref_tokens, strict=True):
            assert policy.mask.equal(reference.mask)
            torch.testing.assert_close(policy.token, reference.token, **zero)
        for ratio in (*pairs.log_ratios(), pairs.kl.sum() - pairs.ref_kl):
            torch.testing.assert_close(ratio, torch.zeros(7), **zero)


def test_the_control_swaps_labels_and_leaves_mismatches_alone(tmp_path: Path) -> None:
    ours = prepared(tmp_path, "shuffled-labels")
    data = training_data(ours, Asking(), model(), np.arange(N), seed=0)
    swapped = shuffled(ours.pairs, np.arange(N), "shuffled-labels", 0)
    for before, after, swap in zip(ours.tokens.pairs, data.tokens, swapped, strict=True):
        assert after.chosen_ids == (before.rejected_ids if swap else before.chosen_ids)
    assert data.mismatched == ours.mismatched


class Doubting(Modest):
    """Asks for the entropies of the reference."""

    needs_reference_entropy = True


def test_the_entropy_of_a_response_is_the_mean_over_its_tokens_under_the_start_checkpoint(tmp_path: Path) -> None:
    ours, net, oracle = prepared(tmp_path, "shuffled-labels"), model(), model()
    use_packed_attention(net)
    data = training_data(ours, Doubting(), net, np.arange(N), seed=0)
    assert data.reference is not None
    assert data.reference.entropy is not None
    inputs = LossInputs(Doubting(), data, "float32")
    with torch.no_grad():
        pairs = inputs.pair_logps(net, inputs.collated(np.arange(N)), for_loss=True)
    assert pairs.ref_entropy is not None
    for side, got in zip(("chosen_ids", "rejected_ids"), pairs.ref_entropy, strict=True):
        for ids, value in zip(data.tokens, got, strict=True):  # the labels are swapped, and the entropies with them
            response = getattr(ids, side)
            logits = oracle(torch.tensor([[*ids.prompt_ids, *response]])).logits[0, len(ids.prompt_ids) - 1 : -1]
            entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
            assert value.item() == pytest.approx(entropy.item() / np.log(64), rel=1e-4)
    again = training_data(ours, Doubting(), net, np.arange(N), seed=0)
    assert again.reference is not None
    assert again.reference.cached
    assert visit_flops(ours, Doubting(), [100], None) == [10 * 10 * 100]  # two passes of the reference


def test_who_does_not_ask_pays_nothing(tmp_path: Path) -> None:
    ours = prepared(tmp_path)
    data = training_data(ours, Modest(), model(), np.arange(N), seed=0)
    assert data.mismatched is None
    assert data.frozen is None
    assert "mismatched" not in ours.__dict__  # not even drawn
    assert len(list((tmp_path / "reference").iterdir())) == 1
    assert visit_flops(ours, Modest(), [100], None) == [8 * 10 * 100]


def test_whoever_asks_for_mismatches_is_charged_for_them(tmp_path: Path) -> None:
    ours = prepared(tmp_path)
    tokens = mismatched_tokens(ours)
    assert tokens[4] == len(ours.tokens.pairs[4].prompt_ids) + len(ours.mismatched[4]) <= 9
    assert visit_flops(ours, Asking(), [100], [30]) == [8 * 10 * 100 + 4 * 10 * 30]
