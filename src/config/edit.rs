//! Writing settings into the user's file: what somebody confirmed at `tagalong login` or says with `tagalong config set`
//! and `unset`, and nothing else ever.
//!
//! Comments, order and whatever else is in the file stay as they are. The file is replaced whole or not at all, and a
//! link is followed: people keep such files in repositories of their own.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, value};

use super::{ConfigError, Origin, settings::Settings, value::Value};
use crate::identity::keep::replace;

/// A setting's new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum New {
    /// Written as a string.
    Text(String),
    /// Written as an array of strings.
    List(Vec<String>),
    /// Written as a number.
    Number(i64),
    /// Written as true or false.
    Flag(bool),
    /// Written as an inline table of strings.
    Pairs(Vec<(String, String)>),
}

/// Why the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// By the file's path; also where it is no text.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, io::Error),
    /// By the file's path.
    #[error("{0} cannot be written: {1}")]
    Unwritable(String, io::Error),
    /// Its own words are not repeated: they quote the line, and a line may hold a secret.
    #[error("{0} is no valid TOML, so nothing is written into it")]
    Syntax(String),
}

/// A plain text as the new value of `key`, read and checked as a flag's is.
///
/// # Errors
/// There is no such setting, or it does not take this.
pub fn new(key: &str, text: &str) -> Result<New, ConfigError> {
    let mut settings = Settings::default();
    settings.read_plain(key, text, Origin::Flag);
    if let Some(error) = settings.errors.pop() {
        return Err(error);
    }
    Ok(match settings.get(key).value.clone() {
        Value::Flag(flag) => New::Flag(flag),
        // What is counted is counted in dozens.
        Value::Count(number) => New::Number(i64::try_from(number).unwrap_or(i64::MAX)),
        Value::List(items) => New::List(items),
        Value::Headers(pairs) => New::Pairs(pairs.into_iter().collect()),
        other => New::Text(other.render()),
    })
}

/// Sets `section.key`s in the file at `path`, which need not exist yet.
///
/// # Errors
/// The file is not readable, no TOML, or cannot be replaced.
pub fn set(path: &Path, changes: &[(&str, New)]) -> Result<(), EditError> {
    if let Some(directory) = path.parent() {
        let unwritable = |error| EditError::Unwritable(path.display().to_string(), error);
        fs::create_dir_all(directory).map_err(unwritable)?;
    }
    rewrite(path, |text| edited(text, changes).map(Some)).map(drop)
}

/// Takes `section.key` out of the file at `path`, with the comments above it, whether or not there is such a setting; and
/// says whether it was there.
///
/// # Errors
/// The file is not readable, no TOML, or cannot be replaced.
pub fn unset(path: &Path, key: &str) -> Result<bool, EditError> {
    rewrite(path, |text| without(text, key))
}

/// `edit` gives the new text, none within if nothing changes, and none at all if the text is no TOML.
fn rewrite(path: &Path, edit: impl FnOnce(&str) -> Option<Option<String>>) -> Result<bool, EditError> {
    let unreadable = |error| EditError::Unreadable(path.display().to_string(), error);
    let unwritable = |error| EditError::Unwritable(path.display().to_string(), error);
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(Path::new("/"));
    // Of several commands at once, each reads what the one before it wrote. Some file systems have no locks.
    let _turn = fs::File::open(directory).inspect(|directory| drop(directory.lock()));
    let (text, mode) = match fs::read_to_string(&target) {
        Ok(text) => (
            text,
            fs::metadata(&target).map_err(unreadable)?.permissions().mode() & 0o777,
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), 0o600),
        Err(error) => return Err(unreadable(error)),
    };
    let edited = edit(&text).ok_or_else(|| EditError::Syntax(path.display().to_string()))?;
    let Some(edited) = edited else { return Ok(false) };
    replace(&target, &edited, mode).map_err(unwritable)?;
    Ok(true)
}

/// The text without the key, none within if it has none; none at all if it is no TOML.
fn without(text: &str, key: &str) -> Option<Option<String>> {
    let mut document: DocumentMut = text.parse().ok()?;
    let removed = key.split_once('.').and_then(|(section, name)| {
        let table = document.get_mut(section)?.as_table_like_mut()?;
        table.remove(name)
    });
    Some(removed.map(|_| document.to_string()))
}

