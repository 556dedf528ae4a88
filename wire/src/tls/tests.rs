//! Mutual TLS over loopback, with peers that must be turned away.

use super::*;
use crate::frame::FrameError;
use crate::hello::Hello;
use crate::pki::Authority;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

struct Pki {
    dir: TempDir,
    authority: Authority,
}

fn pki(cell: &str) -> Pki {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(cell, dir.path()).unwrap();
    Pki { dir, authority }
}

impl Pki {
    fn files(&self, role: Role, id: &str) -> TlsFiles {
        let identity = Identity::new(self.authority.cell(), role, id);
        let stem = format!("{role}-{id}");
        self.authority.issue_files(&identity, &["127.0.0.1"], self.dir.path(), &stem).unwrap()
    }

    fn tls(&self, role: Role, id: &str) -> Tls {
        Tls::load(&self.files(role, id)).unwrap()
    }
}

fn hello() -> Hello {
    Hello { protocol_min: 1, protocol_max: 1, build: "test".into(), features: vec![] }
}

type Met = Result<(Link, Identity), LinkError>;

/// Lets a client and a server meet; each side also exchanges Hello, for in TLS 1.3 a client learns
/// only then that the server turned it away.
async fn meet(client: &Tls, expect: Role, server: &Tls, allow: &[Role]) -> (Met, Met) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dial = async {
        let (mut link, peer) = client.connect(address, expect).await?;
        link.hello(&hello()).await?;
        Ok((link, peer))
    };
    let answer = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let (mut link, peer) = server.accept(tcp, allow).await?;
        link.hello(&hello()).await?;
        Ok((link, peer))
    };
    tokio::join!(dial, answer)
}

#[tokio::test]
async fn peers_of_one_cell_learn_who_the_other_is() {
    let pki = pki("cell-1");
    let (node, scheduler) = (pki.tls(Role::Node, "n1"), pki.tls(Role::Scheduler, "1"));
    let (dialled, answered) = meet(&node, Role::Scheduler, &scheduler, &[Role::Node]).await;
    let (mut client, server_identity) = dialled.unwrap();
    let (mut server, client_identity) = answered.unwrap();
    assert_eq!(&server_identity, scheduler.identity());
    assert_eq!(&client_identity, node.identity());
    client.send(&("ping".to_owned(), 7u64)).await.unwrap();
    assert_eq!(server.receive().await.unwrap(), Some(("ping".to_owned(), 7u64)));
    server.close().await.unwrap();
    assert_eq!(client.receive::<u64>().await.unwrap(), None);
}

#[tokio::test]
async fn a_peer_of_another_authority_is_refused_by_both_sides() {
    let (ours, theirs) = (pki("cell-1"), pki("cell-1"));
    let (node, scheduler) = (theirs.tls(Role::Node, "n1"), ours.tls(Role::Scheduler, "1"));
    let (dialled, answered) = meet(&node, Role::Scheduler, &scheduler, &[Role::Node]).await;
    assert!(matches!(dialled, Err(LinkError::Handshake(_))), "{dialled:?}");
    assert!(matches!(answered, Err(LinkError::Handshake(_))), "{answered:?}");
}

#[tokio::test]
async fn a_server_of_another_role_is_refused_in_the_handshake() {
    let pki = pki("cell-1");
    let (node, switch) = (pki.tls(Role::Node, "n1"), pki.tls(Role::Switch, "s1"));
    let (dialled, answered) = meet(&node, Role::Scheduler, &switch, &[Role::Node]).await;
    let refused = dialled.unwrap_err();
    let LinkError::Handshake(error) = &refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("WrongRole"), "{error}");
    assert!(answered.is_err());
}

#[tokio::test]
async fn a_client_of_another_role_is_refused() {
    let pki = pki("cell-1");
    let (node, scheduler) = (pki.tls(Role::Node, "n1"), pki.tls(Role::Scheduler, "1"));
    let (dialled, answered) = meet(&node, Role::Scheduler, &scheduler, &[Role::Scheduler]).await;
    let refused = answered.unwrap_err();
    assert!(matches!(refused, LinkError::Identity(IdentityError::WrongRole { .. })), "{refused:?}");
    assert!(dialled.is_err());
}

