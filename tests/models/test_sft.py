"""Supervised fine-tuning on the packed path against transformers' own loss on padded rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.api import HarnessError
from harness.logps.packed_attention import is_packed, use_packed_attention
from harness.logps.response_logps import recompute_activations
from harness.models import sft
from harness.models.families import FAMILIES, SLIDING_WINDOW
from harness.models.sft import Example, Recipe, fine_tune

LONG = tuple(range(2, 60))
ROWS: list[Example] = [
    ((3, 4, 5), (6, 7, 1)),
    ((3, 9), (8, 7, 6, 5, 1)),
    ((11,), (1,)),
    ((3, 4, 5), (9, 1)),
    (LONG[:50], LONG[:40]),  # outgrows the sliding window
]


def fresh(family: str) -> Any:
    torch.manual_seed(0)
    attention = "eager" if family == "gemma" else "sdpa"
    model = AutoModelForCausalLM.from_config(FAMILIES[family].nano_config(64), attn_implementation=attention)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj" in name or "k_proj" in name or "embed" in name:
                parameter.mul_(2.0)  # so that Gemma's soft-capping bites
    return model


def padded_loss(model: Any, rows: Sequence[Example]) -> torch.Tensor:
    """transformers' own loss, mean over the response tokens: padded rows, a mask, labels of -100 elsewhere."""
    width = max(len(prompt) + len(response) for prompt, response in rows)
    ids, mask, labels = (torch.full((len(rows), width), fill) for fill in (0, 0, -100))
    for row, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor([*prompt, *response])
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(response)
    loss: torch.Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    return loss


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[float, dict[str, torch.Tensor]]]:
    """The loss of one step and the gradients it is taken with, of a model that `fine_tune` trains."""

    def take(family: str, micro_tokens: int) -> tuple[float, dict[str, torch.Tensor]]:
        model, found = fresh(family), {}

        def look(parameters: Any, largest_norm: float) -> None:
            found.update({name: parameter.grad.clone() for name, parameter in model.named_parameters()})

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", look)
        report = fine_tune(model, ROWS, Recipe(batch_size=len(ROWS), micro_tokens=micro_tokens))
        return report.first_loss, found

    return take


@pytest.mark.parametrize("micro_tokens", [16_384, 12])  # all rows at once; the long one alone and two with two
@pytest.mark.parametrize("family", list(FAMILIES))
def test_loss_and_gradients_equal_those_of_transformers_on_padded_rows(
    family: str, micro_tokens: int, gradients: Callable[..., tuple[float, dict[str, torch.Tensor]]]
) -> None:
    loss, ours = gradients(family, micro_tokens)
    oracle = fresh(family)
    expected = padded_loss(oracle, ROWS)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-6)
    for name, parameter in oracle.named_parameters():
        largest = float((ours[name] - parameter.grad).abs().max() / parameter.grad.abs().max())
        assert largest < 1e-5, name


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_the_window_and_the_caps_bite_in_these_rows(family: str) -> None:
    whole = float(padded_loss(fresh(family), ROWS).detach())
    for option in ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(FAMILIES[family].nano_config(64), option, None) is not None:
            config = FAMILIES[family].nano_config(64)
            setattr(config, option, 4096 if option == "sliding_window" else None)
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
            model.load_state_dict(fresh(family).state_dict())
            difference = abs(float(padded_loss(model, ROWS).detach()) - whole)
            assert difference > 1e-4, option  # ten times what is allowed above
    assert max(len(prompt) + len(response) for prompt, response in ROWS) > SLIDING_WINDOW


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_model_is_packed_in_training_and_has_its_own_attention_again_after_it(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = fresh(family), []
    collated = sft._response_nll
    monkeypatch.setattr(sft, "_response_nll", lambda m, rows: seen.append(is_packed(m)) or collated(m, rows))
    own = model.config._attn_implementation
    fine_tune(model, ROWS, Recipe())
    assert seen == [True]
    assert model.config._attn_implementation == own
    expected = fresh(family)
    expected.load_state_dict(model.state_dict())
    ids = torch.tensor([[*LONG]])
    torch.testing.assert_close(model(ids).logits, expected(ids).logits)


def test_the_model_has_its_own_attention_again_after_a_failure() -> None:
    model = fresh("gemma")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(HarnessError, match="got loss nan at step 1"):
        fine_tune(model, ROWS, Recipe(sequences=4, batch_size=4))
    assert model.config._attn_implementation == "eager"


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")  # transformers' name before 6
@pytest.mark.parametrize("onednn", [False, True])
def test_recomputed_activations_change_no_weight(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.logps.cpu_matmul.by_onednn", lambda: onednn)
    kept, recomputed = fresh("qwen"), fresh("qwen")
    recompute_activations(recomputed)
    for model in (kept, recomputed):
        fine_tune(model, ROWS, Recipe(learning_rate=1e-3))
    for (name, ours), theirs in zip(recomputed.named_parameters(), kept.parameters(), strict=True):
        assert torch.equal(ours, theirs), name  # the same products in the same order


def test_a_model_that_takes_no_packed_rows_is_fine_tuned_on_padded_ones() -> None:
    from transformers import PhiConfig, PhiForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = PhiForCausalLM(PhiConfig(vocab_size=64, resid_pdrop=0.0, **sizes))
    use_packed_attention(model)
    assert not is_packed(model)
    with torch.no_grad():
        expected = float(padded_loss(model, ROWS))
    report = fine_tune(model, ROWS, Recipe(batch_size=len(ROWS)))
    assert report.first_loss == pytest.approx(expected, rel=1e-5)


def test_fine_tuning_learns_the_responses() -> None:
    report = fine_tune(fresh("mistral"), ROWS[:4], Recipe(sequences=400, batch_size=4, learning_rate=3e-3))
    assert report.sequences == 400
    assert report.last_loss < 0.4 * report.first_loss
    assert report.tokens == 100 * sum(len(prompt) + len(response) for prompt, response in ROWS[:4])


def test_every_sequence_is_visited_once_an_epoch() -> None:
    recipe = Recipe(sequences=25, batch_size=4)
    batches = sft._batches(list(range(1, 11)), recipe, np.random.default_rng(0))
    visits = np.bincount(np.concatenate(batches), minlength=10)
    assert sorted(visits) == [2] * 5 + [3] * 5  # 25 = two epochs of ten and half a third
    assert sorted(map(len, batches)) == [1, 4, 4, 4, 4, 4, 4]
