"""The loss of one pack: weighted cross-entropy on answer tokens only, without whole logits.

The vocabulary projection is the largest activation of a small model. It is done for loss-bearing
positions only, in chunks, and its gradient is computed in the forward pass, so that no chunk's
logits outlive it (the idea of Liger Kernel's fused linear cross-entropy, arXiv 2410.10989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nemo_cot.sequences import TokenSequence
from nemo_cot.training.batches import WeightedPack

CHUNK_TOKENS = 256


@dataclass(frozen=True)
class PackTensors:
    """One pack ready for the model. Shapes: ids and positions (1, tokens); the rest (trained,)."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    boundaries: tuple[int, ...]
    predictors: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def pack_tensors(packed: WeightedPack, sequences: Sequence[TokenSequence], device: torch.device) -> PackTensors:
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


def pack_loss(model: torch.nn.Module, packed: PackTensors) -> torch.Tensor:
    """Weighted sum of the pack's token losses (float32 scalar), ready for backward.

    Over the packs of a step the sum is the objective's mean, since the weights sum to one.
    """
    hidden = model.get_decoder()(
        input_ids=packed.input_ids, position_ids=packed.position_ids, boundaries=packed.boundaries, use_cache=False
    ).last_hidden_state
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise NotImplementedError("a vocabulary projection with a bias")
    return _LinearCrossEntropy.apply(hidden[0, packed.predictors], head.weight, packed.targets, packed.weights)


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of weights * cross_entropy(hidden @ weight.T, targets), a chunk of tokens at a time."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, weights):
        loss = hidden.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            logits = (hidden[part] @ weight.T).float()
            log_norm = logits.logsumexp(-1)
            index = targets[part].unsqueeze(1)
            picked = logits.gather(1, index).squeeze(1)
            loss += ((log_norm - picked) * weights[part]).sum()
            # d loss / d logits = weight * (softmax - one-hot), written over the logits
            slope = logits.sub_(log_norm.unsqueeze(1)).exp_().mul_(weights[part].unsqueeze(1))
            slope.scatter_add_(1, index, -weights[part].unsqueeze(1))
            slope = slope.to(hidden.dtype)
            grad_hidden[part] = slope @ weight
            if grad_weight is not None:
                grad_weight += slope.T @ hidden[part]
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return loss

    @staticmethod
    def backward(ctx, grad):
        grad_hidden, grad_weight = ctx.saved_tensors
        given = None if grad_weight is None else (grad_weight * grad).to(ctx.weight_dtype)
        return grad_hidden * grad, given, None, None
