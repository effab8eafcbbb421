"""Apex's two Adams for a CPU: its constructors' arguments (and no other), over torch's own AdamW."""

from __future__ import annotations

from typing import Any


def stand_ins() -> dict[str, type]:
    """By NeMo's names. Signatures of apex/optimizers/fused_adam.py and
    apex/contrib/optimizers/distributed_fused_adam.py at the commit of the training image."""
    import torch

    class FusedAdam(torch.optim.AdamW):
        def __init__(
            self, params: Any, lr: float = 1e-3, bias_correction: bool = True, betas: Any = (0.9, 0.999),
            eps: float = 1e-8, adam_w_mode: bool = True, weight_decay: float = 0.0, amsgrad: bool = False,
            set_grad_none: bool = True, capturable: bool = False, master_weights: bool = False,
        ) -> None:  # fmt: skip
            assert bias_correction and adam_w_mode
            super().__init__(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)

    class DistributedFusedAdam(torch.optim.AdamW):
        def __init__(
            self, params: Any, lr: float = 1e-3, bias_correction: bool = True, betas: Any = (0.9, 0.999),
            eps: float = 1e-8, adam_w_mode: bool = True, weight_decay: float = 0.0, amsgrad: bool = False,
            dtype: Any = torch.float32, grad_sync_dtype: Any = None, param_sync_dtype: Any = None, device: Any = "cuda",
            process_group: Any = None, distributed_process_group: Any = None, redundant_process_group: Any = None,
            average_grad_sync: bool = True, overlap_grad_sync: bool = True, overlap_param_sync: bool = False,
            bucket_cap_mb: float = 100.0, pipeline_size: int = 2, contiguous_param_buffer: bool = False,
            contiguous_grad_buffer: bool = False, store_params: bool = True, store_param_remainders: bool = False,
            with_scaled_states: bool = False, nccl_ub: bool = False,
        ) -> None:  # fmt: skip
            assert bias_correction and adam_w_mode and not (store_params and store_param_remainders)
            super().__init__(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)
            self.asked = {"store_param_remainders": store_param_remainders, "overlap_grad_sync": overlap_grad_sync}

    return {"fused_adam": FusedAdam, "distributed_fused_adam": DistributedFusedAdam}
