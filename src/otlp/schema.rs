//! The messages of OTLP 1.11 as tables: what [`check`](super::check) and [`json`](super::json) know of each field.
//!
//! Written down from the `.proto` files by hand, because generated types decode and drop what they do not know.
//! A field that is missing here is unknown, not wrong: it survives on the wire and is ignored in JSON (I1, J3).
//! Profiles are left out.

use super::Signal;

/// One message type. No `Debug`: the tables refer to each other in circles.
pub(crate) struct Message {
    fields: &'static [Field],
    /// Index into `fields` by field number, [`NONE`] where there is no such field.
    by_number: [u8; SLOTS],
}

/// One known field of a message.
pub(crate) struct Field {
    pub number: u32,
    /// The lowerCamelCase name (J4); the snake_case name is unknown on purpose.
    pub json: &'static str,
    pub kind: Kind,
    pub label: Label,
}

/// The type of a field.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Message(&'static Message),
    String,
    Bytes,
    /// Bytes that OTLP/JSON writes as hex (J1): trace and span ids.
    Id,
    Bool,
    Int32,
    Uint32,
    Int64,
    Uint64,
    /// Zigzag.
    Sint32,
    Enum,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
}

/// How often a field occurs, and whether its default value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// proto3's plain field: the default value is not written.
    Implicit,
    /// `optional`: a default value that was set is written.
    Optional,
    /// A member of the message's only `oneof`: as `Optional`, and at most one of them.
    Oneof,
    /// Packed, if scalar.
    Repeated,
}

/// One more than the highest known field number, `Span.flags`.
const SLOTS: usize = 17;
const NONE: u8 = u8::MAX;

impl Message {
    /// The field of that number, if it is known.
    #[inline(always)]
    pub(crate) fn field(&self, number: u32) -> Option<&'static Field> {
        let index = *self.by_number.get(number as usize)?;
        self.fields.get(usize::from(index))
    }

    /// The field of that JSON name, if it is known.
    pub(crate) fn field_by_name(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.json == name)
    }

    /// The `Export…ServiceRequest` of a signal.
    pub(crate) fn request(signal: Signal) -> &'static Message {
        match signal {
            Signal::Traces => &TRACES_REQUEST,
            Signal::Metrics => &METRICS_REQUEST,
            Signal::Logs => &LOGS_REQUEST,
        }
    }

    /// Whether this is `KeyValue`, wherever it stands.
    #[inline(always)]
    pub(crate) fn is_key_value(&self) -> bool {
        std::ptr::eq(self, &KEY_VALUE)
    }

    /// Whether this is `ArrayValue`, wherever it stands.
    pub(crate) fn is_array_value(&self) -> bool {
        std::ptr::eq(self, &ARRAY_VALUE)
    }

    /// The submessage type of a field that is known to be one.
    pub(crate) fn child(&self, number: u32) -> &'static Message {
        match self.field(number).map(|field| field.kind) {
            Some(Kind::Message(message)) => message,
            _ => unreachable!("the tables have a submessage at field {number}"),
        }
    }
}

const fn index(numbers: &[usize]) -> [u8; SLOTS] {
    let mut by_number = [NONE; SLOTS];
    let mut at = 0;
    while at < numbers.len() {
        by_number[numbers[at]] = at as u8;
        at += 1;
    }
    by_number
}

/// `MESSAGE { number jsonName: Kind Label, … }` becomes a static of that name; `Kind` may be `[OTHER]` for a submessage.
macro_rules! messages {
    ($($message:ident { $($number:literal $json:ident: $kind:tt $label:ident),* $(,)? })*) => {
        $(static $message: Message = Message {
            fields: &[$(Field {
                number: $number,
                json: stringify!($json),
                kind: messages!(@kind $kind),
                label: Label::$label,
            }),*],
            by_number: index(&[$($number),*]),
        };)*
    };
    (@kind [$message:ident]) => { Kind::Message(&$message) };
    (@kind $kind:ident) => { Kind::$kind };
}

