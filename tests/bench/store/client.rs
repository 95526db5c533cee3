//! One keep-alive connection to the node's link. As little as a load generator can do: the machine
//! is shared with what it measures.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the node answered last on a connection.
pub(crate) struct Answer<'c> {
    pub(crate) status: u16,
    pub(crate) body: &'c [u8],
}

/// A connection that carries one call after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the node listens");
        stream.set_nodelay(true).expect("a socket of our own");
        Self {
            stream,
            received: Vec::with_capacity(64 * 1024),
        }
    }

    /// Sends a whole request and waits for the whole answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Answer<'_> {
        self.stream
            .write_all(request)
            .await
            .expect("the node reads");
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
            body: &self.received[head..head + length],
        }
    }

    async fn receive(&mut self) {
        let bytes = self.stream.read_buf(&mut self.received).await;
        assert!(bytes.expect("the node writes") > 0, "the node hung up");
    }
}

/// The node never answers in chunks; an answer without a length has no body.
fn content_length(head: &str) -> usize {
    for line in head.split("\r\n").skip(1) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return value.trim().parse().expect("a length is a number");
        }
    }
    0
}

/// Where `wanted` begins in `text`.
pub(crate) fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}
