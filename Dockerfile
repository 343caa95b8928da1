# One process, one port, one volume. Build: docker build -t fleetvisor .
# The base image is the index of python:3.11.16-slim-bookworm as of 2026-10-01. A tag moves, a digest does not; to take a
# newer one see docs/how-to/run-in-a-container.md.
FROM python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS base

FROM base AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock pyproject.toml README.md ./
COPY src ./src
COPY examples/firmware/*.elf ./examples/firmware/
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --no-cache-dir --require-hashes -r requirements-build.lock \
    && /opt/build/bin/python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /opt/wheels . \
    && python -m venv /opt/fleetvisor \
    && /opt/fleetvisor/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /opt/fleetvisor/bin/python -m pip install --no-cache-dir --no-index --no-deps /opt/wheels/*.whl

FROM base
RUN useradd --system --uid 10001 --home-dir /var/lib/fleetvisor --create-home fleetvisor
COPY --from=build /opt/fleetvisor /opt/fleetvisor
ENV PATH="/opt/fleetvisor/bin:${PATH}" PYTHONUNBUFFERED=1
USER 10001
VOLUME /var/lib/fleetvisor
EXPOSE 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s CMD ["fleetvisor", "doctor", "--data", "/var/lib/fleetvisor/data", "--quiet"]
ENTRYPOINT ["fleetvisor"]
CMD ["serve", "--data", "/var/lib/fleetvisor/data", "--host", "0.0.0.0"]
