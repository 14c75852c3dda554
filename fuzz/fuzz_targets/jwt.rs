//! Reads arbitrary bytes as a token, and as the payload of one that is well-formed otherwise.
//! Beyond not panicking: a principal has an issuer and a subject, its fingerprint is 32 hexadecimal digits, and no
//! attribute carries a control character or goes on for ever.
#![no_main]

use base64::Engine;
use libfuzzer_sys::fuzz_target;
use tagalong::identity::claims::Claims;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        judge(text);
    }
    let encode = |part: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part);
    judge(&format!("{}.{}.c2ln", encode(b"{}"), encode(bytes)));
});

fn judge(token: &str) {
    let Some(claims) = Claims::decode(token) else {
        return;
    };
    let _ = (claims.date("exp"), claims.date("iat"), claims.audiences());
    let Some(principal) = claims.principal() else {
        return;
    };
    assert!(!principal.issuer.is_empty() && !principal.subject.is_empty());
    let fingerprint = principal.fingerprint();
    assert!(fingerprint.len() == 32 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
    for (_, value) in &principal.attributes {
        assert!(value.chars().count() <= 256 && !value.chars().any(char::is_control));
    }
}
