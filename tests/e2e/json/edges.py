"""What is easily read wrongly: each a few members of one message. What is right, Python's mapping says."""

SPAN, VALUE, POINT, HISTOGRAM, EXPONENTIAL, LOG, RESOURCE = range(7)

_ID = '"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"'
_METRIC = '{"resourceMetrics":[{"schemaUrl":"CASE","scopeMetrics":[{"metrics":[{"name":"m",%s}]}]}]}'
_AROUND = {
    SPAN: ("traces", '{"resourceSpans":[{"schemaUrl":"CASE","scopeSpans":[{"spans":[{' + _ID + ",%s}]}]}]}"),
    VALUE: (
        "traces",
        '{"resourceSpans":[{"schemaUrl":"CASE","scopeSpans":[{"spans":[{'
        + _ID
        + ',"attributes":[{"key":"k","value":%s}]}]}]}]}',
    ),
    POINT: ("metrics", _METRIC % '"gauge":{"dataPoints":[{%s}]}'),
    HISTOGRAM: ("metrics", _METRIC % '"histogram":{"dataPoints":[{%s}]}'),
    EXPONENTIAL: ("metrics", _METRIC % '"exponentialHistogram":{"dataPoints":[{%s}]}'),
    LOG: ("logs", '{"resourceLogs":[{"schemaUrl":"CASE","scopeLogs":[{"logRecords":[{%s}]}]}]}'),
    RESOURCE: (
        "traces",
        '{"resourceSpans":[{"schemaUrl":"CASE","scopeSpans":[{"spans":[{' + _ID + '}]}],"resource":%s}]}',
    ),
}