messages! {
    // collector/*/v1/*_service.proto
    TRACES_REQUEST { 1 resourceSpans: [RESOURCE_SPANS] Repeated }
    METRICS_REQUEST { 1 resourceMetrics: [RESOURCE_METRICS] Repeated }
    LOGS_REQUEST { 1 resourceLogs: [RESOURCE_LOGS] Repeated }

    // common/v1/common.proto, resource/v1/resource.proto
    ANY_VALUE {
        1 stringValue: String Oneof,
        2 boolValue: Bool Oneof,
        3 intValue: Int64 Oneof,
        4 doubleValue: Double Oneof,
        5 arrayValue: [ARRAY_VALUE] Oneof,
        6 kvlistValue: [KEY_VALUE_LIST] Oneof,
        7 bytesValue: Bytes Oneof,
        8 stringValueStrindex: Int32 Oneof,
    }
    ARRAY_VALUE { 1 values: [ANY_VALUE] Repeated }
    KEY_VALUE_LIST { 1 values: [KEY_VALUE] Repeated }
    KEY_VALUE { 1 key: String Implicit, 2 value: [ANY_VALUE] Implicit, 3 keyStrindex: Int32 Implicit }
    SCOPE {
        1 name: String Implicit,
        2 version: String Implicit,
        3 attributes: [KEY_VALUE] Repeated,
        4 droppedAttributesCount: Uint32 Implicit,
    }
    ENTITY_REF {
        1 schemaUrl: String Implicit,
        2 type: String Implicit,
        3 idKeys: String Repeated,
        4 descriptionKeys: String Repeated,
    }
    RESOURCE {
        1 attributes: [KEY_VALUE] Repeated,
        2 droppedAttributesCount: Uint32 Implicit,
        3 entityRefs: [ENTITY_REF] Repeated,
    }

    // trace/v1/trace.proto
    RESOURCE_SPANS { 1 resource: [RESOURCE] Implicit, 2 scopeSpans: [SCOPE_SPANS] Repeated, 3 schemaUrl: String Implicit }
    SCOPE_SPANS { 1 scope: [SCOPE] Implicit, 2 spans: [SPAN] Repeated, 3 schemaUrl: String Implicit }
    SPAN {
        1 traceId: Id Implicit,
        2 spanId: Id Implicit,
        3 traceState: String Implicit,
        4 parentSpanId: Id Implicit,
        5 name: String Implicit,
        6 kind: Enum Implicit,
        7 startTimeUnixNano: Fixed64 Implicit,
        8 endTimeUnixNano: Fixed64 Implicit,
        9 attributes: [KEY_VALUE] Repeated,
        10 droppedAttributesCount: Uint32 Implicit,
        11 events: [EVENT] Repeated,
        12 droppedEventsCount: Uint32 Implicit,
        13 links: [LINK] Repeated,
        14 droppedLinksCount: Uint32 Implicit,
        15 status: [STATUS] Implicit,
        16 flags: Fixed32 Implicit,
    }
    EVENT {
        1 timeUnixNano: Fixed64 Implicit,
        2 name: String Implicit,
        3 attributes: [KEY_VALUE] Repeated,
        4 droppedAttributesCount: Uint32 Implicit,
    }
    LINK {
        1 traceId: Id Implicit,
        2 spanId: Id Implicit,
        3 traceState: String Implicit,
        4 attributes: [KEY_VALUE] Repeated,
        5 droppedAttributesCount: Uint32 Implicit,
        6 flags: Fixed32 Implicit,
    }
    STATUS { 2 message: String Implicit, 3 code: Enum Implicit }

    // logs/v1/logs.proto
    RESOURCE_LOGS { 1 resource: [RESOURCE] Implicit, 2 scopeLogs: [SCOPE_LOGS] Repeated, 3 schemaUrl: String Implicit }
    SCOPE_LOGS { 1 scope: [SCOPE] Implicit, 2 logRecords: [LOG_RECORD] Repeated, 3 schemaUrl: String Implicit }
    LOG_RECORD {
        1 timeUnixNano: Fixed64 Implicit,
        2 severityNumber: Enum Implicit,
        3 severityText: String Implicit,
        5 body: [ANY_VALUE] Implicit,
        6 attributes: [KEY_VALUE] Repeated,
        7 droppedAttributesCount: Uint32 Implicit,
        8 flags: Fixed32 Implicit,
        9 traceId: Id Implicit,
        10 spanId: Id Implicit,
        11 observedTimeUnixNano: Fixed64 Implicit,
        12 eventName: String Implicit,
    }

    // metrics/v1/metrics.proto
    RESOURCE_METRICS { 1 resource: [RESOURCE] Implicit, 2 scopeMetrics: [SCOPE_METRICS] Repeated, 3 schemaUrl: String Implicit }
    SCOPE_METRICS { 1 scope: [SCOPE] Implicit, 2 metrics: [METRIC] Repeated, 3 schemaUrl: String Implicit }
    METRIC {
        1 name: String Implicit,
        2 description: String Implicit,
        3 unit: String Implicit,
        5 gauge: [GAUGE] Oneof,
        7 sum: [SUM] Oneof,
        9 histogram: [HISTOGRAM] Oneof,
        10 exponentialHistogram: [EXPONENTIAL_HISTOGRAM] Oneof,
        11 summary: [SUMMARY] Oneof,
        12 metadata: [KEY_VALUE] Repeated,
    }
    GAUGE { 1 dataPoints: [NUMBER_DATA_POINT] Repeated }
    SUM { 1 dataPoints: [NUMBER_DATA_POINT] Repeated, 2 aggregationTemporality: Enum Implicit, 3 isMonotonic: Bool Implicit }
    HISTOGRAM { 1 dataPoints: [HISTOGRAM_DATA_POINT] Repeated, 2 aggregationTemporality: Enum Implicit }
    EXPONENTIAL_HISTOGRAM {
        1 dataPoints: [EXPONENTIAL_HISTOGRAM_DATA_POINT] Repeated,
        2 aggregationTemporality: Enum Implicit,
    }
    SUMMARY { 1 dataPoints: [SUMMARY_DATA_POINT] Repeated }
    NUMBER_DATA_POINT {
        2 startTimeUnixNano: Fixed64 Implicit,
        3 timeUnixNano: Fixed64 Implicit,
        4 asDouble: Double Oneof,
        5 exemplars: [EXEMPLAR] Repeated,
        6 asInt: Sfixed64 Oneof,
        7 attributes: [KEY_VALUE] Repeated,
        8 flags: Uint32 Implicit,
    }
    HISTOGRAM_DATA_POINT {
        2 startTimeUnixNano: Fixed64 Implicit,
        3 timeUnixNano: Fixed64 Implicit,
        4 count: Fixed64 Implicit,
        5 sum: Double Optional,
        6 bucketCounts: Fixed64 Repeated,
        7 explicitBounds: Double Repeated,
        8 exemplars: [EXEMPLAR] Repeated,
        9 attributes: [KEY_VALUE] Repeated,
        10 flags: Uint32 Implicit,
        11 min: Double Optional,
        12 max: Double Optional,
    }
    EXPONENTIAL_HISTOGRAM_DATA_POINT {
        1 attributes: [KEY_VALUE] Repeated,
        2 startTimeUnixNano: Fixed64 Implicit,
        3 timeUnixNano: Fixed64 Implicit,
        4 count: Fixed64 Implicit,
        5 sum: Double Optional,
        6 scale: Sint32 Implicit,
        7 zeroCount: Fixed64 Implicit,
        8 positive: [BUCKETS] Implicit,
        9 negative: [BUCKETS] Implicit,
        10 flags: Uint32 Implicit,
        11 exemplars: [EXEMPLAR] Repeated,
        12 min: Double Optional,
        13 max: Double Optional,
        14 zeroThreshold: Double Implicit,
    }
    BUCKETS { 1 offset: Sint32 Implicit, 2 bucketCounts: Uint64 Repeated }
    SUMMARY_DATA_POINT {
        2 startTimeUnixNano: Fixed64 Implicit,
        3 timeUnixNano: Fixed64 Implicit,
        4 count: Fixed64 Implicit,
        5 sum: Double Implicit,
        6 quantileValues: [VALUE_AT_QUANTILE] Repeated,
        7 attributes: [KEY_VALUE] Repeated,
        8 flags: Uint32 Implicit,
    }
    VALUE_AT_QUANTILE { 1 quantile: Double Implicit, 2 value: Double Implicit }
    EXEMPLAR {
        2 timeUnixNano: Fixed64 Implicit,
        3 asDouble: Double Oneof,
        4 spanId: Id Implicit,
        5 traceId: Id Implicit,
        6 asInt: Sfixed64 Oneof,
        7 filteredAttributes: [KEY_VALUE] Repeated,
    }
}
