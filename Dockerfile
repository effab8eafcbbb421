# The images of nemo-cot's cluster runs. Which revisions belong together, and why: docs/container.md.
#
#   docker build -t nemo-cot --build-arg REVISION="$(git rev-parse HEAD)" .       (the paper's NeMo-Aligner)
#   docker build -t nemo-cot-rl --target nemo-rl --build-arg REVISION=... .       (its successor, NeMo-RL)
#   docker build -t nemo-cot-vllm --target nemo-skills --build-arg REVISION=... . (generation and evaluation)
#   docker build -t nemo-cot-core --build-arg BASE_IMAGE=debian:12-slim --build-arg WITH_NEMO=0 .
#
# Or `make image`. The last one holds the light core only: show, plan, grade, report, submit.

ARG BASE_IMAGE=nvcr.io/nvidia/pytorch:24.07-py3
ARG NEMO_RL_IMAGE=nvcr.io/nvidia/nemo-rl:v0.7.0
ARG VLLM_IMAGE=docker.io/vllm/vllm-openai:v0.32.0
# 0: leave out everything that needs NVIDIA's base; the rest builds on any Debian or Ubuntu.
ARG WITH_NEMO=1

FROM scratch AS source
COPY LICENSE README.md pyproject.toml /opt/nemo-cot/src/
COPY conf /opt/nemo-cot/src/conf
COPY launchers /opt/nemo-cot/src/launchers
COPY nemo_cot /opt/nemo-cot/src/nemo_cot
COPY recipes /opt/nemo-cot/src/recipes

# Compiled in stages of their own: in parallel, and without build trees in the image.
FROM ${BASE_IMAGE} AS transformer-engine
ARG WITH_NEMO
ARG MAX_JOBS=8
ARG TRANSFORMER_ENGINE_REVISION=7d576ed25266a17a7b651f2c12e8498f67e0baea
RUN --mount=type=bind,source=docker,target=/docker \
    NVTE_FRAMEWORK=pytorch /docker/wheel.sh "${WITH_NEMO}" \
        https://github.com/NVIDIA/TransformerEngine.git "${TRANSFORMER_ENGINE_REVISION}"

FROM ${BASE_IMAGE} AS apex
ARG WITH_NEMO
ARG MAX_JOBS=8
ARG APEX_REVISION=810ffae374a2b9cb4b5c5e28eaeca7d7998fca0c
# distributed_adam: the optimizer in the rendered config. NeMo's layers import the others.
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/wheel.sh "${WITH_NEMO}" https://github.com/NVIDIA/apex.git "${APEX_REVISION}" \
        "--cpp_ext --cuda_ext --fast_layer_norm --distributed_adam --deprecated_fused_adam"

# ---------------------------------------------------------------- nemo-rl
FROM ${NEMO_RL_IMAGE} AS nemo-rl
ARG WITH_NEMO
ARG NEMO_RL_IMAGE
USER 0
COPY requirements/core.lock.txt /opt/nemo-cot/requirements/
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/core_environment.sh /opt/nemo-cot/requirements/core.lock.txt /opt/nemo-cot/venv \
    && /docker/nemo_rl.sh "${WITH_NEMO}"
COPY --from=source /opt/nemo-cot/src /opt/nemo-cot/src
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/core_package.sh /opt/nemo-cot/src /opt/nemo-cot/venv
ENV PATH=/opt/nemo-cot/bin:${PATH}
ARG USER_ID=0
ARG GROUP_ID=0
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG BUILD_ID=unknown
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/finish.sh nemo-rl "${NEMO_RL_IMAGE}" "${USER_ID}" "${GROUP_ID}"
LABEL org.opencontainers.image.title="nemo-cot, with NeMo-RL" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${NEMO_RL_IMAGE}" \
      nemo-cot.build-id="${BUILD_ID}"
HEALTHCHECK --interval=30m --timeout=5m \
    CMD ["/opt/nemo-cot/venv/bin/python", "-m", "nemo_cot.launchers.image_smoke", "--installed-only"]
