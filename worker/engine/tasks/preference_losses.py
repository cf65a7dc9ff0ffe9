"""The losses of preference tuning, from the log-probabilities of answers.

    log π(y)   = Σ_t log p(y_t | prompt, y_<t)        over an answer's tokens and its end-of-text token
    mean(y)    = log π(y) / |y|
    DPO        = −log σ(β · [(log π(chosen) − log π₀(chosen)) − (log π(rejected) − log π₀(rejected))])
    ORPO       = −mean(chosen) − β · log σ(log odds(chosen) − log odds(rejected))
    log odds(y) = mean(y) − log(1 − exp mean(y))

DPO: Rafailov et al. 2023, arXiv 2305.18290, equation 7; π₀ is the model before training, evaluated once on every pair.
ORPO: Hong et al. 2024, arXiv 2403.07691, equations 3, 6 and 7, which needs no π₀. Both as in TRL 1.16, except that
TRL's ORPO takes the first term over prompts and answers of a batch together; here, as in the paper, it is the mean over
an answer's tokens, so that a pair's loss does not depend on its batch.
"""

import math

import torch
from torch.nn.functional import logsigmoid

from worker.engine.data.batches.batches import Objective


def rewards(objective: Objective, sums: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The reward of each of 2B answers, in which β is a factor: of DPO log π − log π₀, of ORPO the mean
    log-probability."""
    if objective.loss == "orpo":
        return objective.beta * sums / tokens
    return objective.beta * (sums if objective.reference is None else sums - objective.reference)


def pair_losses(objective: Objective, sums: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The loss of each of B pairs, from the log-probabilities of their 2B answers."""
    if objective.loss == "dpo":
        chosen, rejected = rewards(objective, sums, tokens).chunk(2)
        return -logsigmoid(chosen - rejected)
    mean = sums / tokens
    chosen, rejected = (mean - _log_of_one_less(mean)).chunk(2)
    return -mean.chunk(2)[0] - objective.beta * logsigmoid(chosen - rejected)


def _log_of_one_less(log_p: torch.Tensor) -> torch.Tensor:
    """log(1 − exp(log_p)), exact near both ends (Mächler 2012, log1mexp); a probability of 1 counts as the next lower
    one."""
    log_p = log_p.clamp(max=-torch.finfo(log_p.dtype).eps)
    near = log_p > -math.log(2)
    # each branch gets values that it can differentiate, since `where` adds the gradients of both
    high = torch.log(-torch.expm1(torch.where(near, log_p, -torch.ones_like(log_p))))
    low = torch.log1p(-torch.exp(torch.where(near, -torch.ones_like(log_p), log_p)))
    return torch.where(near, high, low)
