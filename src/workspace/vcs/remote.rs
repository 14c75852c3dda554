//! The remote `origin`: found in git's configuration, said as a web address, with nothing secret left in it.
//!
//! Pure. The reader knows as much of git's configuration format as a URL needs; `include` and `insteadOf` are not
//! applied, as both would need files or rules from outside of the repository.

use url::Url;

/// A remote that is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Without user, password, query, fragment and `.git`; none if the remote is a directory of this machine.
    pub url: Option<String>,
    /// Whoever holds the repository: all of the path but its last part.
    pub owner: Option<String>,
    /// The last part of the path.
    pub name: String,
    /// By well-known host names only.
    pub provider: Option<&'static str>,
}

/// Hosts whose software is known, and the host names that the same services answer SSH under.
const PROVIDERS: [(&str, &str); 4] = [
    ("github.com", "github"),
    ("gitlab.com", "gitlab"),
    ("bitbucket.org", "bitbucket"),
    ("gitea.com", "gitea"),
];
const SSH_HOSTS: [(&str, &str); 3] = [
    ("ssh.github.com", "github.com"),
    ("altssh.gitlab.com", "gitlab.com"),
    ("altssh.bitbucket.org", "bitbucket.org"),
];

impl Remote {
    /// The remote `origin` of a `.git/config`.
    pub fn origin(config: &str) -> Option<Remote> {
        Remote::parse(&origin_url(config)?)
    }

    /// Reads a remote's URL in any of the forms that git takes (gitfaq and git-fetch, "GIT URLS").
    pub fn parse(text: &str) -> Option<Remote> {
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" | "ssh" | "git" | "git+ssh" | "ssh+git" => Remote::from_url(&Url::parse(text).ok()?),
                "file" => Remote::from_directory(Url::parse(text).ok()?.path()),
                _ => None,
            };
        }
        match scp_like(text) {
            Some((host, path)) => {
                Remote::from_url(&Url::parse(&format!("ssh://{host}/{}", path.trim_start_matches('/'))).ok()?)
            }
            None if text.contains('@') => None,
            None => Remote::from_directory(text),
        }
    }

    fn from_url(url: &Url) -> Option<Remote> {
        // Built up from the parts that are wanted rather than cleared of those that are not.
        let host = url.host_str()?.to_ascii_lowercase();
        let host = SSH_HOSTS
            .iter()
            .find(|(ssh, _)| *ssh == host)
            .map_or(host.as_str(), |(_, web)| web);
        let (scheme, port) = match url.scheme() {
            scheme @ ("http" | "https") => (scheme, url.port()),
            _ => ("https", None),
        };
        // A mirror's path holds another remote, perhaps with a password of its own.
        let path = Some(url.path()).filter(|path| !path.contains('@'))?.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // Azure DevOps has another path for SSH, and a mark before the repository's name for the web.
        let host = match parts.as_slice() {
            ["v3", organisation, project, name] if host == "ssh.dev.azure.com" => {
                parts = vec![organisation, project, "_git", name];
                "dev.azure.com"
            }
            _ => host,
        };
        let (name, owners) = parts.split_last()?;
        let owners: Vec<&str> = owners.iter().copied().filter(|owner| *owner != "_git").collect();
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(Remote {
            url: Some(format!("{scheme}://{host}{port}/{}", parts.join("/"))),
            owner: (!owners.is_empty()).then(|| owners.join("/")),
            name: (*name).to_owned(),
            provider: PROVIDERS
                .iter()
                .find(|(known, _)| *known == host)
                .map(|(_, provider)| *provider),
        })
    }

    /// A directory says where somebody keeps their files, which is nobody's business; its name is enough.
    fn from_directory(path: &str) -> Option<Remote> {
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/.git").unwrap_or(path);
        let name = path
            .rsplit('/')
            .next()
            .map(|name| name.strip_suffix(".git").unwrap_or(name))?;
        let is_name = !name.is_empty() && name != "." && name != "..";
        is_name.then(|| Remote {
            url: None,
            owner: None,
            name: name.to_owned(),
            provider: None,
        })
    }

    /// `vcs.repository.*`, `vcs.owner.name` and `vcs.provider.name` (semantic conventions, "VCS").
    pub(in crate::workspace) fn attributes(&self) -> Vec<(String, String)> {
        let pairs = [
            ("vcs.repository.url.full", self.url.as_deref()),
            ("vcs.repository.name", Some(self.name.as_str())),
            ("vcs.owner.name", self.owner.as_deref()),
            ("vcs.provider.name", self.provider),
        ];
        pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect()
    }
}

/// `[user@]host:path`, with no slash before the first colon; the user, and whatever else stands before the last `@`
/// of that part, is left out. With an `@` further on it is rather a URL that lacks a slash, and a user's password in it.
fn scp_like(text: &str) -> Option<(&str, &str)> {
    let before_slash = &text[..text.find('/').unwrap_or(text.len())];
    let text = &text[before_slash.rfind('@').map_or(0, |at| at + 1)..];
    let colon = match text.strip_prefix('[') {
        Some(rest) => rest.find("]:")? + 2,
        None => text.find(':')?,
    };
    let (host, path) = (&text[..colon], &text[colon + 1..]);
    let is_path = !path.is_empty() && !path.contains('@');
    (!host.is_empty() && !host.contains('/') && is_path).then_some((host, path))
}

/// The first `url` of `[remote "origin"]`: where there are several, git fetches from the first.
fn origin_url(config: &str) -> Option<String> {
    let mut in_origin = false;
    let mut lines = config.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.starts_with('[') {
            let (header, rest) = section(&line)?;
            in_origin = header;
            line = rest;
        }
        // A backslash at the end of a line goes on with the next one.
        while line.ends_with('\\') && !line.ends_with("\\\\") {
            line.pop();
            match lines.next() {
                Some(more) => line.push_str(more),
                None => break,
            }
        }
        if let (true, Some((key, text))) = (in_origin, line.split_once('='))
            && key.trim().eq_ignore_ascii_case("url")
        {
            return value(text);
        }
    }
    None
}

/// Whether a section's header is the origin's, and what stands after it on its line.
fn section(line: &str) -> Option<(bool, String)> {
    let mut quoted = false;
    let mut escaped = false;
    let end = line.char_indices().find_map(|(at, c)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => return Some(at),
            _ => {}
        }
        None
    })?;
    let header = line[1..end].trim();
    let is_origin = match header.split_once(char::is_whitespace) {
        Some((name, sub)) => name.eq_ignore_ascii_case("remote") && sub.trim() == "\"origin\"",
        // The old form, in which case does not count.
        None => header.eq_ignore_ascii_case("remote.origin"),
    };
    Some((is_origin, line[end + 1..].trim_start().to_owned()))
}

/// A value without its quotes, escapes, comment and outer blanks; none if it is malformed.
fn value(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut kept = 0;
    let mut quoted = false;
    let mut chars = text.trim_start().chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'b' => '\u{8}',
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
        if quoted || !c.is_whitespace() {
            kept = value.len();
        }
    }
    value.truncate(kept);
    (!quoted && !value.is_empty()).then_some(value)
}
