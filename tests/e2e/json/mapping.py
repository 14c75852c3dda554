"""OTLP/JSON by way of Python's own protobuf JSON mapping.

OTLP changes that mapping in three points, which are put right on either side of it: ids are hex, enums are integers
and never names, and a key in snake_case is an unknown key. And what Python takes beyond what proto3's JSON allows is
refused here: lists and texts for messages, truth values for numbers, enums beyond 32 bits, noise in base64.
"""

import base64
import binascii
import json
import re

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
    scopes = [scope for part in resources(request) for scope in _only_list(part)]
    if not isinstance(request, ExportMetricsServiceRequest):
        return sum(len(_only_list(scope)) for scope in scopes)
    metrics = [metric for scope in scopes for metric in scope.metrics if metric.WhichOneof("data")]
    return sum(len(getattr(metric, metric.WhichOneof("data")).data_points) for metric in metrics)


def take_out_invalid(request):
    """Takes out the spans and log records whose ids are not valid, and the envelopes that this empties.

    Returns how many there were.
    """
    before = items(request)
    if not isinstance(request, ExportMetricsServiceRequest):
        _keep(request, _has_valid_ids)
    return before - items(request)


def _keep(message, valid):
    """Keeps the valid items of a request. Whether something of the message is left, or it was empty anyway."""
    if message.DESCRIPTOR.name in ("Span", "LogRecord"):
        return valid(message)
    children = _only_list(message)
    kept = [child for child in children if _keep(child, valid)]
    emptied = children and not kept
    del children[:]
    children.extend(kept)
    return not emptied


def _has_valid_ids(item):
    ids = [(item.trace_id, 16), (item.span_id, 8)]
    if item.DESCRIPTOR.name == "Span":
        return all(len(value) == size and any(value) for value, size in ids) and len(item.parent_span_id) in (0, 8)
    return all(len(value) in (0, size) for value, size in ids)


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
        elif not all(_is_proto3(field, value) for value in several):
            raise Refused(f"{key}: Python takes it, and proto3's JSON or OTLP's does not")
        if isinstance(values[key], list) != field.is_repeated and values[key] is not None:
            raise Refused(f"{key}: a list, or none, where it should not be")
        known[key] = several if isinstance(values[key], list) else several[0]
    return known


def _is_proto3(field, value):
    if isinstance(value, bool):
        return field.type == field.TYPE_BOOL
    if field.type == field.TYPE_ENUM and value is not None:
        return isinstance(value, (int, float)) and value % 1 == 0 and -(2**31) <= value < 2**31
    if field.type == field.TYPE_BYTES and isinstance(value, str):
        return re.fullmatch(r"[A-Za-z0-9+/_-]*={0,2}", value) is not None
    return True


def _base64(value):
    return base64.b64encode(binascii.unhexlify(value)).decode() if isinstance(value, str) else value


def _once(pairs):
    values = dict(pairs)
    if len(values) != len(pairs):
        raise Refused("a key is given twice")
    return values


def _no_constant(word):
    raise Refused(f"{word} is no JSON")
