//! One keep-alive connection to a server. As little as a load generator can do: the machine is
//! shared with what it measures.

use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where calls go, and how.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// How calls are encrypted, for which name; if they are.
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl From<SocketAddr> for Server {
    /// In plain text.
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the server answered last on a connection.
pub(crate) struct Answer<'c> {
    pub(crate) status: u16,
    pub(crate) head: &'c str,
    pub(crate) body: &'c [u8],
}

/// A connection that carries one call after the other.
pub(crate) struct Connection {
    stream: Stream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(server: impl Into<Server>) -> Self {
        let Server { address, tls } = server.into();
        let stream = TcpStream::connect(address)
            .await
            .expect("the server listens");
        stream.set_nodelay(true).expect("a socket of our own");
        let stream = match tls {
            None => Stream::Plain(stream),
            Some((tls, name)) => {
                let stream = tls.connect(name, stream).await;
                Stream::Tls(Box::new(stream.expect("the server speaks TLS")))
            }
        };
        Self {
            stream,
            received: Vec::with_capacity(64 * 1024),
        }
    }

    /// Sends a whole request and waits for the whole answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Answer<'_> {
        let sent = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(request).await,
            Stream::Tls(stream) => match stream.write_all(request).await {
                Ok(()) => stream.flush().await,
                failed => failed,
            },
        };
        sent.expect("the server reads");
        self.received.clear();
        let (status, head, length) = loop {
            self.receive().await;
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.received[..end]).expect("a head is ASCII");
                let status = head[9..12].parse().expect("a status line");
                break (status, end + 4, content_length(head));
            }
        };
        while self.received.len() < head + length {
            self.receive().await;
        }
        Answer {
            status,
            head: std::str::from_utf8(&self.received[..head]).expect("a head is ASCII"),
            body: &self.received[head..head + length],
        }
    }

    async fn receive(&mut self) {
        let bytes = match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.received).await,
            Stream::Tls(stream) => stream.read_buf(&mut self.received).await,
        };
        assert!(bytes.expect("the server writes") > 0, "the server hung up");
    }
}

/// The length of the body behind a head. Nobody here sends in chunks; a head without a length has
/// no body.
pub(crate) fn content_length(head: &str) -> usize {
    header(head, "content-length").map_or(0, |text| text.parse().expect("a length is a number"))
}

/// The value of a header in a head.
pub(crate) fn header<'h>(head: &'h str, wanted: &str) -> Option<&'h str> {
    let lines = head.split("\r\n").skip(1);
    lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim())
}

/// Where `wanted` begins in `text`.
pub(crate) fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}
