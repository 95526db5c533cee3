//! Requests as bytes on a socket, for everything that a well-behaved HTTP client cannot say.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than any timeout that the gateway has for a client.
const END_WITHIN: Duration = Duration::from_secs(60);

/// Sends bytes and returns all that comes back until the other side closes.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may have seen enough before it has read everything.
    let _ = stream.write_all(request).await;
    read_to_end(&mut stream).await
}

/// Everything until the other side closes; it must close in time.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        let mut chunk = [0_u8; 4096];
        loop {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(n) => answer.extend_from_slice(&chunk[..n]),
            }
        }
    };
    let closed = tokio::time::timeout(END_WITHIN, read).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        closed.is_ok(),
        "the connection hangs; so far it said: {answer:?}"
    );
    answer
}

/// The status code of the first answer in a text.
pub fn status(answer: &str) -> u16 {
    let code = answer
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| answer.strip_prefix("HTTP/1.0 "));
    let code = code.unwrap_or_else(|| panic!("no HTTP answer: {answer:?}"));
    code[..3].parse().unwrap()
}

/// The body of the first answer in a text.
pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
