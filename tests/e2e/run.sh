#!/usr/bin/env bash
# The promises against real parts. Installs what it needs below target/e2e, starts everything on loopback.
set -euo pipefail
cd "$(dirname "$0")/../.."
parts=target/e2e
if [ ! -x "$parts/venv/bin/python" ]; then
    python3 -m venv "$parts/venv"
    "$parts/venv/bin/pip" install --quiet opentelemetry-sdk \
        opentelemetry-exporter-otlp-proto-grpc opentelemetry-exporter-otlp-proto-http
fi
E2E_PYTHON="$PWD/$parts/venv/bin/python" cargo test --test e2e
