"""The authors' values as `Golden` records: what other libraries' code gave for a batch, and which of our losses it is.

`tests/golden/*.json` hold the values; here stands what they are called with us. Legend: B pairs, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.api import Logps, PairLogps
from harness.api.checks import Golden
from harness.api.checks.kit import What

FOLDER = Path(__file__).parent / "golden"
RECORDS: dict[str, dict[str, Any]] = {
    record["name"]: record
    for name in ("trl", "official")
    for record in json.loads((FOLDER / f"{name}.json").read_text())
}

VALUES: dict[str, tuple[str, dict[str, Any]]] = {
    "dpo_sigmoid_b0.1": ("dpo", {"beta": 0.1}),
    "dpo_sigmoid_b0.01": ("dpo", {"beta": 0.01}),
    "em_dpo_b0.1": ("dpo", {"beta": 0.1}),
    "em_cdpo_b0.1_ls0.1": ("dpo", {"beta": 0.1, "label_smoothing": 0.1}),
    "dpo_hinge_b0.1": ("rso", {"gamma": 0.1, "kind": "hinge_norm"}),
    "cpo_hinge_b0.1": ("rso", {"gamma": 0.1, "kind": "hinge"}),
    "cpo_hinge_b1": ("rso", {"gamma": 1.0, "kind": "hinge"}),
    "dpo_ipo_b0.1": ("ipo", {"tau": 0.1}),
    "em_ipo_SUMMED_b0.1": ("ipo", {"tau": 0.1, "reduction": "sum"}),
    "dpo_robust_b0.1_eps0.1": ("robust-dpo", {"beta": 0.1, "flip": 0.1}),
    "dpo_exo_pair_b0.1_eps1e-3": ("exo", {"beta": 0.1, "smoothing": 1e-3}),
    "dpo_nca_pair_b0.1": ("nca", {"beta": 0.1}),
    "dpo_bco_pair_b0.1": ("bco", {"beta": 0.1}),
    "dpo_sppo_hard_b0.1": ("sppo-hard", {"beta": 0.1}),
    "dpo_apo_zero_b0.1": ("apo-zero", {"beta": 0.1}),
    "dpo_apo_down_b0.1": ("apo-down", {"beta": 0.1}),
    "dpo_discopop_b0.05_tau0.05": ("discopop", {"beta": 0.05, "temperature": 0.05}),
    "dpo_sigmoid_norm_b5": ("dpo-norm", {"beta": 5.0}),
    "dpo_fdiv_forward_kl_b0.1": ("f-dpo", {"beta": 0.1, "divergence": "forward_kl"}),
    "dpo_fdiv_js_b0.1": ("f-dpo", {"beta": 0.1, "divergence": "js"}),
    "dpo_fdiv_alpha0.5_b0.1_float32": ("f-dpo", {"beta": 0.1, "divergence": "alpha", "coefficient": 0.5}),
    "ld_dpo_alpha0.5_b0.1": ("ld-dpo", {"beta": 0.1, "alpha": 0.5}),
    "ld_dpo_alpha0_b0.1": ("ld-dpo", {"beta": 0.1, "alpha": 0.0}),
    "wpo_sigmoid_b0.01": ("wpo", {"beta": 0.01, "clamp": False}),
    "dpo_plus_sft_rpo_alpha1": ("rpo", {"beta": 0.1, "nll_weight": 1.0}),
    "dpo_sft_token_mean": ("sft", {}),
    "cpo_sigmoid_b0.1": ("cpo", {"beta": 0.1, "nll_weight": 0.0}),
    "cpo_sigmoid_ls0.1_b0.1": ("cpo", {"beta": 0.1, "nll_weight": 0.0, "label_smoothing": 0.1}),
    "simpo_b2.5_g1.375": ("simpo", {"beta": 2.5, "gamma": 1.375}),
    "simpo_b2_g1.6": ("simpo", {"beta": 2.0, "gamma": 1.6}),
    "simpo_b10_g3": ("simpo", {"beta": 10.0, "gamma": 3.0}),
    "simpo_official_b2_gb0.8": ("simpo", {"beta": 2.0, "gamma": 2.0 * 0.8}),
    "simpo_official_b2.5_gb0.1": ("simpo", {"beta": 2.5, "gamma": 2.5 * 0.1}),
    "simpo_official_b2_gb0.5": ("simpo", {"beta": 2.0, "gamma": 2.0 * 0.5}),
    "simpo_official_b2.5_gb0.55": ("simpo", {"beta": 2.5, "gamma": 2.5 * 0.55}),
    "simpo_official_b10_gb0.3": ("simpo", {"beta": 10.0, "gamma": 10.0 * 0.3}),
    "alphapo_b2.5_g0.25_a0.25": ("alphapo", {"beta": 2.5, "gamma": 0.25, "alpha": 0.25}),
    "alphapo_b25_g0.1_a-0.25": ("alphapo", {"beta": 25.0, "gamma": 0.1, "alpha": -0.25}),
    "repo_g0.4": ("repo", {"gamma": 0.4}),
    "amapo_b2": ("amapo", {"beta": 2.0}),
    "amapo_b2_positive_mean": ("amapo", {"beta": 2.0}),
    "madpo_b0.1_cmax2_tau2": ("madpo", {"beta": 0.1, "tau": 2.0, "margin_scale": "raw"}),
    "madpo_b0.1_cmax2_tau6.91": ("madpo", {"beta": 0.1, "tau": 6.906754778648554, "margin_scale": "raw"}),
    "bpo_balance_logistic_b0.1": ("bpo", {"kind": "logistic", "adaptor": 1.0}),
    "bpo_balance_hinge_b0.1": ("bpo", {"kind": "hinge", "adaptor": 1.0}),
    "bpo_balance_square_minus_b0.1": ("bpo", {"kind": "square", "adaptor": 1.0}),
    "bpo_balance_exponential_b0.1": ("bpo", {"kind": "exponential", "adaptor": 1.0}),
    "bpo_balance_truncated_quadratic_b0.1": ("bpo", {"kind": "truncated_quadratic", "adaptor": 1.0}),
    "bpo_balance_savage_b0.1": ("bpo", {"kind": "savage", "adaptor": 1.0}),
    "bpo_balance_logistic_alpha_b0.1": ("bpo", {"kind": "logistic", "adaptor": 0.3}),
    "dpop_lambda50_b0.1_from_BPO_repo": ("dpop", {"beta": 0.1, "penalty": 50.0}),
    "caldpo_b0.01": ("cal-dpo", {"beta": 0.01}),
}
"""Records that give the loss of each pair, by name: our loss and its options."""

PREFERENCE: dict[str, tuple[str, dict[str, Any]]] = {
    "orpo_or_term_b0.1": ("orpo", {"weight": 0.1}),
    "orpo_log1mexp_edge": ("orpo", {"weight": 0.1}),
    "rrhf_pair_rank_term": ("rrhf", {}),
}
"""Records that give the preference term alone."""

ELSEWHERE = {
    "cpo_full_b0.1_cpo_alpha1": "a mean over the batch: test_golden.py",
    "dpo_aot_b0.1": "a mean over the batch: test_reference_free_losses.py",
    "wpo_official_b0.01": "the weights are given: test_reference_free_losses.py",
    "wpo_weight_from_logits": "the weight alone: test_reference_free_losses.py",
    "kto_b0.1": "labelled responses, not pairs: test_special_losses.py",
    "kto_b0.1_kl_clamped": "labelled responses, not pairs: test_special_losses.py",
    "betadpo_b0.1_a0.6_all_selected": "a state before the step: test_special_losses.py",
    "gammapo_solver_tau10_g04": "the solver alone: test_special_losses.py",
    "gammapo_solver_tau3_g03": "the solver alone: test_special_losses.py",
    "rrhf_3cand": "three candidates; ours is the pair form",
    "alignment_potential_zscore": "a way of selecting data, no loss",
}
"""The other records, and where they are tested."""

NOT_OUR_REWARD = {
    "dpo_ipo_b0.1": "TRL logs the summed reward where it trains the averaged one",
    "repo_g0.4": "the authors' code logs beta * A",
    "dpo_sigmoid_norm_b5": "TRL logs the summed reward where it trains the averaged one",
    "dpo_sft_token_mean": "TRL logs DPO's reward",
    "ld_dpo_alpha0.5_b0.1": "TRL logs the weighted log-ratio, which needs both responses",
    "ld_dpo_alpha0_b0.1": "TRL logs the weighted log-ratio, which needs both responses",
    "dpo_fdiv_forward_kl_b0.1": "TRL logs beta times the log-ratio whatever the divergence",
    "dpo_fdiv_js_b0.1": "TRL logs beta times the log-ratio whatever the divergence",
    "dpo_fdiv_alpha0.5_b0.1_float32": "TRL logs beta times the log-ratio whatever the divergence",
    "orpo_or_term_b0.1": "TRL logs beta * A",
}
"""Records whose logged reward is not the one the loss trains, and why."""


def _logps(inputs: Mapping[str, Any], side: str, dtype: torch.dtype, rows: int) -> Logps:
    lengths = inputs.get(f"{side}_lengths", [1] * rows)[:rows]
    mask_BT = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    token_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)
    square_BT = None
    if f"policy_{side}_token_logps" in inputs:
        token_BT[mask_BT] = _flat(inputs[f"policy_{side}_token_logps"], rows)
    else:
        token_BT = torch.where(mask_BT, (_sums(inputs, side, lengths) / torch.tensor(lengths))[:, None], 0.0)
    if f"{side}_log_sum_sq_probs" in inputs:
        square_BT = torch.zeros_like(token_BT)
        square_BT[mask_BT] = _flat(inputs[f"{side}_log_sum_sq_probs"], rows)
    return Logps(token=token_BT.to(dtype), mask=mask_BT, log_sum_sq=square_BT)


def _flat(lists: list[list[float]], rows: int) -> Tensor:
    return torch.tensor([value for row in lists[:rows] for value in row], dtype=torch.float64)


def _sums(inputs: Mapping[str, Any], side: str, lengths: list[int]) -> Tensor:
    rows = len(lengths)
    if f"policy_{side}_logps" in inputs:
        return torch.tensor(inputs[f"policy_{side}_logps"][:rows], dtype=torch.float64)
    means = inputs.get(f"avg_{side}") or inputs[f"fed_{side}"]
    return torch.tensor(means[:rows], dtype=torch.float64) * torch.tensor(lengths)


def _reference(inputs: Mapping[str, Any], side: str, dtype: torch.dtype, rows: int) -> Tensor | None:
    sums = inputs.get(f"ref_{side}_logps")
    return None if sums is None else torch.tensor(sums[:rows], dtype=dtype)


def pairs_of(record: Mapping[str, Any], rows: int) -> PairLogps:
    """Return the record's first `rows` pairs."""
    inputs, dtype = record["inputs"], getattr(torch, record["dtype"])
    chosen, rejected = (_logps(inputs, side, dtype, rows) for side in ("chosen", "rejected"))
    references = None
    if "ref_chosen_token_logps" in inputs:
        sides = []
        for side, policy in (("chosen", chosen), ("rejected", rejected)):
            token_BT = torch.zeros_like(policy.token)
            token_BT[policy.mask] = _flat(inputs[f"ref_{side}_token_logps"], rows).to(dtype)
            sides.append(Logps(token=token_BT, mask=policy.mask))
        references = (sides[0], sides[1])
    return PairLogps(
        chosen=chosen,
        rejected=rejected,
        ref_chosen=_reference(inputs, "chosen", dtype, rows),
        ref_rejected=_reference(inputs, "rejected", dtype, rows),
        ref_tokens=references,
    )


def _madpo(record: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
    return {"weight": torch.tensor(record["expected"]["weights"][:rows], dtype=torch.float64)}


def _golden(name: str, loss: str, options: Mapping[str, Any], what: What) -> Golden:
    record = RECORDS[name]
    expected = next(record["expected"][key] for key in EXPECTED if key in record["expected"])
    pairs = pairs_of(record, len(expected))
    if loss == "madpo":
        pairs = replace(pairs, columns=_madpo(record, len(expected)))
    return Golden(
        loss=loss,
        options=options,
        pairs=pairs,
        expected=expected,
        what=what,
        rtol=1e-5 if record["dtype"] == "float32" else 1e-10,
        source=f"{name}: {record['library']} {record['version']}, {record['code']}",
    )


EXPECTED = ("losses", "losses_one_pair_calls", "or_loss_float64")
GOLDEN: tuple[Golden, ...] = (
    *(_golden(name, loss, options, "values") for name, (loss, options) in VALUES.items()),
    *(_golden(name, loss, options, "preference") for name, (loss, options) in PREFERENCE.items()),
)
"""What the conformance checks hold against the shipped losses."""
