#!/bin/sh
# nemo.sh WITH_NEMO LOCK: install NeMo-Aligner, NeMo, Megatron-core and NeMo-Skills into the base's own Python, and list
# what the image then promises (launchers/image_smoke.py). Versions come from the environment (Dockerfile).
#
# --no-deps everywhere: their declared dependencies would replace the base's torch; LOCK holds what they need.
set -eu
with_nemo=$1
lock=$2
promised=/opt/nemo-cot/promised/train.txt
[ "$with_nemo" = 1 ] || exit 0
unset PIP_CONSTRAINT

version() { python3 -c 'import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))' "$1" 2>/dev/null; }
install() { python3 -m pip install --no-cache-dir --disable-pip-version-check --no-deps "$@"; }

torch=$(version torch)
# The base's own builds are older than NeMo requires.
python3 -m pip uninstall --yes transformer-engine apex megatron-core nemo_toolkit
install /wheels/*/*.whl
install --requirement "$lock"
install "nemo-aligner==$NEMO_ALIGNER_VERSION" "nemo_toolkit==$NEMO_VERSION" "megatron-core==$MEGATRON_CORE_VERSION"
install "git+https://github.com/NVIDIA-NeMo/Skills.git@$NEMO_SKILLS_REVISION"

now=$(version torch)
[ "$now" = "$torch" ] || {
	echo "error: torch was $torch and is now $now: an installation replaced the base's" >&2
	exit 3
}
# The training processes run in this Python and import nemo_cot from here unless PYTHONPATH names a newer copy.
# The alias: NeMo-Skills' converters import Lightning by its former name.
cp -r "$(dirname "$0")/alias" /opt/nemo-cot/alias
python3 - /opt/nemo-cot/src /opt/nemo-cot/alias <<'PTH'
import pathlib, site, sys
pathlib.Path(site.getsitepackages()[0], "nemo_cot.pth").write_text("\n".join(sys.argv[1:]) + "\n")
PTH
mkdir -p "$(dirname "$promised")"
cat >"$promised" <<PROMISED
python $(command -v python3)
torch==$torch import torch
nemo-aligner==$NEMO_ALIGNER_VERSION import nemo_aligner.models.nlp.gpt.gpt_sft_model
nemo-toolkit==$NEMO_VERSION import nemo.collections.nlp.models.language_modeling.megatron_gpt_model
megatron-core==$MEGATRON_CORE_VERSION import megatron.core
transformer-engine import transformer_engine.pytorch
apex import apex.contrib.optimizers.distributed_fused_adam
nemo-skills import nemo_skills.conversion.hf_to_nemo_qwen
nemo-skills import nemo_skills.conversion.nemo_to_hf_qwen
tensorboard import torch.utils.tensorboard
hydra-core import nemo_cot.launchers.smoke
PROMISED
