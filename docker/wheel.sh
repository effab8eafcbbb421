#!/bin/sh
# wheel.sh WITH_NEMO REPOSITORY REVISION [BUILD_OPTIONS]: compile one CUDA package against the base's torch
# into /wheels. Unless WITH_NEMO is 1 nothing is compiled, and /wheels stays empty.
set -eu
mkdir -p /wheels
[ "$1" = 1 ] || exit 0
unset PIP_CONSTRAINT
python3 -c 'import importlib.metadata; importlib.metadata.version("torch")' 2>/dev/null || {
	echo "error: BASE_IMAGE has no torch. Fix: build on NVIDIA's PyTorch image, or with --build-arg WITH_NEMO=0" >&2
	exit 2
}
# --no-build-isolation: the build must use the base's torch, not fetch one; --no-deps: nor install one.
set -- "git+$2@$3" ${4:+"--config-settings=--build-option=$4"}
python3 -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels "$@"
