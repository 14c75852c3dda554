//! Values of settings: what each kind of key takes, from TOML or from a plain string, and how it is shown again.
//!
//! Pure. Nothing here knows of keys or of where a value came from.

use crate::identity::web;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};
use url::Url;

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    /// A text of at least so many characters, or none.
    LongText(usize),
    /// The name of an environment variable.
    Variable,
    /// An absolute path.
    Path,
    Flag,
    Count(u64, u64),
    /// In bytes.
    Size(u64, u64),
    /// In milliseconds.
    Duration(u64, u64),
    Address,
    /// An IP address that others can reach, or "auto".
    Siblings,
    /// An OTLP endpoint.
    Endpoint,
    /// A URL that a secret may be sent to or come from.
    SecretUrl,
    /// One of these; the empty one stands for "not set" where it is among them.
    Choice(&'static [&'static str]),
    /// Separated by commas in plain strings.
    List,
    /// Origins of web pages.
    Origins,
    /// Regular expressions. A plain string is one of them: commas are common in patterns.
    Patterns,
    /// A program and its arguments.
    Command,
    /// HTTP header names and values.
    Headers,
    /// Names and values of a form.
    Parameters,
    /// RFC 6901.
    Pointer,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Empty: not set.
    Text(String),
    Flag(bool),
    Count(u64),
    Size(u64),
    Duration(Duration),
    Address(SocketAddr),
    Endpoint(Url),
    List(Vec<String>),
    Headers(BTreeMap<String, String>),
}

/// What is expected instead, as the end of a sentence.
pub(super) type Expected = String;

const KIB: u64 = 1024;
const SIZES: [(&str, u64); 5] = [
    ("TiB", KIB * KIB * KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("MiB", KIB * KIB),
    ("KiB", KIB),
    ("B", 1),
];
/// Longest suffix first among those that end alike.
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
];

impl Kind {
    /// Reads a plain string: a flag's or a variable's.
    pub(super) fn read_text(self, text: &str) -> Result<Value, Expected> {
        let text = text.trim();
        match self {
            Kind::Flag => match text {
                "true" | "1" | "yes" | "on" => Ok(Value::Flag(true)),
                "false" | "0" | "no" | "off" => Ok(Value::Flag(false)),
                _ => Err("true or false".into()),
            },
            Kind::Count(..) => self.count(text.parse().ok()),
            Kind::List | Kind::Origins | Kind::Patterns | Kind::Command => self.list(if text.starts_with('[') {
                toml_list(text).ok_or_else(|| self.expects())?
            } else if matches!(self, Kind::List | Kind::Origins) {
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect()
            } else if matches!(self, Kind::Command) && text.contains(char::is_whitespace) {
                // A whole command line: what it says of itself would show its arguments.
                return Err(self.expects());
            } else {
                Some(text)
                    .filter(|text| !text.is_empty())
                    .map(str::to_owned)
                    .into_iter()
                    .collect()
            }),
            Kind::Headers | Kind::Parameters => {
                let pairs = text
                    .split(',')
                    .map(str::trim)
                    .filter(|pair| !pair.is_empty())
                    .map(|pair| {
                        let (name, value) = pair.split_once('=')?;
                        Some((name.trim().to_owned(), value.trim().to_owned()))
                    });
                self.headers(pairs.collect::<Option<_>>().ok_or_else(|| self.expects())?)
            }
            _ => self.scalar(text),
        }
    }

    /// Reads a value of a file.
    pub(super) fn read_toml(self, value: &toml::Value) -> Result<Value, Expected> {
        let wrong = || self.expects();
        match (self, value) {
            (Kind::Flag, toml::Value::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Kind::Count(..), toml::Value::Integer(number)) => self.count(u64::try_from(*number).ok()),
            (Kind::Size(..), toml::Value::Integer(number)) => self.scalar(&number.to_string()),
            (Kind::List | Kind::Origins | Kind::Patterns | Kind::Command, toml::Value::Array(items)) => {
                self.list(texts(items).ok_or_else(wrong)?)
            }
            (Kind::Headers | Kind::Parameters, toml::Value::Table(table)) => {
                let pairs = table
                    .iter()
                    .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
                self.headers(pairs.collect::<Option<_>>().ok_or_else(wrong)?)
            }
            (
                Kind::Flag
                | Kind::Count(..)
                | Kind::List
                | Kind::Origins
                | Kind::Patterns
                | Kind::Command
                | Kind::Headers
                | Kind::Parameters,
                _,
            ) => Err(wrong()),
            (_, toml::Value::String(text)) => self.scalar(text.trim()),
            _ => Err(wrong()),
        }
    }