/// The text with the changes; none if it is no TOML, or a section is something else than a table.
fn edited(text: &str, changes: &[(&str, New)]) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    // Where there is nothing but comments, they stay at the top.
    let top = document
        .is_empty()
        .then(|| document.trailing().as_str().unwrap_or_default().to_owned());
    if let (Some(top), Some((key, _))) = (top, changes.first()) {
        let mut section = Table::new();
        section.decor_mut().set_prefix(top);
        document.insert(key.split_once('.')?.0, Item::Table(section));
        document.set_trailing("");
    }
    for (key, new) in changes {
        let (section, name) = key.split_once('.')?;
        let table = document
            .entry(section)
            .or_insert_with(|| Item::Table(Table::new()))
            .as_table_like_mut()?;
        let mut item = match new {
            New::Text(text) => value(text),
            New::List(items) => value(items.iter().collect::<Array>()),
            New::Number(number) => value(*number),
            New::Flag(flag) => value(*flag),
            New::Pairs(pairs) => value(pairs.iter().map(|(name, text)| (name, text)).collect::<InlineTable>()),
        };
        match table.get_mut(name) {
            // In its place: comments above and behind the old value are the new one's.
            Some(held) => {
                if let (Some(old), Some(new)) = (held.as_value(), item.as_value_mut()) {
                    *new.decor_mut() = old.decor().clone();
                }
                *held = item;
            }
            None => {
                table.insert(name, item);
            }
        }
    }
    Some(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> New {
        New::Text(value.to_owned())
    }

    #[test]
    fn comments_order_and_everything_else_stay() {
        let before = "# mine\n[spool]\nmax_bytes = \"2GiB\" # plenty\n\n[identity]\n# who\nissuer = \"https://old.example\" # ask ops\nattributes = \"none\"\n";
        let after = edited(
            before,
            &[
                ("identity.issuer", text("https://id.example")),
                (
                    "identity.scopes",
                    New::List(vec!["openid".to_owned(), "offline_access".to_owned()]),
                ),
                ("export.endpoint", text("https://otlp.example.com")),
            ],
        )
        .expect("TOML");
        assert_eq!(
            after,
            "# mine\n[spool]\nmax_bytes = \"2GiB\" # plenty\n\n[identity]\n# who\nissuer = \"https://id.example\" # ask ops\nattributes = \"none\"\nscopes = [\"openid\", \"offline_access\"]\n\n[export]\nendpoint = \"https://otlp.example.com\"\n"
        );
    }

    #[test]
    fn a_plain_text_is_written_as_the_file_wants_it() {
        for (key, text, line) in [
            (
                "export.endpoint",
                "https://otlp.example.com",
                "endpoint = \"https://otlp.example.com/\"",
            ),
            ("export.concurrency", "4", "concurrency = 4"),
            ("export.timeout", "10s", "timeout = \"10s\""),
            ("spool.max_bytes", "1GiB", "max_bytes = \"1GiB\""),
            ("listen.other_users", "yes", "other_users = true"),
            ("redact.keys", "*.password, card", "keys = [\"*.password\", \"card\"]"),
            ("export.headers", "x-team=blue", "headers = { x-team = \"blue\" }"),
        ] {
            let written = edited("", &[(key, new(key, text).expect(key))]).expect("TOML");
            let section = key.split_once('.').expect("a section").0;
            assert_eq!(written, format!("[{section}]\n{line}\n"));
            let mut settings = Settings::default();
            settings.read_plain(key, text, Origin::Flag);
            let plain = settings.get(key).value.clone();
            settings.read_file(&written, &Origin::Flag);
            assert_eq!(
                (settings.get(key).value.clone(), settings.errors),
                (plain, Vec::new()),
                "{key} is read back"
            );
        }
        assert!(new("export.timeout", "soon").is_err());
        assert!(new("export.endpiont", "https://otlp.example.com").is_err());
    }

    #[test]
    fn a_setting_that_is_taken_out_leaves_everything_else() {
        let before = "# mine\n[spool]\n# plenty\nmax_bytes = \"2GiB\" # for a week\n# soon\nmax_age = \"1d\"\n\n[export]\nendpiont = 1\n";
        let after = "# mine\n[spool]\n# soon\nmax_age = \"1d\"\n\n[export]\nendpiont = 1\n";
        assert_eq!(without(before, "spool.max_bytes"), Some(Some(after.to_owned())));
        assert_eq!(
            without(after, "export.endpiont"),
            Some(Some(after.replace("endpiont = 1\n", ""))),
            "no setting, and so in the way"
        );
        for absent in ["spool.max_bytes", "listen.grpc", "spool", "max_age"] {
            assert_eq!(without(after, absent), Some(None), "{absent}");
        }
        assert_eq!(without("[spool\n", "spool.dir"), None);
        let nowhere = tempfile::tempdir().expect("a directory");
        let path = nowhere.path().join("below/config.toml");
        assert!(!unset(&path, "spool.dir").expect("nothing to do") && !nowhere.path().join("below").exists());
    }

    #[test]
    fn what_is_no_toml_is_left_alone() {
        assert!(edited("[identity\n", &[("identity.issuer", text("x"))]).is_none());
        assert!(edited("identity = 1\n", &[("identity.issuer", text("x"))]).is_none());
    }

    #[test]
    fn a_link_is_followed_and_the_mode_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let (real, link) = (
            directory.path().join("dotfiles.toml"),
            directory.path().join("config.toml"),
        );
        fs::write(&real, "# kept\n").expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o666)).expect("mine");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        set(&link, &[("identity.credential", text("device"))]).expect("edited");
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert_eq!(
            fs::read_to_string(&real).expect("readable"),
            "# kept\n[identity]\ncredential = \"device\"\n"
        );
        assert_eq!(
            fs::metadata(&real).expect("it is there").permissions().mode() & 0o777,
            0o666,
            "whatever the umask"
        );
    }

    #[test]
    fn of_several_that_write_at_once_none_undoes_anothers() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tagalong").join("config.toml");
        let keys = [
            "export.endpoint",
            "export.ca_file",
            "identity.issuer",
            "identity.file",
            "spool.dir",
            "workspace.id",
        ];
        std::thread::scope(|scope| {
            for key in keys {
                scope.spawn(|| set(&path, &[(key, text("x"))]).expect("edited"));
            }
        });
        let written = fs::read_to_string(&path).expect("readable");
        assert_eq!(written.matches(" = \"x\"").count(), keys.len(), "{written}");
    }

    #[test]
    fn a_file_that_was_not_there_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tagalong").join("config.toml");
        set(&path, &[("identity.credential", text("device"))]).expect("edited");
        assert_eq!(
            fs::metadata(&path).expect("it is there").permissions().mode() & 0o777,
            0o600
        );
    }
}
