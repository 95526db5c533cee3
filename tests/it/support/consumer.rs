//! The application behind: an HTTP server that takes webhooks, as well or as badly as a test wants,
//! and writes down what came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// With this status.
    Answers(u16),
    /// It sends the caller elsewhere.
    Redirects(String),
    /// Not at all.
    Silent,
    /// With a body that never ends.
    Endless,
}

/// What came.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub headers: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
    pub text: String,
    pub body: Value,
}

impl Delivery {
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    pub fn sequence(&self) -> i64 {
        self.body["data"]["sequence"].as_i64().unwrap()
    }

    /// Which resource of which write.
    pub fn of(&self) -> (i64, String) {
        let id = self.body["data"]["id"].as_str().unwrap().to_owned();
        (self.sequence(), id)
    }

    /// Checks the signature as the specification says, with nothing of the sender's own.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        let (id, time) = (
            &self.headers["webhook-id"],
            &self.headers["webhook-timestamp"],
        );
        let signed = format!("{id}.{time}.{}", self.text);
        let expected = format!(
            "v1,{}",
            STANDARD.encode(hmac_sha256(&key, signed.as_bytes()))
        );
        let mut signatures = self.headers["webhook-signature"].split(' ');
        signatures.any(|signature| signature == expected)
    }
}

/// RFC 2104, for keys of at most 64 bytes.
fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut pads = [[0x36_u8; 64], [0x5c; 64]];
    for pad in &mut pads {
        for (byte, key) in pad.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    let inner = Sha256::new()
        .chain_update(pads[0])
        .chain_update(text)
        .finalize();
    Sha256::new()
        .chain_update(pads[1])
        .chain_update(inner)
        .finalize()
        .into()
}

#[derive(Default)]
struct Book {
    deliveries: Mutex<Vec<Delivery>>,
    came: Notify,
}

pub struct Consumer {
    pub address: SocketAddr,
    book: Arc<Book>,
    mood: Arc<Mutex<Mood>>,
    task: tokio::task::JoinHandle<()>,
}

impl Consumer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::new(Book::default());
        let mood = Arc::new(Mutex::new(Mood::Answers(204)));
        let (its_book, its_mood) = (Arc::clone(&book), Arc::clone(&mood));
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(serve(stream, Arc::clone(&its_book), Arc::clone(&its_mood)));
            }
        });
        Self {
            address,
            book,
            mood,
            task,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// All that came.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.book.deliveries.lock().unwrap().clone()
    }

    /// All that came, once it is enough.
    pub async fn once(&self, enough: impl Fn(&[Delivery]) -> bool) -> Vec<Delivery> {
        loop {
            let came = self.book.came.notified();
            let deliveries = self.deliveries();
            if enough(&deliveries) {
                return deliveries;
            }
            came.await;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, book: Arc<Book>, mood: Arc<Mutex<Mood>>) {
    let mut bytes = Vec::new();
    while let Some((head, length)) = read_head(&mut stream, &mut bytes).await {
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let rest = bytes.split_off(length);
        let body = std::mem::replace(&mut bytes, rest);
        let text = String::from_utf8_lossy(&body).into_owned();
        let mood = mood.lock().unwrap().clone();
        let delivery = Delivery {
            headers: head,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            bytes: body,
            text,
        };
        book.deliveries.lock().unwrap().push(delivery);
        book.came.notify_waiters();
        let answer = match mood {
            Mood::Answers(204) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Mood::Answers(status) => {
                format!("HTTP/1.1 {status} As It Is\r\ncontent-length: 4\r\n\r\nbody")
            }
            Mood::Redirects(to) => {
                format!("HTTP/1.1 307 There\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
            }
            Mood::Silent => std::future::pending().await,
            Mood::Endless => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(chunk.as_bytes()).await;
                }
                return;
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The headers of the next request, and how long its body is. What was read behind them stays.
async fn read_head(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
) -> Option<(BTreeMap<String, String>, usize)> {
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let rest = bytes.split_off(end + 4);
    let head = String::from_utf8(std::mem::replace(bytes, rest)).unwrap();
    let headers: BTreeMap<String, String> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length")?.parse().ok()?;
    Some((headers, length))
}