    /// What is expected, with an example where that says more.
    fn expects(self) -> Expected {
        match self {
            Kind::Text => "a text".into(),
            Kind::LongText(least) => format!("a text of at least {least} characters"),
            Kind::Variable => "the name of an environment variable".into(),
            Kind::Path => "an absolute path".into(),
            Kind::Flag => "true or false".into(),
            Kind::Count(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Size(least, most) => {
                format!(
                    "a size from {} to {}, such as 512KiB, 64MiB or 1GiB",
                    size(least),
                    size(most)
                )
            }
            Kind::Duration(least, most) => {
                let (least, most) = (
                    duration(Duration::from_millis(least)),
                    duration(Duration::from_millis(most)),
                );
                format!("a duration from {least} to {most}, such as 200ms, 10s or 1h")
            }
            Kind::Address => "an IP address and a port, such as 127.0.0.1:4317".into(),
            Kind::Siblings => {
                "\"auto\", or an IP address of this machine that is neither loopback nor unspecified".into()
            }
            Kind::Endpoint => "an http or https URL without user, password, query and fragment".into(),
            Kind::SecretUrl => {
                "an https URL without user, password and fragment; http to this machine or link only".into()
            }
            Kind::Choice(choices) => {
                let named: Vec<&str> = choices.iter().copied().filter(|choice| !choice.is_empty()).collect();
                format!("one of {}", named.join(", "))
            }
            Kind::List => "a list of texts".into(),
            Kind::Origins => "a list of origins, such as [\"http://localhost:3000\"]".into(),
            Kind::Patterns => "a list of regular expressions, such as [\"key-[0-9a-f]{8}\"]".into(),
            Kind::Command => {
                "a list of an absolute program and its arguments, such as [\"/usr/bin/mint\", \"--raw\"]".into()
            }
            Kind::Headers => "header names and their values, such as { x-team = \"blue\" }".into(),
            Kind::Parameters => "names and their values, such as { connector_id = \"github\" }".into(),
            Kind::Pointer => "a JSON pointer, such as /data/token".into(),
        }
    }

    /// As `tagalong config` shows it: of a command the program alone, because its arguments may hold what is secret.
    pub(super) fn render(self, value: &Value) -> String {
        match (self, value) {
            (Kind::Command, Value::List(items)) if items.len() > 1 => format!("[{:?}, …]", items[0]),
            _ => value.render(),
        }
    }

    fn scalar(self, text: &str) -> Result<Value, Expected> {
        let unset = || Value::Text(String::new());
        let set = || Value::Text(text.to_owned());
        let value = match self {
            Kind::Text => Some(set()),
            Kind::LongText(_)
            | Kind::Variable
            | Kind::Path
            | Kind::Endpoint
            | Kind::SecretUrl
            | Kind::Pointer
            | Kind::Siblings
                if text.is_empty() =>
            {
                Some(unset())
            }
            Kind::LongText(least) => (text.chars().count() >= least).then(set),
            Kind::Variable => (!text.contains('=') && !text.chars().any(char::is_whitespace)).then(set),
            Kind::Path => Path::new(text).is_absolute().then(set),
            Kind::Size(least, most) => parse_unit(text, &SIZES, Some(1))
                .filter(|bytes| (least..=most).contains(bytes))
                .map(Value::Size),
            Kind::Duration(least, most) => parse_unit(text, &DURATIONS, None)
                .filter(|millis| (least..=most).contains(millis))
                .map(|millis| Value::Duration(Duration::from_millis(millis))),
            Kind::Address => text.parse().ok().map(Value::Address),
            Kind::Siblings => (text == "auto" || is_reachable(text)).then(set),
            Kind::Endpoint => endpoint(text).map(Value::Endpoint),
            Kind::Pointer => text.starts_with('/').then(set),
            Kind::SecretUrl => secret_url(text).map(Value::Endpoint),
            Kind::Choice(choices) => choices.contains(&text).then(set),
            _ => None,
        };
        value.ok_or_else(|| self.expects())
    }

    fn count(self, number: Option<u64>) -> Result<Value, Expected> {
        match self {
            Kind::Count(least, most) => number
                .filter(|number| (least..=most).contains(number))
                .map(Value::Count),
            _ => None,
        }
        .ok_or_else(|| self.expects())
    }

    fn list(self, items: Vec<String>) -> Result<Value, Expected> {
        match self {
            Kind::Origins if !items.iter().all(|item| is_origin(item)) => Err(self.expects()),
            Kind::Command if items.first().is_some_and(|program| !Path::new(program).is_absolute()) => {
                Err(self.expects())
            }
            Kind::Patterns => match items
                .iter()
                .find_map(|item| Some((item, regex::Regex::new(item).err()?)))
            {
                Some((bad, error)) => {
                    // It draws the place first, in lines of its own; the reason comes last.
                    let error = error.to_string();
                    let why = error.rsplit("error: ").next().unwrap_or_default();
                    Err(format!("regular expressions, and {bad:?} is none: {why}"))
                }
                None => Ok(Value::List(items)),
            },
            _ => Ok(Value::List(items)),
        }
    }

    fn headers(self, pairs: Vec<(String, String)>) -> Result<Value, Expected> {
        let mut headers = BTreeMap::new();
        if matches!(self, Kind::Parameters) {
            let is_fine = pairs.iter().all(|(name, _)| !name.is_empty());
            return is_fine
                .then(|| Value::Headers(pairs.into_iter().collect()))
                .ok_or_else(|| self.expects());
        }
        for (name, value) in pairs {
            let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| self.expects())?;
            http::HeaderValue::from_str(&value).map_err(|_| self.expects())?;
            headers.insert(name.as_str().to_owned(), value);
        }
        Ok(Value::Headers(headers))
    }
}

