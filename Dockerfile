# One file, three images:
#   docker build --target web         -t opcod-web .         the server: pages and REST, no torch
#   docker build --target worker-cpu  -t opcod-worker .      a worker with torch's CPU build
#   docker build --target worker-cuda -t opcod-worker:cuda . a worker with torch's CUDA build
# What builds stays behind: an image has Python, one virtual environment and our source, and runs as a user without rights.

FROM python:3.11.14-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /srv/opcod
RUN python -m venv --without-pip /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
# The packages' places are enough to install what they need: a change of our source does not install it again.
RUN mkdir app opcod worker && touch app/__init__.py opcod/__init__.py worker/__init__.py

FROM build AS build-web
RUN pip --python /opt/venv install --editable '.[web,s3,telemetry]' --constraint constraints.txt

FROM build AS build-worker-cpu
RUN pip --python /opt/venv install --editable '.[worker,s3,telemetry]' --constraint constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu

FROM build AS build-worker-cuda
RUN pip --python /opt/venv install --editable '.[worker,s3,telemetry]' --constraint constraints.txt

FROM python:3.11.14-slim-trixie AS base
RUN python -m pip uninstall --yes --root-user-action=ignore setuptools wheel pip \
 && useradd --create-home --uid 10001 opcod \
 && install --directory --owner=opcod --group=opcod /data
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OPCOD_HOME=/data
WORKDIR /srv/opcod
VOLUME /data
STOPSIGNAL SIGTERM

FROM base AS web
COPY --from=build-web /opt/venv /opt/venv
COPY pyproject.toml LICENSE ./
COPY opcod opcod
COPY app app
COPY templates templates
COPY static static
COPY docs/method.md docs/method.md
USER 10001
ENV OPCOD_HOST=0.0.0.0 OPCOD_PORT=8000 OPCOD_AUTH=password
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["opcod", "health"]
CMD ["opcod", "serve"]

# A worker ends its run at the next checkpoint and gives it back to the queue (OPCOD_DRAIN_SECONDS).
FROM base AS worker
COPY pyproject.toml LICENSE ./
COPY opcod opcod
COPY app app
COPY worker worker
ENV HF_HOME=/data/huggingface
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s CMD ["opcod", "health", "--worker"]
CMD ["opcod", "worker"]

FROM worker AS worker-cpu
COPY --from=build-worker-cpu /opt/venv /opt/venv
USER 10001

FROM worker AS worker-cuda
COPY --from=build-worker-cuda /opt/venv /opt/venv
USER 10001
