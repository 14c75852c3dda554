//! One test for each row of the table of verdicts, over both protocols.
use super::*;

fn over_http(status: u16) -> Verdict {
    classify(Answer::Http {
        status,
        otlp: true,
        retry_after: None,
        message: "why".into(),
        response: (status < 300).then(Response::default),
    })
}

fn html(status: u16) -> Verdict {
    classify(Answer::Http {
        status,
        otlp: false,
        retry_after: None,
        message: String::new(),
        response: None,
    })
}

fn over_grpc(code: i32, retry_delay: Option<Duration>) -> Verdict {
    classify(Answer::Grpc {
        code,
        retry_delay,
        message: "why".into(),
        response: Response::default(),
    })
}

fn trouble(verdict: Verdict) -> Trouble {
    match verdict {
        Verdict::Path(trouble) => trouble,
        other => panic!("not the path: {other:?}"),
    }
}

#[test]
fn success_is_answered_for() {
    for status in [200, 202, 204] {
        assert_eq!(over_http(status), Verdict::Taken(Response::default()));
    }
    assert_eq!(over_grpc(0, None), Verdict::Taken(Response::default()));
}

#[test]
fn what_upstream_calls_invalid_is_the_data() {
    assert_eq!(over_http(400), Verdict::Data("HTTP 400: why".into()));
    assert_eq!(over_http(422), Verdict::Data("HTTP 422: why".into()));
    assert_eq!(over_grpc(3, None), Verdict::Data("gRPC INVALID_ARGUMENT: why".into()));
}

#[test]
fn a_web_page_never_condemns_data() {
    for status in [200, 400, 422, 500, 502] {
        assert_eq!(trouble(html(status)).reach, Reach::Answering);
    }
}

#[test]
fn too_large_is_the_size() {
    assert_eq!(over_http(413), Verdict::Size("HTTP 413: why".into()));
    assert_eq!(html(413), Verdict::Size("HTTP 413".into()));
    assert_eq!(over_grpc(8, None), Verdict::Size("gRPC RESOURCE_EXHAUSTED: why".into()));
}

#[test]
fn a_bad_request_that_says_too_large_is_the_size() {
    let answer = |otlp| Answer::Http {
        status: 400,
        otlp,
        retry_after: None,
        message: "http: request body too large".into(),
        response: None,
    };
    let reason = "HTTP 400: http: request body too large";
    assert_eq!(classify(answer(true)), Verdict::Size(reason.into()));
    assert_eq!(trouble(classify(answer(false))).reason, reason);
}

#[test]
fn plain_http_to_a_server_of_tls_is_the_path() {
    for words in [
        "Client sent an HTTP request to an HTTPS server.",
        "The plain HTTP request was sent to HTTPS port",
        "You're speaking plain HTTP to an SSL-enabled server port",
        "Bad Request This combination of host and port requires TLS.",
    ] {
        let answer = Answer::Http {
            status: 400,
            otlp: true,
            retry_after: None,
            message: format!("{words}\n"),
            response: None,
        };
        assert_eq!(trouble(classify(answer)).reason, format!("HTTP 400: {words}"));
    }
}

#[test]
fn exhausted_with_retry_info_is_the_path() {
    let trouble = trouble(over_grpc(8, Some(Duration::from_secs(7))));
    assert_eq!(trouble.hint, Some(Duration::from_secs(7)));
}

#[test]
fn unauthenticated_is_the_credential() {
    let credential = |reason: &str| Verdict::Credential(Trouble::answering(reason.to_owned(), None));
    assert_eq!(over_http(401), credential("HTTP 401: why"));
    assert_eq!(over_grpc(16, None), credential("gRPC UNAUTHENTICATED: why"));
}

