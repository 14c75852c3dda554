//! Additions to a YAML file, as text, so that comments, quotes and order stay as somebody wrote them.
//!
//! Where an addition goes is found by the parser's lines; whether it went there is found out by parsing again: the new
//! document must be the old one with exactly the addition in it, or the addition is refused. So a shape that was not
//! thought of costs a refusal and never a file. Files of several documents, and collections in flow style, are refused.

use super::{Refusal, block};
use saphyr::{LoadableYamlNode as _, MarkedYaml, YamlData};

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// What is added at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// An entry of the mapping there.
    Entry(&'a str),
    /// The first item of the sequence there.
    First,
    /// Its last item.
    Last,
}

type Node<'a> = MarkedYaml<'a>;

/// Steps by key alone.
pub(super) fn keys(names: &[&str]) -> Vec<Step> {
    names.iter().map(|name| Step::Key((*name).to_owned())).collect()
}

/// Every path that fits: a step that is none is any item of a sequence or any entry of a mapping.
pub(super) fn paths(text: &str, pattern: &[Option<&str>]) -> Result<Vec<Vec<Step>>, Refusal> {
    let mut found = Vec::new();
    if let Some(root) = document(text)? {
        walk(&root, pattern, &mut Vec::new(), &mut found);
    }
    Ok(found)
}

/// Whether a value holds what looks like our marks: then they are somebody's text, and what stands between them too. A
/// file that cannot be parsed has no values.
pub(super) fn marks_are_a_value(text: &str) -> bool {
    let other = block::with_other_marks(text);
    match (document(text), document(&other)) {
        (Ok(Some(one)), Ok(Some(other))) => !same(&one, &other),
        (Ok(one), Ok(other)) => one.is_some() != other.is_some(),
        _ => false,
    }
}

/// Adds `body`, the YAML of one value, in block style and without indentation.
///
/// # Errors
/// Why the text is not touched.
pub(super) fn add(text: &str, path: &[Step], what: What<'_>, body: &str) -> Result<String, Refusal> {
    let before = document(text)?;
    let lines = match what {
        What::Entry(key) => format!("{key}:\n{}", indented(body, "  ")),
        What::First | What::Last => item(body),
    };
    let last_line = text.split_inclusive('\n').count();
    let target = before.as_ref().and_then(|root| at(root, path));
    let after = match (target, path) {
        (Some(Found { node, key }), _) if !path.is_empty() => {
            let place = place(text, node, key, what, path)?;
            block::insert(text, place.line, place.indent, &lines)
        }
        // The whole document is the mapping, or what is to hold the addition is not there yet.
        (_, []) => block::insert(text, last_line, 0, &lines),
        (_, [Step::Key(name)]) => {
            let holder = format!("{name}:\n{}", indented(&lines, "  "));
            block::insert(text, last_line, 0, &holder)
        }
        (_, [above @ .., Step::Key(name)]) => return add(text, above, What::Entry(name), &lines),
        (_, [.., Step::Index(_)]) => return Err(shape(path)),
    };
    check(before, &after, path, what, body)?;
    Ok(after)
}

/// Where a block is inserted.
struct Place {
    line: usize,
    indent: usize,
}

struct Found<'n, 'a> {
    node: &'n Node<'a>,
    key: Option<&'n Node<'a>>,
}

fn place(text: &str, node: &Node<'_>, key: Option<&Node<'_>>, what: What<'_>, path: &[Step]) -> Result<Place, Refusal> {
    let key = key.ok_or_else(|| shape(path))?;
    let (key_line, key_column) = (key.span.start.line(), key.span.start.col());
    match (&node.data, what) {
        (data, _) if data.is_null() => Ok(Place {
            line: key_line,
            indent: key_column + 2,
        }),
        (YamlData::Mapping(entries), What::Entry(_)) => {
            let first = entries.keys().next().ok_or_else(|| shape(path))?;
            Ok(Place {
                line: key_line,
                indent: first.span.start.col(),
            })
        }
        (YamlData::Sequence(items), What::First | What::Last) => {
            let (Some(first), Some(last)) = (items.first(), items.last()) else {
                return Err(shape(path));
            };
            let (_, indent) = dash(text, first).ok_or_else(|| shape(path))?;
            let line = match what {
                What::Last => {
                    let (line, _) = dash(text, last).ok_or_else(|| shape(path))?;
                    end_of_item(text, line, indent)
                }
                _ => key_line,
            };
            Ok(Place { line, indent })
        }
        _ => Err(shape(path)),
    }
}

/// The line and the column of the dash before an item: on the line where the item begins, or on the one above, as of a
/// block of text the parser says where its first line is.
fn dash(text: &str, item: &Node<'_>) -> Option<(usize, usize)> {
    let lines = text.lines().enumerate().take(item.span.start.line());
    let written: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.trim().is_empty()).collect();
    written.iter().rev().take(2).find_map(|(number, line)| {
        let content = line.trim_start_matches(' ');
        let is_dashed = content.starts_with("- ") || content == "-";
        is_dashed.then_some((number + 1, line.len() - content.len()))
    })
}

