#!/bin/sh
# nemo_skills.sh WITH_NEMO LOCK: install NeMo-Skills into a separate environment, /opt/nemo-skills, beside vLLM's, and
# list what the image then promises. NEMO_SKILLS_INFERENCE_REVISION comes from the environment (Dockerfile).
set -eu
with_nemo=$1
lock=$2
[ "$with_nemo" = 1 ] || exit 0
unset PIP_CONSTRAINT
# Its generation waits for the server by curl, and for ever where there is none.
command -v curl >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends curl; }
environment=/opt/nemo-skills
skills="git+https://github.com/NVIDIA-NeMo/Skills.git@$NEMO_SKILLS_INFERENCE_REVISION"

"$(dirname "$0")/core_environment.sh" "$lock" "$environment"
# --no-deps: LOCK holds what its generation imports; its other requirements serve other tasks.
if command -v uv >/dev/null; then
	uv pip install --no-cache --python "$environment/bin/python" --no-deps "$skills"
else
	"$environment/bin/python" -m pip install --no-cache-dir --no-deps "$skills"
fi
mkdir -p /opt/nemo-cot/promised
cat >/opt/nemo-cot/promised/generate.txt <<PROMISED
python $environment/bin/python
nemo-skills import nemo_skills.inference.generate
nemo-skills import nemo_skills.inference.server.serve_vllm
nemo-skills import nemo_skills.pipeline.summarize_results
python $(command -v python3)
vllm import vllm
torch import torch
PROMISED