#[test]
fn forbidden_is_told_to_identity() {
    let hint = Duration::from_secs(7);
    let forbidden = |reason: &str, hint| Verdict::Forbidden(Trouble::answering(reason.to_owned(), hint));
    assert_eq!(over_http(403), forbidden("HTTP 403: why", None));
    assert_eq!(
        over_grpc(7, Some(hint)),
        forbidden("gRPC PERMISSION_DENIED: why", Some(hint))
    );
}

#[test]
fn not_found_and_unimplemented_may_be_the_signal() {
    assert!(matches!(over_http(404), Verdict::NotFound(_)));
    assert!(matches!(over_http(501), Verdict::NotFound(_)));
    assert!(matches!(over_grpc(12, None), Verdict::NotFound(_)));
}

#[test]
fn everything_else_is_the_path() {
    for status in [
        301, 302, 307, 308, 402, 405, 408, 409, 415, 418, 429, 500, 502, 503, 504, 511,
    ] {
        let trouble = trouble(over_http(status));
        assert_eq!(
            (trouble.reach, trouble.suspect),
            (Reach::Answering, status == 500),
            "{status}"
        );
    }
    for code in [1, 2, 4, 5, 6, 9, 10, 11, 13, 14, 15, 17, 99, -1] {
        let trouble = trouble(over_grpc(code, None));
        assert_eq!(
            (trouble.reach, trouble.suspect),
            (Reach::Answering, code == 13),
            "{code}"
        );
    }
}

#[test]
fn no_answer_is_out_of_reach() {
    let verdict = classify(Answer::Nothing {
        reason: "connection refused".into(),
    });
    assert_eq!(trouble(verdict).reach, Reach::Unreached);
}

#[test]
fn upstream_out_of_reach_is_tried_every_four_seconds_at_least() {
    let mut last = None;
    for _ in 0..50 {
        let (figure, wait) = backoff(last, Reach::Unreached, None, 0.999);
        assert!(wait <= UNREACHED_CAP);
        last = Some(figure);
    }
    assert_eq!(last, Some(UNREACHED_CAP));
}

#[test]
fn upstream_that_answers_is_left_alone_up_to_five_minutes() {
    let waits: Vec<u64> = std::iter::successors(Some(backoff(None, Reach::Answering, None, 1.0)), |(figure, _)| {
        Some(backoff(Some(*figure), Reach::Answering, None, 1.0))
    })
    .map(|(_, wait)| wait.as_secs())
    .take(11)
    .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn jitter_takes_at_most_half() {
    assert_eq!(backoff(None, Reach::Answering, None, 0.0).1, FIRST_WAIT / 2);
    assert_eq!(backoff(None, Reach::Answering, None, 1.0).1, FIRST_WAIT);
}

#[test]
fn e8_a_hint_wins_and_the_next_wait_grows_from_it() {
    let (figure, wait) = backoff(None, Reach::Answering, Some(Duration::from_secs(40)), 0.0);
    assert_eq!(wait, Duration::from_secs(40));
    assert_eq!(
        backoff(Some(figure), Reach::Answering, None, 1.0).1,
        Duration::from_secs(80)
    );
}

#[test]
fn a_hint_of_no_time_at_all_is_no_reason_to_hammer() {
    let at_once = Some(Duration::ZERO);
    assert_eq!(backoff(None, Reach::Answering, at_once, 0.0).1, FIRST_WAIT / 2);
    assert_eq!(
        backoff(Some(ANSWERING_CAP), Reach::Answering, at_once, 1.0).1,
        FIRST_WAIT
    );
}

#[test]
fn going_out_of_reach_after_a_long_wait_is_tried_soon() {
    assert_eq!(
        backoff(Some(ANSWERING_CAP), Reach::Unreached, None, 1.0).1,
        UNREACHED_CAP
    );
}

#[test]
fn a_reason_is_fit_to_be_shown() {
    assert_eq!(printable("a\u{1b}[31mb\r\nc\0"), "a[31mbc");
    assert_eq!(printable(&"x".repeat(4096)).chars().count(), 512);
}
