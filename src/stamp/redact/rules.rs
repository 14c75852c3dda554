//! What is a secret: the built-in tables, and the user's own rules.
//!
//! Every built-in pattern works on bytes (`(?-u)`), because bytes values are searched too. Each either matches ASCII
//! only or runs up to an ASCII byte, so that no character of a string is ever cut in two.

use std::{borrow::Cow, ops::Range};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use regex::bytes::{Captures, Regex};

use super::{BadRule, REDACTED};

/// One pattern. If a group named `secret` (or one of the other [`GROUPS`]) matches, only that is replaced, else all.
pub(super) struct Pattern {
    pub(super) expression: &'static str,
    /// Of what the expression matches, what really is a secret.
    is_secret: fn(&[u8]) -> bool,
}

const fn pattern(expression: &'static str) -> Pattern {
    Pattern {
        expression,
        is_secret: |_| true,
    }
}

/// The groups that say which part of a match is the secret.
const GROUPS: [&str; 3] = ["secret", "quoted", "single"];

/// A value in a shell's, URL's or connection string's assignment: up to what ends one, or quoted.
/// A backslash ends it only where it escapes a quote or a line break of the text around.
macro_rules! assigned {
    ($($before:tt)+) => {
        concat!(
            "(?i-u)",
            $($before)+,
            r#"(?:"(?P<quoted>[^"]+)"|'(?P<single>[^']+)'|(?P<secret>(?:[^\s&;"'<>\\`]|\\[^"'nrt\x80-\xff])+))"#
        )
    };
}

/// An option of a command whose value, if not behind a `=`, is the next word.
macro_rules! option {
    () => {
        "--?(?:[a-z0-9]+-)*(?:password|passwd|passphrase|secret|token|api-?key|private-key|secret-key)"
    };
}

