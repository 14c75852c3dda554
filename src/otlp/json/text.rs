//! A JSON tokenizer that a caller pulls from, borrowing from its input (RFC 8259).
//!
//! It builds no tree and keeps no stack: the caller knows what it expects next, and recurses itself.
//! It refuses what the grammar does not have (comments, trailing commas, leading zeros, bare `NaN`),
//! strings that are not Unicode (lone surrogates), and values to skip that nest deeper than it is told.

use std::borrow::Cow;

/// A position in a JSON text.
pub(super) struct Text<'a> {
    text: &'a str,
    at: usize,
}

/// What kind of value comes next, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// Why a text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("the JSON ends too early")]
    End,
    #[error("expected {expected} at byte {at}")]
    Expected { expected: &'static str, at: usize },
    #[error("a control character stands in a string at byte {0}")]
    Control(usize),
    #[error("an escape in a string is not valid at byte {0}")]
    Escape(usize),
    #[error("half of a surrogate pair stands alone at byte {0}")]
    Surrogate(usize),
    #[error("values nest too deep at byte {0}")]
    Depth(usize),
}

impl<'a> Text<'a> {
    pub(super) const fn new(text: &'a str) -> Text<'a> {
        Text { text, at: 0 }
    }

    /// The kind of the next value, which is not read yet.
    pub(super) fn next(&mut self) -> Result<Next, TextError> {
        match self.peek() {
            Some(b'{') => Ok(Next::Object),
            Some(b'[') => Ok(Next::Array),
            Some(b'"') => Ok(Next::String),
            Some(b'-' | b'0'..=b'9') => Ok(Next::Number),
            Some(b't' | b'f') => Ok(Next::Bool),
            Some(b'n') => Ok(Next::Null),
            Some(_) => Err(self.expected("a value")),
            None => Err(TextError::End),
        }
    }

    /// Reads `null`, if that comes next.
    pub(super) fn null(&mut self) -> Result<bool, TextError> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.word("null", "null")?;
        Ok(true)
    }

    pub(super) fn bool(&mut self) -> Result<bool, TextError> {
        if self.peek() == Some(b't') {
            self.word("true", "true")?;
            return Ok(true);
        }
        self.word("false", "true or false")?;
        Ok(false)
    }

    /// Opens an object (`{`) or an array (`[`).
    pub(super) fn open(&mut self, bracket: u8) -> Result<(), TextError> {
        self.punctuation(bracket)
    }

    /// The key of an object's next member, its colon read; `None` at the end. `first` is true right behind the `{`.
    pub(super) fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, TextError> {
        if !self.more(first, b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.punctuation(b':')?;
        Ok(Some(key))
    }

    /// Whether an array has another element. `first` is true right behind the `[`.
    pub(super) fn element(&mut self, first: bool) -> Result<bool, TextError> {
        self.more(first, b']')
    }

    /// A string, borrowed unless it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, TextError> {
        self.punctuation(b'"').map_err(|_| self.expected("a string"))?;
        let start = self.at;
        self.plain_run();
        if self.byte() == Some(b'"') {
            let string = &self.text[start..self.at];
            self.at += 1;
            return Ok(Cow::Borrowed(string));
        }
        let mut string = self.text[start..self.at].to_owned();
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(string));
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(_) => return Err(TextError::Control(self.at)),
                None => return Err(TextError::End),
            }
            let start = self.at;
            self.plain_run();
            string.push_str(&self.text[start..self.at]);
        }
    }

    /// A number as it is written, its grammar checked.
    pub(super) fn number(&mut self) -> Result<&'a str, TextError> {
        self.space();
        let start = self.at;
        self.at += number_len(&self.text.as_bytes()[start..]).ok_or_else(|| self.expected("a number"))?;
        Ok(&self.text[start..self.at])
    }

    /// Reads a value that nobody wants, at most `depth` levels deep.
    pub(super) fn skip(&mut self, depth: u32) -> Result<(), TextError> {
        match self.next()? {
            Next::Object | Next::Array if depth == 0 => Err(TextError::Depth(self.at)),
            Next::Object => {
                self.open(b'{')?;
                let mut first = true;
                while self.key(first)?.is_some() {
                    first = false;
                    self.skip(depth - 1)?;
                }
                Ok(())
            }
            Next::Array => {
                self.open(b'[')?;
                let mut first = true;
                while self.element(first)? {
                    first = false;
                    self.skip(depth - 1)?;
                }
                Ok(())
            }
            Next::String => self.string().map(drop),
            Next::Number => self.number().map(drop),
            Next::Bool => self.bool().map(drop),
            Next::Null => self.null().map(drop),
        }
    }

    /// Nothing but white space may follow the outermost value.
    pub(super) fn end(&mut self) -> Result<(), TextError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end")),
        }
    }

    /// Between two members or elements, or at the closing bracket.
    fn more(&mut self, first: bool, close: u8) -> Result<bool, TextError> {
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Err(self.expected("a comma or a closing bracket")),
            None => Err(TextError::End),
        }
    }

    /// The four-digit escape or the short one at `at`, which is on the backslash.
    fn escape(&mut self) -> Result<char, TextError> {
        let start = self.at;
        let letter = *self.text.as_bytes().get(start + 1).ok_or(TextError::End)?;
        self.at += 2;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex4(start)?;
                let code = match unit {
                    0xd800..0xdc00 => 0x10000 + ((unit - 0xd800) << 10) + self.low_surrogate(start)?,
                    _ => unit,
                };
                char::from_u32(code).ok_or(TextError::Surrogate(start))?
            }
            _ => return Err(TextError::Escape(start)),
        })
    }

    /// The low ten bits of the second half of a pair whose first half is at `start`.
    fn low_surrogate(&mut self, start: usize) -> Result<u32, TextError> {
        if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            return Err(TextError::Surrogate(start));
        }
        self.at += 2;
        match self.hex4(start)? {
            low @ 0xdc00..0xe000 => Ok(low - 0xdc00),
            _ => Err(TextError::Surrogate(start)),
        }
    }

    fn hex4(&mut self, start: usize) -> Result<u32, TextError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(TextError::End)?;
        let mut unit = 0;
        for &digit in digits {
            unit = unit << 4 | char::from(digit).to_digit(16).ok_or(TextError::Escape(start))?;
        }
        self.at += 4;
        Ok(unit)
    }

    /// Moves to the next byte of a string that is a quote, a backslash or a control character.
    fn plain_run(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let run = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        self.at += run.unwrap_or(rest.len());
    }

    fn word(&mut self, word: &'static str, expected: &'static str) -> Result<(), TextError> {
        self.space();
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.expected(expected));
        }
        self.at += word.len();
        Ok(())
    }

    fn punctuation(&mut self, wanted: u8) -> Result<(), TextError> {
        if self.peek() != Some(wanted) {
            return Err(self.expected(match wanted {
                b'{' => "an object",
                b'[' => "an array",
                b':' => "a colon",
                _ => "a string",
            }));
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    const fn expected(&self, expected: &'static str) -> TextError {
        TextError::Expected { expected, at: self.at }
    }
}

/// How many bytes the JSON number at the start of `text` takes; `None` if there is none.
pub(super) fn number_len(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    at += match text.get(at)? {
        b'0' => 1,
        b'1'..=b'9' => digits(at),
        _ => return None,
    };
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}
