//! TLS to Postgres: which server is believed, and which is not.
//!
//! The Postgres of the tests speaks no TLS itself. Something in front of it does, as a balancer
//! would: it takes nothing but the request for TLS, shows its certificate, and then passes on.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use keybaton_adapters::postgres::{PostgresError, PostgresSettings};
use keybaton_tests::conformance::records::{Writer, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::postgres::{Place, USER, open_at, shared};

/// A certificate for `localhost` until 2124, signed by itself, and its key.
const CERTIFICATE: &str = include_str!("../tls/cert.pem");
const CERTIFICATE_KEY: &str = include_str!("../tls/key.pem");

/// An authority that has signed nothing here.
const OTHER: &str = include_str!("../tls/other.pem");

/// The request for TLS, which must be all that a client says in the clear: its length, and 80877103
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A database whose server is reached over TLS, and without it.
struct Behind {
    place: &'static Place,
    database: String,
    port: u16,
}

impl Behind {
    async fn open() -> Option<Self> {
        let place = shared()?;
        let port = front(place.server.port()).await;
        Some(Self { place, database: place.database(), port })
    }

    fn settings(&self, name: &str, port: u16, authority: Option<PathBuf>) -> PostgresSettings {
        // The address is given beside the name, which may lead to others.
        let url = format!(
            "postgres://{USER}@{name}:{port}/{}?hostaddr={}&sslmode=require",
            self.database,
            Ipv4Addr::LOCALHOST
        );
        let usual = self.place.settings(&self.database);
        PostgresSettings { url, ca_file: authority, ..usual }
    }

    fn authority(&self, name: &str, text: &str) -> Option<PathBuf> {
        let home = self.place.server.server().home();
        Some(home.write(name, text).expect("written"))
    }
}

/// Listens, shows the certificate, and passes on to the server; its port.
async fn front(server: u16) -> u16 {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("it is one");
    let key = PrivateKeyDer::from_pem_slice(CERTIFICATE_KEY.as_bytes()).expect("it is one");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("it knows some")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            // Whoever does not believe the certificate leaves.
            tokio::spawn(async move { drop(pass_on(client, acceptor, server).await) });
        }
    });
    port
}

async fn pass_on(mut client: TcpStream, acceptor: TlsAcceptor, server: u16) -> std::io::Result<()> {
    let mut said = [0; SSL_REQUEST.len()];
    client.read_exact(&mut said).await?;
    if said != SSL_REQUEST {
        return Ok(());
    }
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_believed_under_the_named_authority_and_its_own_name_only() {
    let Some(behind) = Behind::open().await else { return };
    let (own, other) = (
        behind.authority("authority.pem", CERTIFICATE),
        behind.authority("other-authority.pem", OTHER),
    );
    let trusting = behind.settings("localhost", behind.port, own.clone());
    let store = open_at(&trusting).await.expect("a server to believe");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    writer.commit(|_| {}).await;
    for (what, name, authority) in [
        ("another authority", "localhost", other),
        ("the authorities of the system", "localhost", None),
        ("another name", "db.example", own),
    ] {
        let refused = open_at(&behind.settings(name, behind.port, authority)).await;
        let error = refused.err().expect(what);
        assert!(matches!(error, PostgresError::Untrusted(_)), "{what}: {error:?}");
        assert!(error.to_string().contains("name its authority"), "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_told_nothing_where_tls_is_required() {
    let Some(behind) = Behind::open().await else { return };
    let authority = behind.authority("its-authority.pem", CERTIFICATE);
    let plain = behind.settings("localhost", behind.place.server.port(), authority);
    let error = open_at(&plain).await.err().expect("it has no TLS");
    assert!(error.to_string().contains("does not support TLS"), "{error}");
    let sessions =
        format!("select count(*) from pg_stat_activity where datname = '{}'", behind.database);
    let rows = behind.place.server.query_as_admin(&sessions).expect("read");
    assert_eq!(rows, [[Some("0".to_owned())]], "nobody has logged in");
}
