//! Additions to a JSON file with comments, as text, so that comments, order and indentation stay as somebody wrote them.
//!
//! The parser says where an object's properties begin and end; an addition is spliced in before the first of them, and
//! taken out again by the same rule. The result is parsed again and compared, as for YAML.

use super::{Refusal, block};
use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{Object, ObjectProp, Value},
    common::Ranged,
    parse_to_ast, parse_to_serde_value,
};

type Json = serde_json::Value;

/// Comments and trailing commas, as editors take them in this file; nothing further from JSON.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Sets `key` in the object at the top-level property `group`, or at the top itself, unless it is there already.
///
/// # Errors
/// Why the text is not touched.
pub(super) fn add(text: &str, group: Option<&str>, key: &str, value: &Json) -> Result<String, Refusal> {
    let mut expected = parse(text)?;
    let tree = tree(text)?;
    let top = top(&tree)?;
    let holder = match group {
        None => top,
        Some(name) => match property(top, name).map(|found| &found.value) {
            Some(Value::Object(object)) => object,
            Some(_) => return Err(Refusal::Shape(name.to_owned())),
            None => return add(text, None, name, &serde_json::json!({ key: value })),
        },
    };
    if property(holder, key).is_some() {
        return Ok(text.to_owned());
    }
    let after = splice(text, holder, group.is_none(), key, value);
    let object = match group {
        None => expected.as_object_mut(),
        Some(name) => expected[name].as_object_mut(),
    };
    object.ok_or(Refusal::Changes)?.insert(key.to_owned(), value.clone());
    let is_expected = parse(&after).is_ok_and(|is| is == expected);
    is_expected.then_some(after).ok_or(Refusal::Changes)
}

/// Takes `key` out where it has this value, and `group` with it if nothing was in it but what was added with it.
///
/// # Errors
/// If the text cannot be parsed.
pub(super) fn remove(text: &str, group: Option<&str>, key: &str, value: &Json) -> Result<String, Refusal> {
    let tree = tree(text)?;
    let top = top(&tree)?;
    let Some(name) = group else {
        return Ok(cut(text, top, key, value).unwrap_or_else(|| text.to_owned()));
    };
    let Some(found) = property(top, name) else {
        return Ok(text.to_owned());
    };
    let Value::Object(holder) = &found.value else {
        return Ok(text.to_owned());
    };
    // As it was written when the group was not there: then the group goes as a whole.
    let alone = serde_json::json!({ key: value });
    let (newline, unit) = (block::newline(text), indentation(text, top).unwrap_or_default());
    if [rendered(&alone, &unit, newline), inline(&alone)].contains(&found.value.text(text).to_owned()) {
        return Ok(cut(text, top, name, &alone).unwrap_or_else(|| text.to_owned()));
    }
    Ok(cut(text, holder, key, value).unwrap_or_else(|| text.to_owned()))
}

/// `whole` in a file with nothing in it, as editors make them; none if there is something.
///
/// It ends without a newline, which tells it from a file that was not there before.
pub(super) fn fill(text: &str, whole: &str) -> Option<String> {
    is_blank(text).then(|| [text, whole.trim_end()].concat())
}

/// What was in the file before [`fill`], if nothing else is in it.
pub(super) fn unfilled(text: &str, whole: &str) -> Option<String> {
    let before = text.strip_suffix(whole.trim_end()).unwrap_or(text);
    is_blank(before).then(|| before.to_owned())
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// The text of a top-level property's value, and where it stands.
pub(super) fn value_at<'t>(text: &'t str, name: &str) -> Result<Option<(std::ops::Range<usize>, &'t str)>, Refusal> {
    let tree = tree(text)?;
    let found = property(top(&tree)?, name).map(|found| found.value.range());
    Ok(found.map(|range| (range.start..range.end, &text[range.start..range.end])))
}

/// The document as a value.
///
/// # Errors
/// If it is not one.
pub(super) fn parse(text: &str) -> Result<Json, Refusal> {
    let unparsable = |error: jsonc_parser::errors::ParseError| Refusal::Unparsable(error.to_string());
    let found: Option<Json> = parse_to_serde_value(text, &OPTIONS).map_err(unparsable)?;
    let found = found.unwrap_or_default();
    // Two properties of one name are one value to a parser, and nobody can say which one counts.
    is_unambiguous(&tree(text)?)
        .then_some(found)
        .ok_or(Refusal::Form("one of its properties is there twice"))
}

