"""An unmodified program with the OpenTelemetry SDK for Python; OTEL_* says where it sends."""

import sys

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

protocol, count = sys.argv[1], int(sys.argv[2])
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("e2e")
for number in range(count):
    with tracer.start_as_current_span("step", attributes={"number": number}):
        pass
provider.shutdown()
