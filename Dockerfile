# Two images from one file:  docker build --target web .   and   docker build --target worker .
FROM python:3.11-slim-trixie AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 opcod \
 && install --directory --owner=opcod --group=opcod /data
WORKDIR /srv/opcod
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY opcod opcod
COPY app app

# The server: pages and REST, no torch.
FROM base AS web
RUN pip install --editable '.[web]' --constraint constraints.txt
COPY templates templates
COPY static static
COPY docs/method.md docs/method.md
USER opcod
ENV OPCOD_HOME=/data OPCOD_HOST=0.0.0.0 OPCOD_PORT=8000 OPCOD_AUTH=password
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/api/v1/health', timeout=4)"]
CMD ["opcod", "serve"]

# A worker: torch, and one training process at a time.
FROM base AS worker
COPY worker worker
RUN pip install --editable '.[worker]' --constraint constraints.txt
USER opcod
ENV OPCOD_HOME=/data HF_HOME=/data/huggingface
VOLUME /data
# Ends its run at the next checkpoint and gives it back to the queue (OPCOD_DRAIN_SECONDS).
STOPSIGNAL SIGTERM
CMD ["opcod", "worker"]
