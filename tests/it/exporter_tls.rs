//! TLS to upstream: a certificate of `export.ca_file` is trusted, any other that the system does not know is not.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tagalong::export::{Config, Protocol, status};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

use crate::support::{
    exporting::{Rig, config},
    upstream::{Say, Upstream},
};

/// A way to `upstream` over TLS with HTTP/2 by ALPN; returns its URL and the PEM certificate of its authority.
async fn terminator(upstream: SocketAddr) -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate authority");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])
        .expect("a name")
        .signed_by(&key, &authority)
        .expect("a certificate");
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a TLS server");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(stream).await?;
                let mut server = TcpStream::connect(upstream).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    (format!("https://localhost:{port}"), authority.pem())
}

#[tokio::test]
async fn a_certificate_of_the_ca_file_is_trusted() {
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        let (url, authority) = terminator(upstream.address()).await;
        let ca_file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(ca_file.path(), authority).expect("written");
        rig.append_spans(["a"]).await;
        let config = Config {
            ca_file: Some(ca_file.path().to_owned()),
            ..config(&url, protocol)
        };
        rig.run(config).drain().await;
        assert_eq!(rig.books("traces").delivered, 1);
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
        let found = running
            .until(|status| matches!(status.state, status::State::Paused { .. }))
            .await;
        assert!(found.last_error.expect("an error").contains("certificate"));
        running.drain().await;
        assert!(upstream.seen().is_empty());
        assert_eq!(rig.books("traces").pending, 1);
    }
}
