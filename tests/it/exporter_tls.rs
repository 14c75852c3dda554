//! TLS to upstream: a certificate of `export.ca_file` is trusted, any other that the system does not know is not.

use tagalong::export::{Compression, Config, Protocol};

use crate::support::{
    exporting::{Rig, config},
    tls::terminator,
    upstream::{Say, Upstream},
};

#[tokio::test]
async fn a_certificate_of_the_ca_file_is_trusted() {
    let (gzip, none) = (Compression::Gzip, Compression::None);
    for (protocol, compression) in [
        (Protocol::HttpProtobuf, gzip),
        (Protocol::HttpProtobuf, none),
        (Protocol::Grpc, gzip),
        (Protocol::Grpc, none),
    ] {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        let (url, authority) = terminator(upstream.address()).await;
        let ca_file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(ca_file.path(), authority).expect("written");
        rig.append_spans(["a".repeat(40_000), "b".repeat(40_000)]).await;
        let config = Config {
            compression,
            ca_file: Some(ca_file.path().to_owned()),
            ..config(&url, protocol)
        };
        rig.run(config).drain().await;
        assert_eq!(rig.books("traces").delivered, 2);
        assert_eq!(upstream.seen()[0].bearer(), Some("first"));
    }
}

#[tokio::test]
async fn an_unknown_certificate_gets_neither_data_nor_bearer() {
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        let (url, _) = terminator(upstream.address()).await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(config(&url, protocol));
        let found = running.until_paused().await;
        assert!(found.last_error.expect("an error").contains("certificate"));
        running.drain().await;
        assert!(upstream.seen().is_empty());
        assert_eq!(rig.books("traces").pending, 1);
    }
}
