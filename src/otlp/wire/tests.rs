//! The reader against hostile bytes, and the writer against the reader.

use proptest::prelude::*;

use super::*;

fn all(message: &[u8]) -> Result<Vec<Field<'_>>, WireError> {
    Fields::new(message).collect()
}

#[test]
fn reads_one_field_of_each_wire_type_and_keeps_its_raw_bytes() {
    let message = [
        0x08, 0x96, 0x01, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x25, 7, 0, 0, 0,
    ];
    let fields = all(&message).unwrap();
    let values: Vec<_> = fields.iter().map(|field| (field.number, field.value)).collect();
    assert_eq!(
        values,
        [
            (1, Value::Varint(150)),
            (2, Value::Fixed64(1)),
            (3, Value::Bytes(b"hi")),
            (4, Value::Fixed32(7)),
        ]
    );
    assert_eq!(
        fields.iter().map(|field| field.raw).collect::<Vec<_>>().concat(),
        message
    );
}

#[test]
fn an_empty_message_has_no_fields() {
    assert_eq!(all(&[]), Ok(vec![]));
}

#[test]
fn groups_and_unassigned_wire_types_are_refused() {
    for wire_type in [3_u8, 4, 6, 7] {
        assert_eq!(all(&[0x08 | wire_type, 0x0c]), Err(WireError::WireType(wire_type)));
    }
}

#[test]
fn field_number_zero_and_numbers_beyond_29_bits_are_refused() {
    assert_eq!(all(&[0x00, 0x01]), Err(WireError::FieldNumber));
    let mut message = Vec::new();
    put_varint(&mut message, (1 << 29) << 3);
    message.push(0);
    assert_eq!(all(&message), Err(WireError::FieldNumber));
}

#[test]
fn a_varint_of_eleven_bytes_or_of_more_than_64_bits_is_refused() {
    let mut eleven = vec![0x08];
    eleven.extend([0x80; 10]);
    eleven.push(0);
    assert_eq!(all(&eleven), Err(WireError::VarintTooLong));
    let mut overflow = vec![0x08];
    overflow.extend([0xff; 9]);
    overflow.push(2);
    assert_eq!(all(&overflow), Err(WireError::VarintTooLong));
}

#[test]
fn what_ends_in_the_middle_of_a_field_is_truncated() {
    for message in [
        &[0x08][..],
        &[0x08, 0x80],
        &[0x0a, 2, 1],
        &[0x09, 1, 2],
        &[0x0d, 1],
        &[0x80],
    ] {
        assert_eq!(all(message), Err(WireError::Truncated), "{message:x?}");
    }
    let mut huge = vec![0x0a];
    put_varint(&mut huge, u64::MAX);
    assert_eq!(all(&huge), Err(WireError::Truncated));
}

#[test]
fn nothing_is_read_behind_an_error() {
    let mut fields = Fields::new(&[0x00, 0x08, 0x01]);
    assert!(fields.next().unwrap().is_err());
    assert_eq!(fields.next(), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_what_was_read_is_a_prefix(message in proptest::collection::vec(any::<u8>(), 0..200)) {
        let read: Vec<u8> = Fields::new(&message).map_while(Result::ok).flat_map(|field| field.raw.to_vec()).collect();
        prop_assert!(message.starts_with(&read));
    }

    #[test]
    fn a_varint_reads_back_and_has_the_length_that_was_foretold(value in any::<u64>(), shift in 0_u32..64) {
        let value = value >> shift;
        let mut out = Vec::new();
        put_varint(&mut out, value);
        prop_assert_eq!(out.len(), varint_len(value));
        prop_assert_eq!(read_varint(&out), Ok((value, out.len())));
    }

    #[test]
    fn a_length_delimited_field_reads_back(number in 1_u32..1 << 29, content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut out = Vec::new();
        put_len_delimited(&mut out, number, &content);
        prop_assert_eq!(out.len(), len_delimited_len(number, content.len()));
        let fields = all(&out).unwrap();
        prop_assert_eq!(fields.len(), 1);
        prop_assert_eq!((fields[0].number, fields[0].bytes()), (number, Some(&content[..])));
    }
}