/// The last line of the item that begins on `line`: what follows is its own as long as it is further in than its dash.
fn end_of_item(text: &str, line: usize, indent: usize) -> usize {
    let mut end = line;
    for (number, text) in text.lines().enumerate().skip(line) {
        let content = text.trim_start_matches(' ');
        if content.trim().is_empty() {
            continue;
        }
        if text.len() - content.len() <= indent {
            break;
        }
        end = number + 1;
    }
    end
}

/// Whether the new text is the old document with the addition, and nothing else.
fn check(before: Option<Node<'_>>, after: &str, path: &[Step], what: What<'_>, body: &str) -> Result<(), Refusal> {
    let is = document(after).map_err(|_| Refusal::Changes)?;
    let added = document(body)?.ok_or(Refusal::Changes)?;
    let mut expected = before.unwrap_or_else(empty);
    let mut node = &mut expected;
    for step in path {
        node = match step {
            Step::Index(index) => node.data.as_sequence_get_mut(*index).ok_or(Refusal::Changes)?,
            Step::Key(name) => {
                if node.data.is_null() {
                    *node = empty();
                }
                if !node.data.contains_mapping_key(name) {
                    let mapping = node.data.as_mapping_mut().ok_or(Refusal::Changes)?;
                    mapping.insert(text_node(name), empty());
                }
                node.data.as_mapping_get_mut(name).ok_or(Refusal::Changes)?
            }
        };
    }
    match what {
        What::Entry(key) => {
            if node.data.is_null() {
                *node = empty();
            }
            let mapping = node.data.as_mapping_mut().ok_or(Refusal::Changes)?;
            mapping.insert(text_node(key), added);
        }
        What::First | What::Last => {
            if node.data.is_null() || node.data.is_empty_collection() {
                node.data = YamlData::Sequence(Vec::new());
            }
            let items = node.data.as_sequence_mut().ok_or(Refusal::Changes)?;
            let at = if what == What::First { 0 } else { items.len() };
            items.insert(at, added);
        }
    }
    let is_expected = is.is_some_and(|is| same(&is, &expected));
    is_expected.then_some(()).ok_or(Refusal::Changes)
}

/// Whether two documents mean the same: the order of a mapping's entries says nothing.
fn same(left: &Node<'_>, right: &Node<'_>) -> bool {
    match (&left.data, &right.data) {
        (YamlData::Sequence(left), YamlData::Sequence(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (YamlData::Mapping(left), YamlData::Mapping(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        (YamlData::Tagged(tag, left), YamlData::Tagged(other, right)) => tag == other && same(left, right),
        (left, right) => left == right,
    }
}

/// The only document of a text; none if there is nothing in it.
fn document(text: &str) -> Result<Option<Node<'_>>, Refusal> {
    let mut documents = Node::load_from_str(text).map_err(|error| Refusal::Unparsable(error.to_string()))?;
    if documents.len() > 1 {
        return Err(Refusal::Form("it is a file of several documents"));
    }
    Ok(documents.pop().filter(|root| !root.data.is_null()))
}

fn at<'n, 'a>(root: &'n Node<'a>, path: &[Step]) -> Option<Found<'n, 'a>> {
    let mut found = Found { node: root, key: None };
    for step in path {
        found = match step {
            Step::Index(index) => Found {
                node: found.node.data.as_sequence_get(*index)?,
                key: None,
            },
            Step::Key(name) => {
                let mapping = found.node.data.as_mapping()?;
                let (key, node) = mapping.iter().find(|(key, _)| key.data.as_str() == Some(name))?;
                Found { node, key: Some(key) }
            }
        };
    }
    Some(found)
}

fn walk(node: &Node<'_>, pattern: &[Option<&str>], path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    let Some((step, rest)) = pattern.split_first() else {
        found.push(path.clone());
        return;
    };
    let mut visit = |step: Step, node: &Node<'_>| {
        path.push(step);
        walk(node, rest, path, found);
        path.pop();
    };
    match (step, &node.data) {
        (None, YamlData::Sequence(items)) => {
            for (index, item) in items.iter().enumerate() {
                visit(Step::Index(index), item);
            }
        }
        (_, YamlData::Mapping(entries)) => {
            for (key, value) in entries {
                if let Some(name) = key.data.as_str().filter(|name| step.is_none_or(|step| step == *name)) {
                    visit(Step::Key(name.to_owned()), value);
                }
            }
        }
        _ => {}
    }
}

fn shape(path: &[Step]) -> Refusal {
    let names: Vec<String> = path
        .iter()
        .map(|step| match step {
            Step::Key(name) => name.clone(),
            Step::Index(index) => index.to_string(),
        })
        .collect();
    Refusal::Shape(names.join("."))
}

fn empty<'a>() -> Node<'a> {
    YamlData::Mapping(saphyr::AnnotatedMapping::new()).into()
}

fn text_node<'a>(text: &str) -> Node<'a> {
    Node::scalar_from_string(text.to_owned())
}

fn item(body: &str) -> String {
    body.lines()
        .enumerate()
        .map(|(number, line)| format!("{}{line}\n", if number == 0 { "- " } else { "  " }))
        .collect()
}

fn indented(body: &str, blanks: &str) -> String {
    body.lines().map(|line| format!("{blanks}{line}\n")).collect()
}
