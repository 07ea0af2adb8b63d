"""The reference model beside the policy in training: the token KL of TDPO, the moving reference of TR-DPO."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.dpo import DPO
from harness_plugins.gappo import GapPO
from harness_plugins.kto_pair import KTOPair
from harness_plugins.mix import Mix
from harness_plugins.sft import SFT
from harness_plugins.tdpo import TDPO
from harness_plugins.tr_dpo import TRDPO
from transformers import AutoModelForCausalLM

from harness.api import HarnessError, Loss, Message, Pair
from harness.data.collate import collate
from harness.data.tokens import TokenPair
from harness.logps.packed_attention import use_packed_attention
from harness.logps.response_logps import response_logps
from harness.models.families import FAMILIES
from harness.planning.budget import Plan, loss_flops
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import TrainingData
from harness.training.recipe import Recipe
from harness.training.reference_cache import Reference
from harness.training.trainer import Trained, train

rng = np.random.default_rng(1)
TOKENS = [
    TokenPair(
        pair_id=str(i),
        prompt_ids=tuple(rng.integers(5, 60, 4).tolist()),
        chosen_ids=tuple(rng.integers(5, 60, 2 + i % 4).tolist()),
        rejected_ids=tuple(rng.integers(5, 60, 2 + i % 3).tolist()),
        truncated=False,
    )
    for i in range(8)
]
PAIRS = [
    Pair(
        pair_id=str(i), prompt_id=str(i), context=(Message(role="user", content="do"),), chosen="a b", rejected="a c",
        score_chosen=3.0 + i % 3, score_rejected=2.0,
    )
    for i in range(8)
]  # fmt: skip
REFERENCE = Reference(chosen=np.full(8, -20.0), rejected=np.full(8, -19.0), seconds=0.0, cached=True)


def model(seed: int) -> Any:
    torch.manual_seed(seed)
    config = FAMILIES["qwen"].nano_config(64)
    config.num_hidden_layers = 1
    net = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        net.get_output_embeddings().weight.mul_(0.3 if seed else 3.0)  # the policy is sharp, the reference is not
    return net


def run(loss: Loss, micro: int, scratch: Path, *, packed: bool = True) -> tuple[Trained, Any, Any]:
    """Train two steps against a reference that is another model, so that the KL has a gradient from the first step."""
    net, frozen = model(0), model(1)
    for each in (net, frozen):
        if packed:
            use_packed_attention(each)
    before = copy.deepcopy(frozen.state_dict())
    plan = Plan(batch_pairs=8, n_pairs=8, seed=0, steps=2)
    columns = prepare_columns(loss, PAIRS, TOKENS, plan.visited(), REFERENCE)
    data = TrainingData(pairs=PAIRS, tokens=TOKENS, reference=REFERENCE, columns=columns, frozen=frozen)
    recipe = Recipe(learning_rate=1e-3, micro_pairs=micro, seed=0, dtype="float32")
    trained = train(net, loss, data, plan, recipe, scratch, lambda step, loss: None)
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    return trained, net, data


LOSSES = {
    "alone": TDPO(beta=1.0, alpha=2.0),
    "version 1": TDPO(beta=1.0, version=1),
    "weighed over the step": GapPO(base=TDPO(beta=1.0, alpha=2.0), normalise="batch_mean"),
    "mixed with a loss of the whole step": Mix(base=TDPO(beta=1.0, alpha=2.0), other=KTOPair()),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_micro_batches_do_not_change_what_a_token_kl_does(loss: Loss, tmp_path: Path) -> None:
    whole, one, _ = run(loss, 8, tmp_path)
    parts, two, _ = run(loss, 2, tmp_path)
    _, plain, _ = run(loss, 8, tmp_path, packed=False)
    for other in (two, plain):
        for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
            # Adam divides by the size of the gradient: where that is all but 0, rounding is magnified
            assert float((ours - theirs).detach().abs().mean()) < 1e-6
    np.testing.assert_allclose(whole.log["loss"], parts.log["loss"], rtol=1e-5)
    np.testing.assert_allclose(whole.log["grad_norm"], parts.log["grad_norm"], rtol=1e-4)


def test_the_gradient_of_a_step_passes_through_the_kl(tmp_path: Path) -> None:
    norms = [run(TDPO(beta=1.0, alpha=alpha), 8, tmp_path)[0].log["grad_norm"][0] for alpha in (0.0, 2.0)]
    assert abs(norms[0] - norms[1]) > 1e-3 * norms[0]


def test_the_forward_of_the_reference_beside_the_policy_is_charged() -> None:
    def flops(loss: Loss) -> float:
        return loss_flops(loss, [100], 10, in_parts=False, mismatched=None)[0]

    # 6 N forward and backward, 2 N the kept log-probs of the reference, 2 N the reference beside the policy
    assert flops(TDPO()) == 10 * 100 * 10
    assert flops(KTOPair()) == 8 * 100 * 10
    assert flops(TRDPO()) == 8 * 100 * 10  # beside the policy alone


# -- a reference that moves ----------------------------------------------------------------------------------------
def weights(net: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()]).clone()


def follow(loss: Loss, scratch: Path, *, micro: int = 8, steps: int = 4) -> tuple[Trained, list[torch.Tensor], Any]:
    """Train from one checkpoint as policy and reference; return the policy's weights after every step too."""
    net, seen = model(0), []
    use_packed_attention(net)
    frozen = copy.deepcopy(net).requires_grad_(False)
    plan = Plan(batch_pairs=8, n_pairs=8, seed=0, steps=steps)
    columns = prepare_columns(loss, PAIRS, TOKENS, plan.visited(), None)
    data = TrainingData(pairs=PAIRS, tokens=TOKENS, reference=None, columns=columns, frozen=frozen)
    recipe = Recipe(learning_rate=1e-3, micro_pairs=micro, seed=0, dtype="float32")
    trained = train(net, loss, data, plan, recipe, scratch, lambda step, value: seen.append(weights(net)))
    return trained, seen, frozen


