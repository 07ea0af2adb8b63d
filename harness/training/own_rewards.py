"""The own reward of each response, from log-probs that are known: where a cell is scored, and in `verify`."""

from __future__ import annotations

import numpy as np
import torch

from harness.api import HarnessError, Loss, ResponseLogps
from harness.planning.elsewhere import LOG_RATIO, MEAN, SUM


def own_rewards(loss: Loss, sums: np.ndarray, lengths: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the loss's own reward of each response, (responses,) float64.

    The loss gets copies: whatever it writes into them, the log-probs of this cell and of the base stay as they are.
    Raises `HarnessError` where the reward is not one finite number per response.
    """
    values = reward_of(
        loss,
        ResponseLogps(
            sum=torch.tensor(sums),
            length=torch.tensor(lengths),
            ref_sum=torch.tensor(base) if loss.reward_needs_reference else None,
        ),
    ).numpy()
    lost = int((np.isfinite(sums) & ~np.isfinite(values)).sum())
    if lost:
        raise HarnessError(
            f"loss '{loss.name}': reward is not finite for {lost} of {len(values)} responses, expected a number for "
            "each: a pair without one would be left out of the accuracy; correct reward"
        )
    return values


def reward_of(loss: Loss, response: ResponseLogps) -> torch.Tensor:
    """Return the loss's own reward of each response, (B,) float64.

    Raises `HarnessError` where it is not one real number per response.
    """
    expected = tuple(response.sum.shape)
    with torch.no_grad():
        reward: object = loss.reward(response)  # as a plugin has it, whatever its annotations say
    if not isinstance(reward, torch.Tensor):
        got = f"a {type(reward).__name__}"
    elif reward.shape != expected:
        got = f"shape {tuple(reward.shape)}"
    elif reward.is_complex() or reward.dtype == torch.bool:
        got = str(reward.dtype)
    else:
        return reward.detach().double()
    raise HarnessError(f"loss '{loss.name}': reward gave {got}, expected one number per response {expected}")


def read_rewards(reward: str, loss: Loss | None, sums: np.ndarray, lengths: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the reward of each response of a checkpoint from elsewhere, (responses,) float64: a loss's, or one of
    `planning.elsewhere.READINGS`."""
    if loss is not None:
        return own_rewards(loss, sums, lengths, base)
    read: dict[str, np.ndarray] = {LOG_RATIO: sums - base, MEAN: sums / lengths, SUM: sums}
    return read[reward]