USER ${USER_ID}:${GROUP_ID}
CMD ["nemo-cot", "--help"]

# ---------------------------------------------------------------- nemo-skills
FROM ${VLLM_IMAGE} AS nemo-skills
ARG WITH_NEMO
ARG VLLM_IMAGE
ARG NEMO_SKILLS_INFERENCE_REVISION=0b012df8a09cd4730d31b16e90a0d8f13d145fb8
USER 0
COPY requirements/core.lock.txt requirements/skills.lock.txt /opt/nemo-cot/requirements/
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/core_environment.sh /opt/nemo-cot/requirements/core.lock.txt /opt/nemo-cot/venv \
    && /docker/nemo_skills.sh "${WITH_NEMO}" /opt/nemo-cot/requirements/skills.lock.txt
COPY --from=source /opt/nemo-cot/src /opt/nemo-cot/src
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/core_package.sh /opt/nemo-cot/src /opt/nemo-cot/venv
ENV PATH=/opt/nemo-cot/bin:${PATH}
ARG USER_ID=0
ARG GROUP_ID=0
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG BUILD_ID=unknown
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/finish.sh nemo-skills "${VLLM_IMAGE}" "${USER_ID}" "${GROUP_ID}"
LABEL org.opencontainers.image.title="nemo-cot, with NeMo-Skills and vLLM" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${VLLM_IMAGE}" \
      nemo-cot.build-id="${BUILD_ID}"
HEALTHCHECK --interval=30m --timeout=5m \
    CMD ["/opt/nemo-cot/venv/bin/python", "-m", "nemo_cot.launchers.image_smoke", "--installed-only"]
USER ${USER_ID}:${GROUP_ID}
# vLLM's image starts its server before every command.
ENTRYPOINT []
CMD ["nemo-cot", "--help"]

# ---------------------------------------------------------------- nemo-aligner, the default: the last stage
FROM ${BASE_IMAGE} AS nemo-aligner
ARG WITH_NEMO
ARG BASE_IMAGE
USER 0
COPY requirements/core.lock.txt requirements/nemo.lock.txt /opt/nemo-cot/requirements/
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/core_environment.sh /opt/nemo-cot/requirements/core.lock.txt /opt/nemo-cot/venv
ARG NEMO_ALIGNER_VERSION=0.7.0
ARG NEMO_VERSION=2.1.0
ARG MEGATRON_CORE_VERSION=0.10.0
ARG NEMO_SKILLS_REVISION=3a3eba81d38cfda7742c11c17a64203486ea9603
RUN --mount=type=bind,source=docker,target=/docker \
    --mount=type=bind,from=transformer-engine,source=/wheels,target=/wheels/transformer-engine \
    --mount=type=bind,from=apex,source=/wheels,target=/wheels/apex \
    /docker/nemo.sh "${WITH_NEMO}" /opt/nemo-cot/requirements/nemo.lock.txt
COPY --from=source /opt/nemo-cot/src /opt/nemo-cot/src
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/core_package.sh /opt/nemo-cot/src /opt/nemo-cot/venv
ENV PATH=/opt/nemo-cot/bin:${PATH}
ARG USER_ID=0
ARG GROUP_ID=0
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG BUILD_ID=unknown
RUN --mount=type=bind,source=docker,target=/docker \
    /docker/finish.sh nemo-aligner "${BASE_IMAGE}" "${USER_ID}" "${GROUP_ID}"
LABEL org.opencontainers.image.title="nemo-cot, with NeMo-Aligner" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      nemo-cot.build-id="${BUILD_ID}"
HEALTHCHECK --interval=30m --timeout=5m \
    CMD ["/opt/nemo-cot/venv/bin/python", "-m", "nemo_cot.launchers.image_smoke", "--installed-only"]
USER ${USER_ID}:${GROUP_ID}
CMD ["nemo-cot", "--help"]