def test_a_soft_reference_is_the_moving_average_of_the_policy(tmp_path: Path) -> None:
    expected = weights(model(0))
    _, seen, frozen = follow(TRDPO(update="soft", alpha=0.3), tmp_path)
    for policy in seen:
        expected = 0.3 * policy + 0.7 * expected
    torch.testing.assert_close(weights(frozen), expected, rtol=1e-5, atol=1e-7)


def test_a_hard_reference_is_the_policy_of_the_last_update(tmp_path: Path) -> None:
    _, seen, frozen = follow(TRDPO(update="hard", every=3), tmp_path)
    assert torch.equal(weights(frozen), seen[2])


def test_next_to_a_reference_that_is_always_the_policy_every_margin_is_0(tmp_path: Path) -> None:
    trained, _, _ = follow(TRDPO(update="hard", every=1), tmp_path)
    np.testing.assert_allclose(trained.log["loss"], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(trained.log["rewards/margins"], 0, atol=1e-5)


def test_a_reference_that_has_not_moved_yet_is_that_of_dpo(tmp_path: Path) -> None:
    trained, seen, frozen = follow(TRDPO(beta=0.5, update="hard", every=100), tmp_path)
    assert torch.equal(weights(frozen), weights(model(0)))
    net = model(0)
    use_packed_attention(net)
    start = Reference(**start_sums(net), seconds=0.0, cached=True)
    plan = Plan(batch_pairs=8, n_pairs=8, seed=0, steps=4)
    kept = TrainingData(pairs=PAIRS, tokens=TOKENS, reference=start, columns={})
    recipe = Recipe(learning_rate=1e-3, micro_pairs=8, seed=0, dtype="float32")
    plain = train(net, DPO(beta=0.5), kept, plan, recipe, tmp_path, lambda step, value: None)
    np.testing.assert_allclose(trained.log["loss"], plain.log["loss"], rtol=1e-5)
    assert float((seen[-1] - weights(net)).abs().mean()) < 1e-6


def start_sums(net: Any) -> dict[str, np.ndarray]:
    batch = collate([(ids.prompt_ids, (ids.chosen_ids, ids.rejected_ids)) for ids in TOKENS])
    with torch.no_grad():
        sums = response_logps(net, batch).sum().numpy().astype(float)
    return {"chosen": sums[:8], "rejected": sums[8:]}


@pytest.mark.parametrize(
    "loss", [TRDPO(alpha=0.3), Mix(base=TRDPO(alpha=0.3), other=SFT()), GapPO(base=TRDPO(), normalise="batch_mean")]
)
def test_micro_batches_do_not_change_what_a_moving_reference_does(loss: Loss, tmp_path: Path) -> None:
    whole, one, _ = follow(loss, tmp_path)
    parts, two, _ = follow(loss, tmp_path, micro=2)
    np.testing.assert_allclose(whole.log["loss"], parts.log["loss"], rtol=1e-5)
    assert float((one[-1] - two[-1]).abs().mean()) < 1e-6
    assert float((one[-1] - weights(model(0))).abs().mean()) > 1e-4


def test_two_losses_with_references_of_their_own_are_not_mixed() -> None:
    with pytest.raises(HarnessError, match="references that move differently"):
        Mix(base=TRDPO(), other=DPO())
