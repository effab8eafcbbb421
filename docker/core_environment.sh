#!/bin/sh
# core_environment.sh LOCK VENV: a separate environment for nemo-cot's light core or NeMo-Skills, from a lock with hashes.
#
# It uses uv if the base has it (NeMo-RL's image), else Python's venv and pip, else apt-get installs these.
# The base's own Python stays unchanged: its torch, and what was built against it, must not change.
set -eu
lock=$1
venv=$2
unset PIP_CONSTRAINT # NVIDIA's images pin their packages with it

has() { python3 -c "import $1" 2>/dev/null; }

if command -v uv >/dev/null; then
	# Not under /root, which other users cannot read.
	UV_PYTHON_INSTALL_DIR=/opt/nemo-cot/python uv venv --no-cache --python '>=3.10,<3.13' "$venv"
	uv pip install --no-cache --quiet --python "$venv/bin/python" --require-hashes --requirement "$lock"
	exit 0
fi
if ! has ensurepip && ! has pip; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends python3 python3-venv
	rm -rf /var/lib/apt/lists/*
fi
if has ensurepip; then
	python3 -m venv "$venv"
else
	python3 -m venv --without-pip "$venv"
	python3 -m pip --python "$venv/bin/python" install --quiet --no-cache-dir pip
fi
"$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --requirement "$lock"
