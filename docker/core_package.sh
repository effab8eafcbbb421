#!/bin/sh
# core_package.sh SOURCE VENV: install nemo-cot from SOURCE into VENV, editable: config stays beside the code.
set -eu
source=$1
venv=$2
unset PIP_CONSTRAINT

if command -v uv >/dev/null; then
	uv pip install --no-cache --quiet --python "$venv/bin/python" --no-deps --editable "$source"
else
	"$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --editable "$source"
fi
# Only the command goes on PATH: `python` stays the base's, which has torch and NeMo.
mkdir -p /opt/nemo-cot/bin
ln -sf "$venv/bin/nemo-cot" /opt/nemo-cot/bin/nemo-cot