/// Secrets that are known by their shape or by what stands before them, wherever they are in a string.
/// Wider shapes come last: what an earlier row replaced, a later one leaves.
pub(super) const PATTERNS: &[Pattern] = &[
    // PEM private keys (RFC 7468), also where the value was cut off before the end.
    pattern(
        r"(?s-u)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
    ),
    // AWS access key ids, lasting and temporary.
    pattern(r"(?-u)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    // GitHub: personal, OAuth, user-to-server, server-to-server, refresh; fine-grained.
    pattern(r"(?-u)\b(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{16,}"),
    // GitLab: personal, deploy, runner, CI job, trigger, feed and SCIM tokens.
    pattern(r"(?-u)\bgl(?:pat|dt|rt|rtr|cbt|ptt|ft|soat)-[A-Za-z0-9_.=-]{16,}"),
    // Slack: tokens, and the paths of incoming webhooks.
    pattern(r"(?-u)\b(?:xox[abeps](?:\.xox[bp])?|xapp)-[A-Za-z0-9-]{10,}"),
    pattern(r"(?-u)hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9/_-]+)"),
    // Google: API keys, OAuth access tokens, OAuth client secrets.
    pattern(r"(?-u)\bAIza[A-Za-z0-9_-]{30,}"),
    pattern(r"(?-u)\bya29\.[A-Za-z0-9_-]{20,}"),
    pattern(r"(?-u)\bGOCSPX-[A-Za-z0-9_-]{20,}"),
    // Stripe: live secret and restricted keys.
    pattern(r"(?-u)\b[sr]k_live_[A-Za-z0-9]{16,}"),
    // Package registries.
    pattern(r"(?-u)\bnpm_[A-Za-z0-9]{30,}"),
    pattern(r"(?-u)\bpypi-AgE[A-Za-z0-9_-]{16,}"),
    // OpenAI and Anthropic.
    pattern(r"(?-u)\bsk-(?:proj|svcacct|ant)-[A-Za-z0-9_-]{16,}"),
    pattern(r"(?-u)\bsk-[A-Za-z0-9]{16,}T3BlbkFJ[A-Za-z0-9]{16,}"),
    // JSON Web Tokens (RFC 7519), their signature possibly cut off.
    pattern(r"(?-u)\beyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"),
    // A URL's userinfo (RFC 3986, 3.2.1), if it has a password. Either half may be the secret.
    pattern(r#"(?-u)[A-Za-z][A-Za-z0-9+.-]*://(?P<secret>[^\x00-\x20\x7f/?#@"'<>:]*:[^\x00-\x20\x7f/?#"'<>]+)@"#),
    // Credentials of HTTP authentication (RFC 6750, RFC 7617), with or without the header's name.
    Pattern {
        expression: r"(?i-u)\bbearer +(?P<secret>[A-Za-z0-9._~+/-]{16,}=*)",
        is_secret: is_no_word,
    },
    Pattern {
        expression: r"(?i-u)\bbasic +(?P<secret>[A-Za-z0-9+/_-]{4,}={0,2})",
        is_secret: is_user_and_password,
    },
    pattern(
        r#"(?i-u)\bauthorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token|digest|negotiate|apikey|api-token|splunk|aws4-hmac-sha256) +)?(?P<secret>[^\s"']+)"#,
    ),
    // Other request headers, as commands and logs spell them.
    pattern(r#"(?i-u)\b(?:(?:[a-z0-9]+-)*api-?key|(?:[a-z0-9]+-)+(?:token|secret))\s*:\s*(?P<secret>[^\s"'&;,{}]+)"#),
    pattern(r#"(?i-u)\bcookie:\s*(?P<secret>[^\r\n"']+)"#),
    // Assignments: query parameters, environment variables before a command, options, connection strings.
    pattern(assigned!(
        r"[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|secret[_-]?(?:access[_-]?)?key|accesskey|accountkey|signature)="
    )),
    pattern(assigned!(r"[?&;,](?:sig|pwd)=")),
    // Options whose value is the next word.
    pattern(assigned!(r"\s", option!(), r"\s+")),
];

/// What kinds of value an attribute's key makes a secret of. Whether there is one at all (a boolean) is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    /// Text and numbers: some passwords are digits.
    Any,
    /// Text only: a number under this key is a count.
    Text,
}

/// Attribute keys whose whole value is a secret: the last part of the key, or its end behind a `_`.
/// Keys are compared in snake_case, so `db.password`, `dbPassword`, `DB_PASSWORD` and `db-password` are the same.
pub(super) const KEYS: &[(&str, Secret)] = &[
    ("password", Secret::Any),
    ("passwd", Secret::Any),
    ("passphrase", Secret::Any),
    ("secret", Secret::Any),
    ("secret_key", Secret::Any),
    ("secret_access_key", Secret::Any),
    ("private_key", Secret::Any),
    ("api_key", Secret::Any),
    ("apikey", Secret::Any),
    // `access_token`, `refresh_token`, `id_token`, `x-auth-token` and the rest; not `gen_ai.usage.input_tokens`.
    ("token", Secret::Text),
    // `http.request.header.authorization`, `…proxy-authorization`, `rpc.grpc.request.metadata.authorization`.
    ("authorization", Secret::Any),
];

/// Attribute keys that are a secret only as an HTTP header's (semantic conventions, `http.{request,response}.header.<key>`).
pub(super) const HEADER_KEYS: &[&str] = &["header.cookie", "header.set_cookie"];

/// A [`Pattern`] or one of the user's, with what says whether a match is a secret.
pub(super) type Compiled = (Regex, fn(&[u8]) -> bool);

/// All rules, compiled.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) built_in: Vec<Compiled>,
    /// The user's patterns.
    pub(super) users: Vec<Compiled>,
    /// The user's keys, as expressions that match the whole key.
    keys: Vec<Regex>,
    /// [`option!`] as the whole of a string.
    option: Regex,
}

impl Rules {
    pub(super) fn new(patterns: &[String], keys: &[String]) -> Result<Rules, BadRule> {
        let built_in = PATTERNS.iter().map(|pattern| {
            let regex = Regex::new(pattern.expression).expect("every built-in pattern compiles, which a test shows");
            (regex, pattern.is_secret)
        });
        Ok(Rules {
            built_in: built_in.collect(),
            users: patterns
                .iter()
                .map(|pattern| users(pattern))
                .collect::<Result<_, _>>()?,
            keys: keys.iter().map(|key| glob(key)).collect::<Result<_, _>>()?,
            option: Regex::new(concat!(r"(?i-u)\A", option!(), r"\z")).expect("it compiles, which a test shows"),
        })
    }

    /// Whether an argument of a command says that the next one is a secret.
    pub(super) fn is_option(&self, argument: &[u8]) -> bool {
        self.option.is_match(argument)
    }

    /// What the attribute key says about its value.
    pub(super) fn secret_by_key(&self, key: &[u8]) -> Option<Secret> {
        if self.keys.iter().any(|glob| glob.is_match(key)) {
            return Some(Secret::Any);
        }
        let snake = snake_case(key);
        if HEADER_KEYS.iter().any(|header| snake.ends_with(header.as_bytes())) {
            return Some(Secret::Any);
        }
        let last = snake.rsplit(|byte| *byte == b'.').next().unwrap_or(&snake);
        let named = |name: &str| {
            last.strip_suffix(name.as_bytes())
                .is_some_and(|before| before.is_empty() || before.ends_with(b"_"))
        };
        KEYS.iter().find(|(name, _)| named(name)).map(|(_, secret)| *secret)
    }
}

/// Matches may overlap, and what one of them covered is seen again only in the next pass.
const PASSES: usize = 8;

/// `text` with everything that one of the patterns calls a secret replaced, and how many that were.
pub(super) fn replace<'t>(patterns: &[Compiled], text: &'t [u8]) -> (Cow<'t, [u8]>, u64) {
    let mut text = Cow::Borrowed(text);
    let mut count = 0;
    for _ in 0..PASSES {
        let before = count;
        for (regex, is_secret) in patterns {
            let mut found = 0;
            let replaced = regex.replace_all(&text, |captures: &Captures| {
                let replaced = replacement(&text, captures, *is_secret);
                found += u64::from(replaced.is_some());
                replaced.unwrap_or_else(|| captures[0].to_vec())
            });
            if found > 0 {
                text = Cow::Owned(replaced.into_owned());
                count += found;
            }
        }
        if count == before {
            break;
        }
    }
    (text, count)
}

/// What to write for one match, `None` if it is no secret or has been replaced already.
fn replacement(text: &[u8], captures: &Captures, is_secret: fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let whole = captures.get(0)?;
    let secret = GROUPS.iter().find_map(|name| captures.name(name)).unwrap_or(whole);
    if has_been_replaced(text, secret.range()) || !is_secret(secret.as_bytes()) {
        return None;
    }
    let (before, behind) = (&text[whole.start()..secret.start()], &text[secret.end()..whole.end()]);
    Some([before, REDACTED.as_bytes(), behind].concat())
}

/// Whether `secret` begins with what stands for one, or lies within it, as a user's pattern for hex digits finds some there.
fn has_been_replaced(text: &[u8], secret: Range<usize>) -> bool {
    let earliest = secret.end.saturating_sub(REDACTED.len()).min(secret.start);
    (earliest..=secret.start).any(|start| text[start..].starts_with(REDACTED.as_bytes()))
}

/// A key in snake_case: lower-case, `-` as `_`, and a `_` between a small and a capital letter.
fn snake_case(key: &[u8]) -> Vec<u8> {
    let mut snake = Vec::with_capacity(key.len() + 4);
    let mut previous = 0_u8;
    for &byte in key {
        if byte.is_ascii_uppercase() && previous.is_ascii_lowercase() {
            snake.push(b'_');
        }
        snake.push(if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() });
        previous = byte;
    }
    snake
}

