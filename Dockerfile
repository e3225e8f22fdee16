# The image of the service: `serve` for one machine, `dispatcher` and `worker` for a cluster.
# It replaces agentvoiceresponse/avr-sts-openai, with the same variables, port and folder of tools.
#
#   docker build --tag avr-sts-openai .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag avr-sts-openai .
#
# It builds for both platforms. What depends on them: Debian's packages, Node, packages with machine code, and the call
# path, which the compiler compiles on the platform itself.
#
# Base images have a tag, and Dependabot proposes newer ones. For reproducible builds, give digests of the same tags:
#   docker buildx imagetools inspect --format '{{.Manifest.Digest}}' python:3.11.16-slim-bookworm
#   docker build --build-arg PYTHON_IMAGE=python:3.11.16-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.16-slim-bookworm
ARG NODE_IMAGE=node:24.21.0-bookworm-slim


# Node, and the packages that AVR's documented tools require.
FROM ${NODE_IMAGE} AS node
WORKDIR /build
COPY worker/tools/node/package.json worker/tools/node/package-lock.json worker/tools/node/.npmrc ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund


FROM ${PYTHON_IMAGE} AS python
WORKDIR /build
# The compiler for the call path (setup.py). The final image has no compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc=4:12.* libc6-dev=2.36-* \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_CONSTRAINT=/build/constraints.txt
# The environment has no pip. Derived images use the system's pip, and PIP_PYTHON makes it install here.
RUN python -m venv --without-pip /opt/avr-sts
COPY LICENSE constraints.txt pyproject.toml README.md setup.py ./
# Dependencies come first, because they change seldom and Docker then reuses their layer.
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    otel = project['optional-dependencies']['otel']; \
    print(*project['dependencies'], *otel, sep='\n', file=open('requirements.txt', 'w')); \
    print(*project['optional-dependencies']['compile'], sep='\n', file=open('requirements-compile.txt', 'w'))" \
    && python -m pip --python /opt/avr-sts/bin/python install --only-binary :all: --requirement requirements.txt
# mypyc needs the types of the image's packages.
RUN python -m venv /opt/compile \
    && /opt/compile/bin/python -m pip install --no-compile --only-binary :all: \
        --requirement requirements-compile.txt \
    && echo /opt/avr-sts/lib/python3.11/site-packages > /opt/compile/lib/python3.11/site-packages/image.pth
COPY common common
COPY dispatcher dispatcher
COPY simulator simulator
COPY worker worker
# --build-arg AVR_STS_COMPILE= builds without compiling.
ARG AVR_STS_COMPILE=2
RUN /opt/compile/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && python -m pip --python /opt/avr-sts/bin/python install --no-deps wheels/*.whl


FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
# tini is process 1: it collects processes that tools leave behind, and forwards signals.
# The user node has the uid and gid of AVR's own images, so that mounted files of mode 0600 stay readable. This user owns
# the folder of tools, so that `RUN npm install` in a derived image can write there.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.* \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 node \
    && useradd --uid 1000 --gid 1000 --create-home --shell /usr/sbin/nologin node \
    && mkdir --parents /usr/src/app/tools /usr/src/app/avr_tools \
    && chown --recursive 1000:1000 /usr/src/app
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
    && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
COPY --from=python /opt/avr-sts /opt/avr-sts
COPY --from=node /build/node_modules /opt/avr-sts/lib/python3.11/site-packages/worker/tools/node/node_modules

# The folders of tools in the replaced image, where people mount their own tools.
WORKDIR /usr/src/app/tools
WORKDIR /usr/src/app/avr_tools
WORKDIR /usr/src/app
ENV PATH=/opt/avr-sts/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_PYTHON=/opt/avr-sts/bin/python \
    TOOLS_DIR=/usr/src/app/tools \
    AVR_TOOLS_DIR=/usr/src/app/avr_tools

# What it was built from; a release gives its own values (.github/workflows/release.yml). They come last, because a new
# value ends the reuse of the layers behind it.
ARG VERSION=0.2.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.base.name="docker.io/library/${PYTHON_IMAGE}" \
    org.opencontainers.image.vendor="the avr-sts-openai contributors" \
    org.opencontainers.image.title="avr-sts-openai" \
    org.opencontainers.image.description="Telephone calls to OpenAI's Realtime API, for AVR (Agent Voice Response)" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.url="https://github.com/avr-sts-openai/avr-sts-openai" \
    org.opencontainers.image.source="https://github.com/avr-sts-openai/avr-sts-openai" \
    org.opencontainers.image.documentation="https://github.com/avr-sts-openai/avr-sts-openai/tree/main/docs"

USER 1000:1000
# 6030: AVR Core. 9090: probes and metrics. 7000: links from dispatchers to a worker.
EXPOSE 6030 9090 7000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["avr-sts-openai", "healthcheck"]
ENTRYPOINT ["tini", "--", "avr-sts-openai"]
CMD ["serve"]