_EDGES = {
    SPAN: r"""
        "parentSpanId":"EEE19b7ec3c1B173"
        "parentSpanId":""
        "parentSpanId":"EEE19B7EC3C1B17"
        "parentSpanId":"zzz19b7ec3c1b173"
        "parentSpanId":"7uGbfsPBsXM="
        "parentSpanId":null
        "parentSpanId":7
        "links":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174"}]
        "kind":3
        "kind":3.0
        "kind":99
        "kind":-1
        "kind":2147483648
        "kind":"SPAN_KIND_CLIENT"
        "kind":"3"
        "kind":null
        "kind":true
        "status":{"code":2,"message":"m"}
        "status":{"code":"STATUS_CODE_ERROR"}
        "status":{}
        "status":null
        "status":[]
        "name":null
        "name":""
        "name":"\u00fc\ud83e\udd80\u0000\/\"\\"
        "name":"\ud800"
        "name":"\udc00\ud800"
        "name":"\x"
        "name":7
        "name":true
        "name":["a"]
        "name":"a","name":"b"
        "name":"a","new":{"name":[{"name":1}]},"newer":[[[{}]]],"newest":null
        "start_time_unix_nano":1,"dropped_attributes_count":"nonsense","end_time_unix_nano":{}
        "startTimeUnixNano":1544712660000000000,"endTimeUnixNano":"1544712661000000000"
        "startTimeUnixNano":1e18
        "startTimeUnixNano":"18446744073709551615"
        "startTimeUnixNano":18446744073709551615
        "startTimeUnixNano":"18446744073709551616"
        "startTimeUnixNano":-1
        "startTimeUnixNano":"-1"
        "startTimeUnixNano":1.5
        "startTimeUnixNano":"1.5"
        "startTimeUnixNano":""
        "startTimeUnixNano":"0x10"
        "startTimeUnixNano":"one"
        "startTimeUnixNano":" 1"
        "startTimeUnixNano":null
        "startTimeUnixNano":{}
        "startTimeUnixNano":01
        "startTimeUnixNano":+1
        "startTimeUnixNano":1.
        "startTimeUnixNano":.5
        "startTimeUnixNano":NaN
        "flags":4294967295
        "flags":"4294967295"
        "flags":4294967296
        "flags":-1
        "droppedLinksCount":"5"
        "attributes":null
        "attributes":[]
        "attributes":{}
        "attributes":[null]
        "attributes":[{}]
        "attributes":[{"key":null,"value":null}]
        "attributes":[{"key":"k"}],
        "attributes":[{"key":"k"},]
        "attributes":[{"key":"k"}]}
        "events":[{"name":"e","timeUnixNano":"1","attributes":[{"key":"k","value":{"intValue":1}}]}]
        /* no */"name":"a"
    """,
    VALUE: r"""
        null
        {}
        {"stringValue":""}
        {"stringValue":null}
        {"boolValue":false}
        {"boolValue":"true"}
        {"boolValue":1}
        {"intValue":"9223372036854775807"}
        {"intValue":9223372036854775807}
        {"intValue":"-9223372036854775808"}
        {"intValue":-9223372036854775808}
        {"intValue":9223372036854775808}
        {"intValue":0}
        {"intValue":-0}
        {"intValue":1.0}
        {"intValue":1.5}
        {"intValue":1e3}
        {"intValue":null}
        {"intValue":false}
        {"doubleValue":637.704}
        {"doubleValue":1}
        {"doubleValue":-0.0}
        {"doubleValue":12345678901234567890}
        {"doubleValue":1e-400}
        {"doubleValue":1e400}
        {"doubleValue":"1.5"}
        {"doubleValue":"1e5"}
        {"doubleValue":"NaN"}
        {"doubleValue":"Infinity"}
        {"doubleValue":"-Infinity"}
        {"doubleValue":"nothing"}
        {"doubleValue":""}
        {"doubleValue":null}
        {"doubleValue":true}
        {"doubleValue":NaN}
        {"doubleValue":Infinity}
        {"bytesValue":""}
        {"bytesValue":"+/8="}
        {"bytesValue":"-_8="}
        {"bytesValue":"-_8"}
        {"bytesValue":"+/8"}
        {"bytesValue":"AAECAwQ="}
        {"bytesValue":"A"}
        {"bytesValue":null}
        {"bytesValue":5}
        {"arrayValue":{}}
        {"arrayValue":null}
        {"arrayValue":{"values":null}}
        {"arrayValue":{"values":[{},{"stringValue":"a"},{"arrayValue":{"values":[{"intValue":"1"}]}}]}}
        {"arrayValue":{"values":[null]}}
        {"arrayValue":[{"intValue":1}]}
        {"kvlistValue":{"values":[{"key":"a","value":{"kvlistValue":{"values":[{"key":"b"}]}}}]}}
        {"kvlistValue":[{"key":"type","value":{"intValue":"0"}}]}
        {"stringValue":"a","intValue":1}
        {"stringValue":"a","intValue":null}
        {"stringValue":null,"intValue":"1"}
        {"string_value":"a"}
        {"stringValue":"a","string_value":"b"}
        "a"
        7
        []
    """,
    POINT: r"""
        "asDouble":"NaN"
        "asDouble":"Infinity"
        "asDouble":5
        "asDouble":null
        "asDouble":0
        "asInt":"5"
        "asInt":-5
        "asInt":0
        "asInt":1.5
        "asInt":1,"asDouble":1
        "exemplars":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","asDouble":"-Infinity"}]
        "exemplars":[{"filteredAttributes":[{"key":"k","value":{}}],"asInt":null}]
        "timeUnixNano":"1544712660300000000","flags":1
    """,
    HISTOGRAM: r"""
        "sum":"NaN","min":"-Infinity","max":"Infinity"
        "sum":0,"min":-0.0
        "sum":null
        "count":"3","bucketCounts":["1",1,"1"],"explicitBounds":[1,"2.5"]
        "count":3,"bucketCounts":[],"explicitBounds":null
        "bucketCounts":[null]
        "bucketCounts":["-1"]
        "bucketCounts":1
        "explicitBounds":["Infinity","-Infinity","NaN"]
    """,
    EXPONENTIAL: r"""
        "scale":-5,"positive":{"offset":-2147483648,"bucketCounts":["1",2]},"negative":{},"zeroThreshold":1e-9
        "scale":"2147483647","zeroCount":"18446744073709551615"
        "scale":2147483648
        "positive":null
    """,
    LOG: r"""
        "body":{}
        "body":null
        "body":"text"
        "body":{"kvlistValue":{"values":[{"key":"url","value":{"stringValue":"https://example.com"}}]}}
        "severityNumber":9,"severityText":"Information"
        "severityNumber":"SEVERITY_NUMBER_INFO"
        "traceId":"","spanId":""
        "traceId":null,"spanId":null
        "eventName":"browser.page_view","observedTimeUnixNano":"1544712660300000000"
    """,
    RESOURCE: r"""
        null
        {}
        {"attributes":null,"droppedAttributesCount":"2"}
        {"attributes":[{"key":"service.name","value":{"stringValue":"s"}}],"entityRefs":[{"type":"service","idKeys":["service.name"]}]}
        {"attributes":[{"key":"empty","value":{}}],"entityRefs":[{"idKeys":["empty"],"descriptionKeys":null,"schemaUrl":"https://example.com"}]}
        {"entityRefs":[{"idKeys":[null]}]}
        []
    """,
}

# Not what Python's mapping says, and right: proto3's JSON takes an integer in exponent form in a string, too.
LENIENT = {'"startTimeUnixNano":"1e3"': 1000, '"startTimeUnixNano":"1.50e1"': 15, '"startTimeUnixNano":"2.0"': 2}


def edges():
    """Signal and text of each; the text has CASE where the case goes."""
    for place, lines in _EDGES.items():
        signal, around = _AROUND[place]
        for line in filter(None, map(str.strip, lines.splitlines())):
            yield signal, around % line


def lenient():
    signal, around = _AROUND[SPAN]
    for line, nanos in LENIENT.items():
        yield signal, around % line, around % f'"startTimeUnixNano":{nanos}'


# No JSON, or no object; there is no place for a case in them.
BROKEN = [b"", b"null", b"[]", b'"x"', b"{", b"{}{}", b"\xef\xbb\xbf{}", b'{"resourceSpans":[{"schemaUrl":"\xff"}]}']
EMPTY = [b"{}", b' { "unknown" : 1 } ', b'{"resourceSpans":null}', b'{"resourceSpans":[]}']
