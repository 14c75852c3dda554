"""Requests that are made up at random from the messages' descriptors, and the many ways to write one as JSON."""

import json
import math

import mapping

TEXTS = [
    "", "a", "service", "über", "\u6f22\u5b57", "\U0001f980", 'quote " and \\ backslash', "/\b\f\n\r\t", "\u0000\u001f",
    "\u007f\u2028\ufeff", "null", "NaN", "1e3", "x" * 300,
]
DOUBLES = [
    0.0, -0.0, 1.0, -1.5, 0.1, 1 / 3, 637.704, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2.0**53 + 2,
    123456789012345680.0, math.inf, -math.inf, math.nan,
]  # fmt: skip


# What may stand anywhere in a text that somebody wrote by hand.
STRAYS = [
    None, True, False, 0, 1, -1, 1.5, 1e3, 2**31, 2**32, 2**63, 2**64, "", "0", "1", "-1", "1.5", "x", "NaN", "Infinity",
    "-Infinity", "5b8efff798038103d269b633813fc60c", "5B8EFFF798038103", "AAECAwQ=", "====", [], {}, [[]], [None], [{}],
    ["a"], [1], {"a": 1}, {"values": []}, {"stringValue": "s"}, {"key": "k"},
]  # fmt: skip


class Generator:
    def __init__(self, random):
        self.random = random

    def request(self, signal, case):
        """A request whose resources all say that they belong to this case."""
        request = mapping.REQUESTS[signal]()
        while not mapping.items(request):
            request.Clear()
            for _ in range(self.random.randint(1, 3)):
                part = mapping.resources(request).add()
                self.fill(part, 0)
                part.schema_url = case
        return request

    def fill(self, message, depth):
        taken = set()
        for field in message.DESCRIPTOR.fields:
            oneof = field.containing_oneof
            # A proto3 optional is a oneof of its own.
            if oneof and len(oneof.fields) > 1:
                if oneof.name in taken or self.random.random() < 1 / 2:
                    continue
                taken.add(oneof.name)
            if field.json_name in mapping.IDS:
                setattr(message, field.name, self.id(message, field))
            elif self.random.random() < 0.75 and depth < 12:
                self.field(message, field, depth)
        if message.DESCRIPTOR.name == "Resource":
            # Keys are unique in a resource, and those of its entities are there.
            del message.entity_refs[:]
            for number, attribute in enumerate(message.attributes):
                attribute.key = f"key {number}"
                message.entity_refs.add(type="thing", id_keys=[attribute.key])

    def field(self, message, field, depth):
        if field.is_repeated:
            values = getattr(message, field.name)
            # Wide at the top, narrow where nests nest.
            for _ in range(self.random.randint(0, 3 if depth < 5 else 1)):
                if mapping.is_message(field):
                    self.fill(values.add(), depth + 1)
                else:
                    values.append(self.scalar(field))
        elif mapping.is_message(field):
            child = getattr(message, field.name)
            child.SetInParent()
            self.fill(child, depth + 1)
        else:
            setattr(message, field.name, self.scalar(field))

    def scalar(self, field):
        pick = self.random.choice
        match field.cpp_type:
            case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
                return self.random.randbytes(pick([0, 1, 2, 3, 4, 50]))
            case field.CPPTYPE_STRING:
                return pick(TEXTS)
            case field.CPPTYPE_BOOL:
                return pick([False, True])
            case field.CPPTYPE_DOUBLE:
                return pick([*DOUBLES, self.random.uniform(-1e6, 1e6)])
            case field.CPPTYPE_ENUM:
                return pick([*field.enum_type.values_by_number, 99, -1])
            case field.CPPTYPE_INT32:
                return pick([0, 1, -1, 2**31 - 1, -(2**31)])
            case field.CPPTYPE_UINT32:
                return pick([0, 1, 255, 2**32 - 1])
            case field.CPPTYPE_INT64:
                return pick([0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
            case field.CPPTYPE_UINT64:
                return pick([0, 1, 2**53 + 1, 2**64 - 1, 1544712660000000000])

    def id(self, message, field):
        size = 16 if field.name == "trace_id" else 8
        must = message.DESCRIPTOR.name == "Span" and field.name != "parent_span_id"
        if must or self.random.random() < 1 / 2:
            return self.random.randbytes(size - 1) + b"\x01"
        return b""

    def write_strange(self, request):
        """The request as JSON with one value replaced, by one that may be of another type.

        Resources are left as they are: the agent rewrites them, and a case is told by them.
        """
        values = mapping.write(request)
        scopes = [part[key] for part in next(iter(values.values())) for key in part if key.startswith("scope")]
        holder, key = self.random.choice(list(_places(scopes)))
        holder[key] = self.random.choice(STRAYS)
        return json.dumps(values).encode()

    def write(self, request):
        """The request as JSON, in one of the ways that a receiver has to take."""
        values = mapping.write(request)
        if self.random.random() < 0.8:
            values = self.vary(values, request.DESCRIPTOR)
        indent, plain = self.random.choice([None, None, 2, "\t"]), self.random.random() < 1 / 2
        return json.dumps(values, ensure_ascii=plain, indent=indent).encode()

    def vary(self, values, descriptor):
        for key, field, several in list(mapping.children(values, descriptor)):
            if mapping.is_message(field):
                several = [self.vary(value, field.message_type) for value in several]
            else:
                several = [self.another_way(key, field, value) for value in several]
            values[key] = several if isinstance(values[key], list) else several[0]
        unset = [field.json_name for field in descriptor.fields if field.json_name not in values]
        values.update((key, None) for key in unset if self.random.random() < 0.2)
        if self.random.random() < 0.3:
            values["unknown"] = self.random.choice([None, 1, "x", [[], {}], {"deep": {"er": [1, None]}}])
            values["dropped_attributes_count"] = "not looked at"
        pairs = list(values.items())
        self.random.shuffle(pairs)
        return dict(pairs)

    def another_way(self, key, field, value):
        if self.random.random() < 1 / 2:
            return value
        if key in mapping.IDS:
            return value.upper()
        if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            return int(value)
        if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32):
            return str(value)
        if field.type == field.TYPE_DOUBLE and not isinstance(value, str):
            return repr(value)
        if field.type == field.TYPE_BYTES:
            return value.rstrip("=").replace("+", "-").replace("/", "_")
        return value


def _places(values):
    """Every value in a tree, as what holds it and where."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in pairs:
        yield values, key
        if isinstance(value, (dict, list)):
            yield from _places(value)
