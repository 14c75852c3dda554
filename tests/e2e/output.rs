//! What the Collector wrote: one line of OTLP/JSON for each request that it took.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What came of one service.
#[derive(Debug, Default)]
pub struct Arrived {
    /// `traceId:spanId` of each span, as often as it came.
    pub spans: Vec<String>,
    /// The attribute `number` of each span and of each log record that has one.
    pub span_numbers: Vec<u64>,
    pub log_numbers: Vec<u64>,
    pub logs: u64,
    pub points: u64,
    /// The values of all points of the counter `steps`, added up.
    pub steps: f64,
    /// The string attributes of its resources.
    pub resources: BTreeSet<BTreeMap<String, String>>,
}

/// By `service.name`.
pub fn read(lines: &str) -> BTreeMap<String, Arrived> {
    let mut services: BTreeMap<String, Arrived> = BTreeMap::new();
    for line in lines.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        for (field, scopes, items) in [
            ("resourceSpans", "scopeSpans", "spans"),
            ("resourceMetrics", "scopeMetrics", "metrics"),
            ("resourceLogs", "scopeLogs", "logRecords"),
        ] {
            for part in list(&request[field]) {
                let resource = strings(&part["resource"]["attributes"]);
                let service = resource.get("service.name").cloned().unwrap_or_default();
                let arrived = services.entry(service).or_default();
                arrived.resources.insert(resource);
                for item in list(&part[scopes]).iter().flat_map(|scope| list(&scope[items])) {
                    match items {
                        "spans" => arrived.span(item),
                        "metrics" => arrived.metric(item),
                        _ => arrived.log(item),
                    }
                }
            }
        }
    }
    services
}

impl Arrived {
    fn span(&mut self, span: &Value) {
        self.spans.push(format!("{}:{}", span["traceId"], span["spanId"]));
        self.span_numbers.extend(number(span));
    }

    fn log(&mut self, record: &Value) {
        self.logs += 1;
        self.log_numbers.extend(number(record));
    }

    fn metric(&mut self, metric: &Value) {
        for kind in ["gauge", "sum", "histogram", "exponentialHistogram", "summary"] {
            for point in list(&metric[kind]["dataPoints"]) {
                self.points += 1;
                if metric["name"] == "steps" {
                    self.steps += point["asDouble"].as_f64().unwrap_or_default() + integer(&point["asInt"]);
                }
            }
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// 64-bit integers are strings in OTLP/JSON.
fn integer(value: &Value) -> f64 {
    value.as_str().map_or(0.0, |text| text.parse().unwrap())
}

fn number(item: &Value) -> Option<u64> {
    let value = &list(&item["attributes"])
        .iter()
        .find(|attribute| attribute["key"] == "number")?["value"];
    let number = value["doubleValue"].as_f64();
    Some(number.unwrap_or_else(|| integer(&value["intValue"])) as u64)
}

fn strings(attributes: &Value) -> BTreeMap<String, String> {
    let pair = |attribute: &Value| {
        let value = attribute["value"]["stringValue"].as_str()?;
        Some((attribute["key"].as_str()?.to_owned(), value.to_owned()))
    };
    list(attributes).iter().filter_map(pair).collect()
}
