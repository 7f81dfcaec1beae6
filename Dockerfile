# A site with a mirror names its own image: --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.12.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1
# The locked packages change less often than the code: a layer of their own.
COPY requirements.lock ./
COPY tools/install.sh tools/
RUN ["sh", "tools/install.sh", "locked", "/opt/rescue-cds"]
COPY pyproject.toml README.md LICENSE ./
COPY app app/
COPY cds_hooks cds_hooks/
COPY fhir_mappings fhir_mappings/
RUN ["sh", "tools/install.sh", "project", "/opt/rescue-cds"]

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="rescue-cds" \
      org.opencontainers.image.description="CDS Hooks service for the anakinra + ruxolitinib rescue protocols" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/rescue-cds/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# A fixed id, so that a mounted volume can be given to it; owns nothing but the database directory.
RUN groupadd --system --gid 10001 rescue-cds \
    && useradd --system --uid 10001 --gid rescue-cds --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin rescue-cds \
    && install --directory --owner=rescue-cds --group=rescue-cds --mode=0700 /var/lib/rescue-cds \
    && install --directory --mode=0755 /etc/rescue-cds
COPY --from=builder /opt/rescue-cds /opt/rescue-cds
USER 10001:10001
# A database file without a directory in its name lands in the volume.
WORKDIR /var/lib/rescue-cds
VOLUME /var/lib/rescue-cds
EXPOSE 8000
# The operators' port, on loopback unless [admin] of the configuration says otherwise. Probes from outside the container
# need host = "0.0.0.0" there, and a network that lets nobody else reach it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8001/readyz', timeout=4).read()"]
# The configuration is mounted at /etc/rescue-cds/config.toml: clients, FHIR servers, time zone, database.
CMD ["rescue-cds", "serve", "--host", "0.0.0.0", "--port", "8000", "--config", "/etc/rescue-cds/config.toml"]