impl Value {
    /// Whether this is an explicit "not set".
    pub(super) fn is_unset(&self) -> bool {
        match self {
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Headers(headers) => headers.is_empty(),
            _ => false,
        }
    }

    /// As it would be written in a file, but for texts, which stand without quotes. Whole: the caller masks.
    pub(super) fn render(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Flag(flag) => flag.to_string(),
            Value::Count(number) => number.to_string(),
            Value::Size(bytes) => size(*bytes),
            Value::Duration(span) => duration(*span),
            Value::Address(address) => address.to_string(),
            Value::Endpoint(url) => url.to_string(),
            Value::List(items) => format!("{items:?}"),
            Value::Headers(headers) => pairs(headers, |value| value),
        }
    }

    /// Like [`Value::render`], with the names of headers but with nothing else that may be secret.
    pub(super) fn render_masked(&self) -> String {
        match self {
            Value::Headers(headers) => pairs(headers, |_| "..."),
            value if value.is_unset() => String::new(),
            _ => "...".to_owned(),
        }
    }
}

/// A URL that an OTLP request may go to; none if it is not one.
pub(super) fn endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && !has_user(&url)
        && url.query().is_none()
        && url.fragment().is_none();
    is_plain.then_some(url)
}

/// Whether credentials stand before the host.
pub(super) fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// TLS, or an address that no packet leaves this machine or link for: there platforms serve tokens over plain HTTP.
fn secret_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.host_str().is_some_and(|host| !host.is_empty()) && !has_user(&url) && url.fragment().is_none();
    (is_plain && (url.scheme() == "https" || url.scheme() == "http" && web::is_near(&url))).then_some(url)
}

fn is_reachable(text: &str) -> bool {
    let address: Option<IpAddr> = text.parse().ok();
    address.is_some_and(|address| !address.to_canonical().is_loopback() && !address.is_unspecified())
}

fn is_origin(text: &str) -> bool {
    let known = |url: &Url| url.host_str().is_some() && matches!(url.path(), "" | "/") && url.query().is_none();
    text == "*" || (!text.ends_with('/') && Url::parse(text).is_ok_and(|url| known(&url)))
}

fn parse_unit(text: &str, units: &[(&str, u64)], plain: Option<u64>) -> Option<u64> {
    let (number, factor) = match units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
    {
        Some((number, factor)) => (number.trim_end(), factor),
        None => (text, plain?),
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse::<u64>().ok()?.checked_mul(factor))?
}

/// A duration as settings and flags write it: `200ms`, `10s`, `1h`. None if it is no duration.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_unit(text, &DURATIONS, None).map(Duration::from_millis)
}

fn toml_list(text: &str) -> Option<Vec<String>> {
    let table: toml::Table = format!("list = {text}").parse().ok()?;
    texts(table.get("list")?.as_array()?)
}

fn texts(items: &[toml::Value]) -> Option<Vec<String>> {
    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

fn size(bytes: u64) -> String {
    match SIZES
        .iter()
        .find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor))
    {
        Some((unit, factor)) if *factor > 1 => format!("{}{unit}", bytes / factor),
        _ => bytes.to_string(),
    }
}

fn duration(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let largest = DURATIONS
        .iter()
        .filter(|(_, factor)| millis != 0 && millis.is_multiple_of(*factor))
        .max_by_key(|unit| unit.1);
    largest.map_or_else(
        || format!("{millis}ms"),
        |(unit, factor)| format!("{}{unit}", millis / factor),
    )
}

fn pairs<'a>(headers: &'a BTreeMap<String, String>, show: impl Fn(&'a str) -> &'a str) -> String {
    headers.iter().fold(String::new(), |mut line, (name, value)| {
        let comma = if line.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(line, "{comma}{name}={}", show(value));
        line
    })
}