/// The authority's subject is the same here, so only the identity tells the cells apart.
#[tokio::test]
async fn a_peer_of_another_cell_is_refused_even_under_our_authority() {
    let pki = pki("cell-1");
    let scheduler = pki.tls(Role::Scheduler, "1");
    let mut foreign = Material::load(&pki.files(Role::Node, "n1")).unwrap();
    foreign.identity.cell = "cell-2".into();
    // A verifier of cell-2 that meets a certificate of cell-1.
    let verifier = foreign.verifier(&Role::ALL);
    let own = &scheduler.inner.material.chain[0];
    assert!(verifier.admit(own).is_err());
    assert!(ClientCertVerifier::verify_client_cert(&*verifier, own, &[], UnixTime::now()).is_err());
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    assert!(verifier.verify_server_cert(own, &[], &name, &[], UnixTime::now()).is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let pki = pki("cell-1");
    let scheduler = pki.tls(Role::Scheduler, "1");
    let material = &scheduler.inner.material;
    let config = rustls::ClientConfig::builder_with_provider(material.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(material.roots.clone())
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dial = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::IpAddress(address.ip().into());
        // Also shows that programs which check the address can verify our certificates.
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    };
    let answer = async {
        let (tcp, _) = listener.accept().await.unwrap();
        scheduler.accept(tcp, &Role::ALL).await
    };
    let (_stream, answered) = tokio::join!(dial, answer);
    assert!(matches!(answered, Err(LinkError::Handshake(_))), "{answered:?}");
}

#[tokio::test]
async fn plain_bytes_are_refused() {
    let pki = pki("cell-1");
    let scheduler = pki.tls(Role::Scheduler, "1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let answered = scheduler.accept(accepted, &Role::ALL).await;
    assert!(matches!(answered, Err(LinkError::Handshake(_))), "{answered:?}");
}

#[tokio::test]
async fn messages_over_the_limit_are_refused_by_both_sides() {
    let pki = pki("cell-1");
    let (node, scheduler) = (pki.tls(Role::Node, "n1"), pki.tls(Role::Scheduler, "1"));
    let (dialled, answered) = meet(&node, Role::Scheduler, &scheduler, &[Role::Node]).await;
    let (mut client, mut server) = (dialled.unwrap().0, answered.unwrap().0);
    server.set_limit(100);
    let refused = server.send(&vec![0u8; 200]).await;
    assert!(matches!(refused, Err(LinkError::TooLong { .. })));
    client.send(&vec![0u8; 200]).await.unwrap();
    let refused = server.receive::<Vec<u8>>().await;
    assert!(matches!(refused, Err(LinkError::Frame(FrameError::TooLong { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_link_that_was_cut_ends_with_an_error() {
    let pki = pki("cell-1");
    let (node, scheduler) = (pki.tls(Role::Node, "n1"), pki.tls(Role::Scheduler, "1"));
    let (dialled, answered) = meet(&node, Role::Scheduler, &scheduler, &[Role::Node]).await;
    let (client, mut server) = (dialled.unwrap().0, answered.unwrap().0);
    drop(client);
    assert!(server.receive::<u64>().await.is_err());
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing() {
    let pki = pki("cell-1");
    let (node, scheduler) = (pki.tls(Role::Node, "n1"), pki.tls(Role::Scheduler, "1"));
    let (dialled, answered) = meet(&node, Role::Scheduler, &scheduler, &[Role::Node]).await;
    let (client, server) = (dialled.unwrap().0, answered.unwrap().0);
    let (mut sender, _keep) = client.split();
    let (_keep, mut receiver) = server.split();
    let sending = async {
        for number in 0..200u64 {
            sender.send(&vec![number; 1000]).await.unwrap();
        }
    };
    let receiving = async {
        for number in 0..200u64 {
            let message = loop {
                tokio::select! {
                    biased;
                    received = receiver.receive::<Vec<u64>>() => break received.unwrap().unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            };
            assert_eq!(message, vec![number; 1000]);
        }
    };
    tokio::join!(sending, receiving);
}

#[test]
fn files_that_do_not_belong_together_are_refused_at_start() {
    let (ours, theirs) = (pki("cell-1"), pki("cell-1"));
    let mut files = ours.files(Role::Node, "n1");
    files.ca = theirs.files(Role::Node, "n1").ca;
    assert!(matches!(Tls::load(&files), Err(TlsError::Untrusted { .. })));
    let mut files = ours.files(Role::Node, "n1");
    files.key = ours.files(Role::Node, "n2").key;
    assert!(matches!(Tls::load(&files), Err(TlsError::Refused { .. })));
    files.key = files.certificate.clone();
    assert!(matches!(Tls::load(&files), Err(TlsError::Unreadable { .. })));
}
