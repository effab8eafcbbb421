"""AdamW on float32 master weights, beside a model that computes in a lower precision.

Updates of lr 1e-5 are lost in a bfloat16 weight (8 bits of mantissa); the masters keep them.
"""

from __future__ import annotations

import torch

from nemo_cot.config import OptimConfig


class MasterAdamW:
    """Owns the masters, their gradients (accumulated in float32) and AdamW's moments.

    With a float32 model the weights are their own masters.
    """

    def __init__(self, model: torch.nn.Module, optim: OptimConfig) -> None:
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.masters = {
            name: p if p.dtype == torch.float32 else p.detach().float().requires_grad_()
            for name, p in self._weights.items()
        }
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._collector(n))
            for n, p in self._weights.items()
            if self.masters[n] is not p
        ]
        decayed = [m for m in self.masters.values() if m.ndim >= 2]
        others = [m for m in self.masters.values() if m.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": optim.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=optim.lr,
            betas=tuple(optim.betas),
            eps=optim.eps,
            fused=True,
        )

    def step(self, lr: float, *, clip: float) -> float:
        """Clip the gradient's global norm to ``clip`` (0: off), update, clear. Returns the norm before."""
        gradients = [m.grad for m in self.masters.values() if m.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if clip > 0:
            torch.nn.utils.clip_grads_with_norm_(list(self.masters.values()), clip, norm)
        for group in self._adamw.param_groups:
            group["lr"] = lr
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        self._publish()
        return float(norm)

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """All float32 state by name: weight.NAME, exp_avg.NAME, exp_avg_sq.NAME."""
        tensors = {}
        for name, master in self.masters.items():
            moments = self._adamw.state[master]
            tensors[f"weight.{name}"] = master.detach()
            tensors[f"exp_avg.{name}"] = moments["exp_avg"]
            tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"]
        return tensors

    def load_state_tensors(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """Take over what :meth:`state_tensors` gave after ``step`` updates."""
        for name, master in self.masters.items():
            with torch.no_grad():
                master.copy_(tensors[f"weight.{name}"])
            self._adamw.state[master] = {
                "step": torch.tensor(float(step), dtype=torch.float32, device=master.device),
                "exp_avg": tensors[f"exp_avg.{name}"].to(master.device),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(master.device),
            }
        self._publish()

    def _collector(self, name: str):
        """Move a low-precision gradient into the master's as soon as it is whole, and free it."""
        master = self.masters[name]

        def collect(weight: torch.nn.Parameter) -> None:
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)
            weight.grad = None

        return collect

    @torch.no_grad()
    def _publish(self) -> None:
        """Round the masters into the model's weights."""
        for name, weight in self._weights.items():
            if self.masters[name] is not weight:
                weight.copy_(self.masters[name])