/// A user's pattern.
fn users(pattern: &str) -> Result<Compiled, BadRule> {
    // The one for text is only asked whether it agrees: it refuses what could cut a character in two.
    let regex = regex::Regex::new(pattern).and_then(|_| Regex::new(pattern));
    let regex = regex.map_err(|error| BadRule(format!("the redaction pattern `{pattern}` cannot be used: {error}")))?;
    Ok((regex, |secret| !secret.is_empty()))
}

/// A user's key as an expression for the whole of a key.
fn glob(key: &str) -> Result<Regex, BadRule> {
    let parts: Vec<String> = key.split('*').map(regex::escape).collect();
    Regex::new(&format!(r"(?s)\A(?:{})\z", parts.join(".*")))
        .map_err(|error| BadRule(format!("the redaction key `{key}` cannot be used: {error}")))
}

/// Prose has "bearer authentication"; a token has a digit, or capitals past its first letter.
fn is_no_word(token: &[u8]) -> bool {
    token.iter().any(u8::is_ascii_digit) || token[1..].iter().any(u8::is_ascii_uppercase)
}

/// Prose has "basic usage"; credentials decode to a user and a password (RFC 7617).
fn is_user_and_password(encoded: &[u8]) -> bool {
    let end = encoded
        .iter()
        .rposition(|byte| *byte != b'=')
        .map_or(0, |last| last + 1);
    let bare = &encoded[..end];
    let decoded = STANDARD_NO_PAD.decode(bare).or_else(|_| URL_SAFE_NO_PAD.decode(bare));
    decoded.is_ok_and(|decoded| decoded.contains(&b':') && decoded.iter().all(|byte| !byte.is_ascii_control()))
}
