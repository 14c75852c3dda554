//! When a token ends, by whose clock, and what is refused before anybody sees it.

use serde_json::json;

use super::*;
use crate::identity::claims::tests::jwt;

const WALL: u64 = 1_800_000_000;

fn at(wall: u64) -> Now {
    Now {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall),
        boot: Duration::from_secs(5000),
        monotonic: Duration::from_secs(5000),
    }
}

fn terms() -> Terms {
    Terms {
        issuer: None,
        attributes: Attributes::Full,
        pseudonym_key: Secret::new("key".into()),
        fallback: Principal::os_user("host", "jo"),
        manner: Manner::Mint,
    }
}

fn token(issued: u64, lifetime: u64) -> Minted {
    Minted::bare(Secret::new(jwt(&json!({
        "iss": "https://issuer.example", "sub": "1", "iat": issued, "exp": issued + lifetime,
    }))))
}

fn fresh(issued: u64, lifetime: u64) -> Minted {
    Minted {
        fresh: true,
        ..token(issued, lifetime)
    }
}

fn left(minted: Minted, wall: u64) -> Result<Option<u64>, MintError> {
    let admitted = admit(minted, &terms(), at(wall), at(wall))?;
    Ok(admitted.expiry.map(|expiry| expiry.remaining(at(wall)).as_secs()))
}

#[test]
fn a_token_lasts_from_now_to_its_exp() {
    assert_eq!(left(fresh(WALL, 3600), WALL), Ok(Some(3600)));
    assert_eq!(left(token(WALL - 600, 3600), WALL), Ok(Some(3000)));
}

#[test]
fn what_was_told_beside_a_token_ends_it_where_that_is_earlier() {
    let told = |expires_at: Option<u64>, seconds: Option<u64>| Minted {
        expires_at: expires_at.map(|wall| at(wall).wall),
        lifetime: seconds.map(Duration::from_secs),
        ..fresh(WALL, 3600)
    };
    assert_eq!(left(told(Some(WALL + 600), None), WALL), Ok(Some(600)));
    assert_eq!(left(told(None, Some(600)), WALL), Ok(Some(600)));
    assert_eq!(left(told(Some(WALL + 900), Some(600)), WALL), Ok(Some(600)));
    assert_eq!(left(told(Some(WALL + 7200), Some(7200)), WALL), Ok(Some(3600)));
}

#[test]
fn a_lifetime_counts_from_the_asking_however_long_the_answer_took() {
    let (asked, answered) = (
        at(WALL),
        Now {
            boot: at(WALL).boot + Duration::from_secs(20),
            ..at(WALL + 20)
        },
    );
    for minted in [fresh(WALL + 9, 3600), Minted::bare(Secret::new("opaque".into()))] {
        let minted = Minted {
            lifetime: Some(Duration::from_secs(600)),
            ..minted
        };
        let expiry = admit(minted, &terms(), asked, answered).expect("a token").expiry;
        assert_eq!(expiry.expect("an end").remaining(answered).as_secs(), 580);
    }
}

#[test]
fn a_clock_that_is_an_hour_wrong_is_corrected_by_the_iat_of_a_fresh_token() {
    assert_eq!(left(fresh(WALL, 300), WALL + 3600), Ok(Some(300)));
    assert_eq!(left(fresh(WALL, 300), WALL - 3600), Ok(Some(300)));
}

#[test]
fn an_old_token_proves_only_that_the_issuers_clock_is_not_behind_its_iat() {
    // Ours is behind: it cannot be earlier than the token.
    assert_eq!(left(token(WALL, 300), WALL - 3600), Ok(Some(300)));
    // Ours may be ahead, or the token is old: the latter is believed, with the hint.
    let refused = left(token(WALL, 300), WALL + 3600).expect_err("an expired token");
    assert!(
        matches!(&refused, MintError::Transient(text) if text.contains("clock")),
        "{refused}"
    );
}

