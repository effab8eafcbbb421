#!/bin/sh
# nemo_rl.sh WITH_NEMO: list what NeMo-RL's image must hold; nothing is added to it.
set -eu
[ "$1" = 1 ] || exit 0
mkdir -p /opt/nemo-cot/promised
cat >/opt/nemo-cot/promised/train.txt <<'PROMISED'
python /opt/nemo_rl_venv/bin/python
nemo-rl import nemo_rl
torch import torch
file /opt/nemo-rl/examples/run_sft.py
file /opt/nemo-rl/examples/configs/sft.yaml
file /opt/nemo-rl/examples/converters/convert_megatron_to_hf.py
PROMISED