fn is_unambiguous(value: &Value<'_>) -> bool {
    match value {
        Value::Object(object) => object.properties.iter().enumerate().all(|(index, found)| {
            let earlier = &object.properties[..index];
            earlier.iter().all(|other| other.name.as_str() != found.name.as_str()) && is_unambiguous(&found.value)
        }),
        Value::Array(array) => array.elements.iter().all(is_unambiguous),
        _ => true,
    }
}

fn tree(text: &str) -> Result<Value<'_>, Refusal> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &OPTIONS)
        .map_err(|error| Refusal::Unparsable(error.to_string()))?;
    parsed
        .value
        .ok_or_else(|| Refusal::Unparsable("there is nothing in it".to_owned()))
}

fn top<'n, 'a>(tree: &'n Value<'a>) -> Result<&'n Object<'a>, Refusal> {
    match tree {
        Value::Object(object) => Ok(object),
        _ => Err(Refusal::Form("it is no object")),
    }
}

fn property<'n, 'a>(object: &'n Object<'a>, name: &str) -> Option<&'n ObjectProp<'a>> {
    object.properties.iter().find(|found| found.name.as_str() == name)
}

/// The blanks before the first property, if it stands on a line of its own.
fn indentation(text: &str, object: &Object<'_>) -> Option<String> {
    let first = object.properties.first()?.start();
    let line = text[..first].rfind('\n')? + 1;
    let blanks = &text[line..first];
    (line > object.start() && blanks.chars().all(|c| c == ' ' || c == '\t')).then(|| blanks.to_owned())
}

fn splice(text: &str, object: &Object<'_>, is_top: bool, key: &str, value: &Json) -> String {
    let newline = block::newline(text);
    let inside = object.start() + 1;
    let name = Json::from(key);
    let (at, added) = match (object.properties.first(), indentation(text, object)) {
        (Some(first), Some(blanks)) => {
            let value = if is_top {
                rendered(value, &blanks, newline)
            } else {
                inline(value)
            };
            match ends_line(&text[inside..]) {
                true => (inside, format!("{newline}{blanks}{name}: {value},")),
                // Something stands beside the brace, a comment perhaps, and is to stay there.
                false => (first.start(), format!("{name}: {value},{newline}{blanks}")),
            }
        }
        (Some(first), None) => (first.start(), format!("{name}: {}, ", inline(value))),
        (None, _) => (inside, format!("{name}: {}", inline(value))),
    };
    [&text[..at], &added, &text[at..]].concat()
}

/// The text without the property, undoing [`splice`]; none if there is none of this value.
fn cut(text: &str, object: &Object<'_>, key: &str, value: &Json) -> Option<String> {
    let found = property(object, key)?;
    if parse(found.value.text(text)).ok().as_ref() != Some(value) {
        return None;
    }
    let inside = object.start() + 1;
    let (mut start, mut end) = (found.start(), found.end());
    let others = object.properties.len() > 1;
    let own_line =
        text[inside..start].trim_start_matches('\r').starts_with('\n') && text[inside..start].trim().is_empty();
    let comma = text[end..].starts_with(',');
    if own_line && others {
        start = inside;
        end += usize::from(comma);
    } else if others {
        // Written before the next one, which then begins where this one did; or last, with the comma before it.
        let next = object.properties.iter().find(|other| other.start() > end);
        match next {
            Some(next) if text[end + 1..next.start()].trim().is_empty() => end = next.start(),
            _ => {
                end += usize::from(comma);
                let before = text[..start].trim_end();
                if !comma && before.ends_with(',') {
                    start = before.len() - 1;
                }
            }
        }
    } else {
        end += usize::from(comma);
    }
    Some([&text[..start], &text[end..]].concat())
}

/// Whether nothing but blanks stands before the end of this line.
fn ends_line(text: &str) -> bool {
    text.split('\n')
        .next()
        .is_some_and(|line| line.trim().is_empty() && text.len() > line.len())
}

/// On lines of its own, one step further in than `blanks`: at the top, that is one step itself.
fn rendered(value: &Json, blanks: &str, newline: &str) -> String {
    let Json::Object(entries) = value else {
        return value.to_string();
    };
    let lines: Vec<String> = entries
        .iter()
        .map(|(key, value)| format!("{blanks}{blanks}{}: {}", Json::from(key.as_str()), inline(value)))
        .collect();
    format!("{{{newline}{}{newline}{blanks}}}", lines.join(&[",", newline].concat()))
}

/// In one line.
fn inline(value: &Json) -> String {
    let Json::Object(entries) = value else {
        return value.to_string();
    };
    let entries: Vec<String> = entries
        .iter()
        .map(|(key, value)| format!("{}: {}", Json::from(key.as_str()), inline(value)))
        .collect();
    format!("{{ {} }}", entries.join(", "))
}
