//! A protobuf reader and writer, just enough for OTLP requests.
//!
//! The reader walks the fields of one message forward and borrows everything from its input.
//! It knows wire types only, so fields that this crate has never heard of pass through it unharmed.
//! It refuses what no encoder writes and every decoder upstream would refuse too: groups, field number 0,
//! varints that do not fit 64 bits, and lengths that reach beyond the message.
//! It does not recurse: whoever descends into a submessage opens another [`Fields`] over its bytes.

/// The fields of one message, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// From 1 to 2^29 - 1.
    pub number: u32,
    /// As its wire type says, uninterpreted.
    pub value: Value<'a>,
    /// The whole field as it was written, its tag included: what to copy to keep it byte for byte.
    pub raw: &'a [u8],
}

/// What a field holds, as far as its wire type tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Integers, booleans, enums; zigzag is the reader's business.
    Varint(u64),
    /// Little-endian on the wire; doubles too, by their bits.
    Fixed64(u64),
    /// A string, bytes, a submessage or a packed list.
    Bytes(&'a [u8]),
    /// Little-endian on the wire; floats too, by their bits.
    Fixed32(u32),
}

/// How a value is laid out (protobuf encoding guide, "Message Structure"). Groups are left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WireType {
    /// Up to ten bytes, seven bits each.
    Varint = 0,
    /// Eight bytes.
    Fixed64 = 1,
    /// A length and so many bytes: strings, messages, packed numbers.
    Bytes = 2,
    /// Four bytes.
    Fixed32 = 5,
}

/// Why bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A length leads beyond the end.
    #[error("the message ends in the middle of a field")]
    Truncated,
    /// More than ten bytes, or more than 64 bits.
    #[error("a varint is longer than 64 bits")]
    VarintTooLong,
    /// 0, or more than 2²⁹ − 1.
    #[error("a field number is not between 1 and 536870911")]
    FieldNumber,
    /// Groups (3 and 4) among them: OTLP has none.
    #[error("a field has wire type {0}, which is a group or unassigned")]
    WireType(u8),
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Reads nothing yet; mistakes come out of the iterator.
    pub const fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { message, at: 0 }
    }

    /// How many bytes of the message have been read: where the next field starts.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// A varint at the current position. The one-byte case is apart because nearly every tag and length is one.
    #[inline(always)]
    fn varint(&mut self) -> Result<u64, WireError> {
        match self.message.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            Some(_) => self.long_varint(),
            None => Err(WireError::Truncated),
        }
    }

    #[inline]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let (value, length) = read_varint(&self.message[self.at..])?;
        self.at += length;
        Ok(value)
    }

    #[inline(always)]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        // Not `at + length > len`: a hostile length near `usize::MAX` would wrap.
        if length > self.message.len() - self.at {
            return Err(WireError::Truncated);
        }
        let taken = &self.message[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    #[inline(always)]
    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let start = self.at;
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > MAX_FIELD_NUMBER {
            return Err(WireError::FieldNumber);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(
                self.take(8)?.try_into().expect("eight bytes were taken"),
            )),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| WireError::Truncated)?)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(
                self.take(4)?.try_into().expect("four bytes were taken"),
            )),
            other => return Err(WireError::WireType(other as u8)),
        };
        Ok(Field {
            number: number as u32,
            value,
            raw: &self.message[start..self.at],
        })
    }
}

/// Ends after the first error: nothing behind it can be trusted.
impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.message.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.message.len();
        }
        Some(field)
    }
}

// === impl Field ===

impl<'a> Field<'a> {
    /// The content of a string, bytes, submessage or packed field; `None` for another wire type.
    #[inline]
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

// === reading and writing of single parts ===

const MAX_FIELD_NUMBER: u64 = (1 << 29) - 1;

/// The varint at the start of `bytes`, and how many bytes it takes.
///
/// # Errors
/// [`WireError::Truncated`] if it does not end, [`WireError::VarintTooLong`] if it does not fit 64 bits.
pub fn read_varint(bytes: &[u8]) -> Result<(u64, usize), WireError> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        // The tenth byte has room for one bit only.
        if index == 9 && byte > 1 {
            return Err(WireError::VarintTooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(WireError::Truncated)
}

/// How many bytes `value` takes as a varint: 1 to 10.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    // Seven bits a byte; `| 1` because zero takes one byte too.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// How many bytes a length-delimited field of `length` bytes takes, tag and length included.
#[inline]
pub const fn len_delimited_len(number: u32, length: usize) -> usize {
    varint_len((number as u64) << 3) + varint_len(length as u64) + length
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag.
#[inline]
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: WireType) {
    put_varint(out, u64::from(number) << 3 | wire_type as u64);
}

/// Appends the tag and the length of a field whose `length` bytes the caller appends next.
#[inline]
pub fn put_len_header(out: &mut Vec<u8>, number: u32, length: usize) {
    put_tag(out, number, WireType::Bytes);
    put_varint(out, length as u64);
}

/// Appends a whole length-delimited field: a string, bytes or a finished submessage.
#[inline]
pub fn put_len_delimited(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_len_header(out, number, content.len());
    out.extend_from_slice(content);
}

/// Appends a varint field.
#[inline]
pub fn put_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, WireType::Varint);
    put_varint(out, value);
}

#[cfg(test)]
mod tests;
