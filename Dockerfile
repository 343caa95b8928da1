# One process, one port, one volume. Build: docker build -t fleetvisor .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md ./
COPY src ./src
COPY examples/firmware/*.elf ./examples/firmware/
RUN python -m venv /opt/fleetvisor \
    && /opt/fleetvisor/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /opt/fleetvisor/bin/python -m pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
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
