# The server: a SuperLink, and the ServerApps that it starts. From the clone:
#   docker build -f deploy/docker/server.Dockerfile -t caafp-server .
FROM python:3.11-slim-bookworm

# For amd64: the address of PyTorch's index of CPU wheels, or a gigabyte of CUDA comes with torch.
ARG PIP_EXTRA_INDEX_URL=""

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY caafp_app caafp_app
RUN python -m pip install --no-cache-dir ".[server]" -c constraints.txt \
    && rm -rf /src/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/caafp caafp

ENV PYTHONUNBUFFERED=1 \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1 \
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1

USER caafp
WORKDIR /var/lib/caafp
VOLUME /var/lib/caafp
EXPOSE 8000

# By the certificate that it is to be given: see server.compose.yaml.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import ssl, urllib.request as u; u.urlopen('https://127.0.0.1:8000/health', timeout=5, context=ssl.create_default_context(cafile='/etc/caafp/ca.pem'))"]

ENTRYPOINT ["flower-superlink"]
CMD ["--help"]