#[test]
fn the_issuers_date_goes_before_the_iat() {
    let minted = Minted {
        date: Some(at(WALL).wall),
        ..token(WALL - 100, 300)
    };
    assert_eq!(left(minted, WALL + 7200), Ok(Some(200)));
}

#[test]
fn a_small_skew_is_ignored_but_lengthens_nothing() {
    assert_eq!(left(fresh(WALL, 10), WALL - 4), Ok(Some(10)));
    assert_eq!(left(fresh(WALL, 10), WALL + 4), Ok(Some(6)));
}

#[test]
fn a_slow_answer_is_no_skew() {
    let expiry = admit(fresh(WALL + 9, 3600), &terms(), at(WALL), at(WALL + 20))
        .expect("a token")
        .expiry
        .expect("an end");
    assert_eq!(expiry.skew, Skew::default());
    assert_eq!(expiry.remaining(at(WALL + 20)).as_secs(), 3589);
}

#[test]
fn an_opaque_token_names_nobody_and_lasts_as_it_was_told_or_a_quarter_of_an_hour() {
    let opaque = || Minted::bare(Secret::new("opaque".into()));
    let told = Minted {
        lifetime: Some(Duration::from_secs(120)),
        ..opaque()
    };
    assert_eq!(left(told, WALL), Ok(Some(120)));
    assert_eq!(left(opaque(), WALL), Ok(Some(900)));
    let admitted = admit(opaque(), &terms(), at(WALL), at(WALL)).expect("a token");
    assert_eq!(admitted.principal.subject, "jo");
    let looked = Terms {
        manner: Manner::Look,
        ..terms()
    };
    let admitted = admit(opaque(), &looked, at(WALL), at(WALL)).expect("a token");
    assert!(
        admitted.expiry.is_none(),
        "a key in a file has no end that anybody knows"
    );
}

#[test]
fn a_token_of_another_issuer_is_a_wrong_setting() {
    let strict = Terms {
        issuer: Some("https://other.example".into()),
        ..terms()
    };
    let refused = admit(fresh(WALL, 300), &strict, at(WALL), at(WALL)).expect_err("another issuer");
    assert!(matches!(refused, MintError::Config(_)));
    // An opaque token says nothing of its issuer.
    assert!(admit(Minted::bare(Secret::new("opaque".into())), &strict, at(WALL), at(WALL)).is_ok());
}

#[test]
fn an_absurd_date_is_clamped_and_no_arithmetic_overflows() {
    let minted = Minted {
        date: Some(SystemTime::UNIX_EPOCH),
        ..token(WALL, 300)
    };
    // A clock that is 57 years behind is not believed by more than a day; the token's own span still bounds it.
    assert_eq!(left(minted, WALL), Ok(Some(300)));
    let far = Minted::bare(Secret::new(jwt(
        &json!({"iss": "i", "sub": "s", "exp": 253_402_300_799u64}),
    )));
    assert!(left(far, WALL).is_ok());
}

#[test]
fn the_person_of_the_exchanged_token_is_the_platforms_word_where_the_new_one_names_nobody() {
    let subject = Claims::decode(&jwt(&json!({"iss": "https://issuer.example", "sub": "jo"})));
    let with = |token: &str| Minted {
        subject: subject.clone(),
        ..Minted::bare(Secret::new(token.to_owned()))
    };
    let app = jwt(&json!({"iss": "https://login.microsoftonline.com/t/v2.0", "sub": "o", "oid": "o"}));
    for nobody in ["opaque", &app] {
        let principal = admit(with(nobody), &terms(), at(WALL), at(WALL))
            .expect("admitted")
            .principal;
        assert_eq!((principal.subject.as_str(), principal.trust), ("jo", Trust::Platform));
    }
    let person = jwt(&json!({"iss": "https://other.example", "sub": "ada"}));
    let principal = admit(with(&person), &terms(), at(WALL), at(WALL))
        .expect("admitted")
        .principal;
    assert_eq!((principal.subject.as_str(), principal.trust), ("ada", Trust::Verified));
}
