"""OTLP/JSON by way of Python's own protobuf JSON mapping.

OTLP changes that mapping in three points, which are put right on either side of it: ids are hex, enums are integers
and never names, and a key in snake_case is an unknown key. And what Python takes beyond what proto3's JSON allows is
refused here: lists and texts for messages, truth values for numbers.
"""

import base64
import binascii
import json

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
IDS = {"traceId", "spanId", "parentSpanId"}


class Refused(Exception):
    """The text is no such request."""


def resources(request):
    """The `ResourceSpans`, `ResourceMetrics` or `ResourceLogs` of a request."""
    return getattr(request, request.DESCRIPTOR.fields[0].name)


def items(request):
    """How many spans, data points or log records a request holds. One without any is not passed on."""
    return sum(_items(scope) for part in resources(request) for scope in _only_list(part))


def _items(scope):
    found = _only_list(scope)
    if scope.DESCRIPTOR.name != "ScopeMetrics":
        return len(found)
    return sum(len(getattr(metric, metric.WhichOneof("data")).data_points) for metric in found if metric.WhichOneof("data"))


def _only_list(message):
    [field] = [field for field in message.DESCRIPTOR.fields if field.is_repeated]
    return getattr(message, field.name)


def write(message):
    """A message as the values that `json.dumps` takes."""
    return _with_hex_ids(json_format.MessageToDict(message, use_integers_for_enums=True), message.DESCRIPTOR)


def read(signal, text):
    """The request that some bytes of JSON are."""
    request = REQUESTS[signal]()
    try:
        values = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        return json_format.ParseDict(_proto3(values, request.DESCRIPTOR), request, ignore_unknown_fields=True)
    except (ValueError, TypeError, RecursionError, json_format.Error) as error:
        raise Refused(str(error)) from error


def children(values, descriptor):
    """Each known key with its field and its values, which are many if it is repeated."""
    fields = {field.json_name: field for field in descriptor.fields}
    for key, value in values.items():
        if key in fields:
            yield key, fields[key], value if isinstance(value, list) else [value]


def is_message(field):
    return field.type == field.TYPE_MESSAGE


def _with_hex_ids(values, descriptor):
    for key, field, several in list(children(values, descriptor)):
        if key in IDS:
            values[key] = base64.b64decode(values[key]).hex()
        elif is_message(field):
            for value in several:
                _with_hex_ids(value, field.message_type)
    return values


def _proto3(values, descriptor):
    if values is None:
        return None
    if not isinstance(values, dict):
        raise Refused(f"{descriptor.name} is no object")
    known = {}
    for key, field, several in children(values, descriptor):
        if is_message(field):
            several = [_proto3(value, field.message_type) for value in several]
        elif key in IDS:
            several = [_base64(value) for value in several]
        elif field.type == field.TYPE_ENUM and any(isinstance(value, str) for value in several):
            raise Refused(f"{key}: an enum is given by name")
        elif field.type != field.TYPE_BOOL and any(isinstance(value, bool) for value in several):
            raise Refused(f"{key}: a truth value is no number and no text")
        if isinstance(values[key], list) != field.is_repeated and values[key] is not None:
            raise Refused(f"{key}: a list, or none, where it should not be")
        known[key] = several if isinstance(values[key], list) else several[0]
    return known


def _base64(value):
    return base64.b64encode(binascii.unhexlify(value)).decode() if isinstance(value, str) else value


def _once(pairs):
    values = dict(pairs)
    if len(values) != len(pairs):
        raise Refused("a key is given twice")
    return values


def _no_constant(word):
    raise Refused(f"{word} is no JSON")
