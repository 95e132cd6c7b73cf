# A device: `caafp device` and what it needs, nothing of the server. From the clone, for both kinds at once:
#   docker buildx build --platform linux/amd64,linux/arm64 \
#       -f deploy/docker/device.Dockerfile -t caafp-device .
FROM python:3.11-slim-bookworm

# amd64 wants the address of PyTorch's index of CPU wheels, or gigabytes of CUDA come with torch.
# arm64 does without: its constraints name a torch whose wheel is for processors.
ARG PIP_EXTRA_INDEX_URL=""
ARG TARGETARCH=amd64

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY constraints.txt constraints-amd64.txt
COPY deploy/constraints-aarch64.txt constraints-arm64.txt
COPY conf conf
COPY caafp_app caafp_app
COPY deploy/trim.py trim.py
# --no-compile: pip would compile 172 MB. The device's user may not write here, so what a device
# imports (36 MB) is compiled now: by importing it.
RUN python -m pip install --no-cache-dir --no-compile . -c "constraints-${TARGETARCH}.txt" \
    && python trim.py \
    && cd / \
    && python -c "from caafp_app.devices.warm.process import preload; preload()" \
    && caafp device --help >/dev/null \
    && rm -rf /src/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/caafp caafp

ENV PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1

USER caafp
WORKDIR /var/lib/caafp
VOLUME /var/lib/caafp

HEALTHCHECK --interval=60s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9094/health', timeout=5)"]

ENTRYPOINT ["caafp", "device"]
CMD ["--help"]
