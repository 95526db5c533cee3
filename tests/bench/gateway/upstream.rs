//! The far end of every peer: answers as a region-node does, as cheaply as can be. It is a process
//! of its own, so that what it uses is mixed with nothing that is measured. It is the collector of
//! traces and figures as well.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value};
use shared::link::{HEALTH_PATH, REQUEST_ID, RESOLVE_PATH, ResolveAnswer, ResolveRequest};
use shared::urn::{JSON, SCIM_JSON};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::client::{content_length, find, header};
use crate::common::program::Program;
use crate::tokens;

/// The argument by which this program is told to be the far end.
pub(crate) const ARGUMENT: &str = "--upstream";
/// The id of a user that is not answered with a user but with the headers that came.
pub(crate) const ECHO: &str = "00000000-0000-0000-0000-000000000000";
/// Length of a user, in bytes.
pub(crate) const USER_BYTES: usize = 900;

/// Starts the far end, which takes some time for each call or none; answers where it listens.
pub(crate) fn start(takes: Option<Duration>) -> (Program, SocketAddr) {
    let own = std::env::current_exe().expect("a program has a path");
    let mut command = Command::new(own);
    command.arg(ARGUMENT);
    if let Some(takes) = takes {
        command.arg(takes.as_millis().to_string());
    }
    let mut program = Program::start(command.stdout(Stdio::piped()));
    let mut said = String::new();
    let output = program.child().stdout.take().expect("it is piped");
    let read = BufReader::new(output).read_line(&mut said);
    read.expect("the far end says where it listens");
    let address = said.trim().parse().expect("an address");
    (program, address)
}

/// Is the far end, until it is ended. `takes_ms` is how long a call takes.
pub(crate) async fn serve(takes_ms: Option<u64>) {
    let takes = takes_ms.map(Duration::from_millis);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("it is bound"));
    let user: &'static str = user().leak();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(serve_connection(stream, user, takes));
    }
}

async fn serve_connection(mut stream: TcpStream, user: &str, takes: Option<Duration>) {
    stream.set_nodelay(true).expect("a socket of our own");
    let mut received = Vec::with_capacity(16 * 1024);
    let mut answer = String::with_capacity(4096);
    loop {
        let (head, end) = loop {
            if let Some(end) = find(&received, b"\r\n\r\n") {
                let head = std::str::from_utf8(&received[..end]).expect("a head is ASCII");
                break (end + 4, end + 4 + content_length(head));
            }
            // A peer ends connections as it likes.
            if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
                return;
            }
        };
        while received.len() < end {
            if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
                return;
            }
        }
        answer.clear();
        let text = std::str::from_utf8(&received[..head]).expect("a head is ASCII");
        write_answer(text, &received[head..end], user, &mut answer);
        let is_call = !text.contains(RESOLVE_PATH) && !text.contains(HEALTH_PATH);
        received.drain(..end);
        if let (Some(takes), true) = (takes, is_call) {
            tokio::time::sleep(takes).await;
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn write_answer(head: &str, body: &[u8], user: &str, answer: &mut String) {
    let mut words = head.split(' ');
    let target = words.nth(1).expect("a request has a target");
    let id = header(head, REQUEST_ID).unwrap_or_default();
    let other;
    let (media_type, body) = if target == HEALTH_PATH {
        (JSON, "{}")
    } else if target.starts_with("/v1/") {
        // A collector takes everything, and an empty message says so.
        ("application/x-protobuf", "")
    } else if target == RESOLVE_PATH {
        other = resolve(body);
        (JSON, other.as_str())
    } else if target.ends_with(ECHO) {
        other = headers(head);
        (SCIM_JSON, other.as_str())
    } else {
        (SCIM_JSON, user)
    };
    // Writing to a text never fails.
    let _ = write!(
        answer,
        "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\
         etag: W/\"17\"\r\n{REQUEST_ID}: {id}\r\n\r\n{body}",
        body.len()
    );
}

fn resolve(body: &[u8]) -> String {
    let question: ResolveRequest = serde_json::from_slice(body).expect("a question about a token");
    let answer = ResolveAnswer::Granted(tokens::resolved(question.digest));
    serde_json::to_string(&answer).expect("an answer is JSON")
}

/// The headers of a request, as a JSON object with names in lower case.
fn headers(head: &str) -> String {
    let lines = head.split("\r\n").skip(1);
    let all = lines.filter_map(|line| line.split_once(':'));
    let all: Map<String, Value> = all
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().into()))
        .collect();
    Value::Object(all).to_string()
}

/// A user of 900 bytes.
fn user() -> String {
    let begin = concat!(
        r#"{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","#,
        r#""urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"#,
        r#""id":"0190a5c2-7d3e-7c41-9a55-2f1b6c8d9e0f","externalId":"00u1a2b3c4d5e6f7g8h9","#,
        r#""userName":"amara.lindqvist@example.com","active":true,"displayName":"Amara Lindqvist","#,
        r#""name":{"givenName":"Amara","familyName":"Lindqvist","formatted":"Amara Lindqvist"},"#,
        r#""emails":[{"value":"amara.lindqvist@mail.example.com","type":"work","primary":true}],"#,
        r#""urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":"#,
        r#"{"department":"Research","employeeNumber":"17"},"#,
        r#""meta":{"resourceType":"User","version":"W/\"17\"","#,
        r#""location":"https://global-us.example.com/api/v1/scim/Users/"#,
        r#"0190a5c2-7d3e-7c41-9a55-2f1b6c8d9e0f"},"title":""#,
    );
    let end = r#""}"#;
    let title = "Engineer ".repeat(USER_BYTES);
    format!(
        "{begin}{}{end}",
        &title[..USER_BYTES - begin.len() - end.len()]
    )
}
