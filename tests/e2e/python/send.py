"""An unmodified program with the OpenTelemetry SDK for Python; OTEL_* says where it sends.

send.py COUNT PAUSE: so many spans, log records and increments of a counter, with so many seconds between them.
"""

import os
import sys
import time
from importlib.metadata import entry_points

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

count, pause = int(sys.argv[1]), float(sys.argv[2])
name = {
    "grpc": "otlp_proto_grpc",
    "http/protobuf": "otlp_proto_http",
    "http/json": "otlp_json_http",
}[os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"]]


def exporter(signal):
    [found] = entry_points(group=f"opentelemetry_{signal}_exporter", name=name)
    return found.load()()


tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(exporter("traces")))
loggers = LoggerProvider()
loggers.add_log_record_processor(BatchLogRecordProcessor(exporter("logs")))
meters = MeterProvider([PeriodicExportingMetricReader(exporter("metrics"))])

tracer, logger = tracers.get_tracer("e2e"), loggers.get_logger("e2e")
counter = meters.get_meter("e2e").create_counter("steps")
for number in range(count):
    with tracer.start_as_current_span("step", attributes={"number": number}):
        logger.emit(severity_number=SeverityNumber.INFO, body=f"step {number}", attributes={"number": number})
        counter.add(1)
    time.sleep(pause)
for provider in (tracers, loggers, meters):
    provider.shutdown()
