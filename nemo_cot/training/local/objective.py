"""The loss of one pack: weighted cross-entropy on answer tokens only, without whole logits.

The vocabulary projection is the largest activation of a small model. It is done for loss-bearing
positions only, in chunks, and its gradient is computed in the forward pass, so that no chunk's
logits outlive it (the idea of Liger Kernel's fused linear cross-entropy, arXiv 2410.10989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable

from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.training.local.batches import WeightedPack

CHUNK_TOKENS = 512
"""Tokens whose logits exist at one time."""


@dataclass(frozen=True)
class PackTensors:
    """One pack ready for the model. Shapes: ids and positions (1, tokens); the rest (trained,)."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    boundaries: tuple[int, ...]
    predictors: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def pack_tensors(
    packed: WeightedPack, sequences: Sequence[TokenSequence], device: torch.device
) -> PackTensors:
    """Lay the sequences of a pack end to end. Positions restart with each.

    ``predictors`` are the offsets whose hidden state predicts a trained token: each sequence's
    from num_prompt_tokens - 1 to its last but one. The last token is an input to nothing, so it is
    left out.
    """
    ids, positions, predictors, targets, weights, boundaries = [], [], [], [], [], [0]
    for index, weight in zip(packed.sequences, packed.weights):
        sequence = sequences[index]
        start, length = boundaries[-1], len(sequence.input_ids) - 1
        first = sequence.num_prompt_tokens - 1
        ids += sequence.input_ids[:-1]
        positions += range(length)
        predictors += range(start + first, start + length)
        targets += sequence.input_ids[first + 1 :]
        weights += [weight] * (length - first)
        boundaries.append(start + length)
    return PackTensors(
        torch.tensor([ids], device=device),
        torch.tensor([positions], device=device),
        tuple(boundaries),
        torch.tensor(predictors, device=device),
        torch.tensor(targets, device=device),
        torch.tensor(weights, dtype=torch.float32, device=device),
    )


class PackScores(NamedTuple):
    """``loss``: the weighted sum of the token losses (float32 scalar), ready for backward.

    ``token_losses``: nats (float32); ``hits``: 1.0 where the likeliest token is the target; both (trained,),
    without gradient.
    """

    loss: torch.Tensor
    token_losses: torch.Tensor
    hits: torch.Tensor


def pack_scores(model: torch.nn.Module, packed: PackTensors) -> PackScores:
    """The pack's loss, and loss and hit of each token, in one forward pass.

    Over the packs of a step the losses sum to the objective's mean, since the weights sum to one.
    """
    hidden = model.get_decoder()(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        boundaries=packed.boundaries,
        use_cache=False,
    ).last_hidden_state
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise NotImplementedError("a vocabulary projection with a bias")
    trained = hidden[0, packed.predictors]
    return PackScores(*_LinearCrossEntropy.apply(trained, head.weight, packed.targets, packed.weights))


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of weights * cross_entropy(hidden @ weight.T, targets), a chunk of tokens at a time."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, weights):
        loss = hidden.new_zeros((), dtype=torch.float32)
        token_losses, hits = torch.empty_like(weights), torch.empty_like(weights)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            token_losses[part], hits[part], slope = _loss_and_slope(
                hidden[part] @ weight.T, targets[part], weights[part]
            )
            loss += (token_losses[part] * weights[part]).sum()
            grad_hidden[part] = slope @ weight
            if grad_weight is not None:
                _add_product(grad_weight, slope.T, hidden[part])
        ctx.grads, ctx.weight_dtype = (grad_hidden, grad_weight), weight.dtype
        ctx.mark_non_differentiable(token_losses, hits)
        return loss, token_losses, hits

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, *_):
        (grad_hidden, grad_weight), ctx.grads = ctx.grads, None
        given = None if grad_weight is None else grad_weight.mul_(grad).to(ctx.weight_dtype)
        return grad_hidden.mul_(grad), given, None, None


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total += left @ right; in one dtype without the product, which is as large as the vocabulary's weights."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _loss_and_slope(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss and hit of each token of a chunk (float32), and the derivative of the weighted loss by the logits.

    The derivative, in the logits' dtype, is weight * (softmax - one-hot); the weight goes into the exponent, which saves a
    pass over the logits. Among equally likely tokens the target counts as the likeliest.
    """
    dtype, index = logits.dtype, targets.unsqueeze(1)
    logits = logits.float()
    log_norm = logits.logsumexp(-1)
    own = logits.gather(1, index).squeeze(1)
    hits = (own >= logits.amax(-1)).float()
    slope = logits.sub_((log_norm - weights.log()).unsqueeze(1)).exp_()
    slope.scatter_add_(1, index, -weights.unsqueeze(1))
    return log_norm - own, hits, slope.to(dtype)
