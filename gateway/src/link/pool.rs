//! Connections to nodes, kept by each worker thread for itself: no lock is taken and no thread is
//! woken for a call. HTTP/1.1 framing is hyper's (no parser of ours: message framing is where
//! proxies get hurt).
//!
//! A connection carries one call at a time. It comes back when the answer's last byte was read,
//! and ends with an answer that was not read to its end, so no answer can be taken for another's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::web::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::request::Request;
use hyper::http::response;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use super::node::{Node, NodeStream, UnderWay};
use super::{Attempt, NodeError, RegionLink};

/// A call, as it is sent.
pub type Call = Request<Full<Bytes>>;

type Sender = SendRequest<Full<Bytes>>;

/// Most connections to one node that a worker keeps without a call.
const MOST_IDLE: usize = 256;
/// A node's answer has a dozen headers; more than this is no node.
const MOST_ANSWER_HEADERS: usize = 64;

/// A connection without a call.
struct Idle {
    sender: Sender,
    since: Instant,
}

thread_local! {
    /// By the number of the node; those used last are at the end.
    static IDLE: RefCell<HashMap<usize, Vec<Idle>>> = RefCell::default();
}

impl RegionLink {
    /// One attempt: sends the call that `build` makes to a node, over a connection that is at hand
    /// or a new one.
    ///
    /// # Errors
    /// [`Attempt`], which says whether anything was sent.
    pub async fn attempt(
        &self,
        node: &Arc<Node>,
        deadline: Instant,
        build: impl Fn(&Node) -> Call,
    ) -> Result<Answer, Attempt> {
        let under_way = node.begin();
        let mut call = None;
        loop {
            let (mut sender, is_new) = match take_idle(node, self.idle_timeout).await {
                Some(sender) => (sender, false),
                None => (connect(node, self.connect_timeout, deadline).await?, true),
            };
            let sent = sender.try_send_request(call.take().unwrap_or_else(|| build(node)));
            let sent = async {
                tokio::select! {
                    biased;
                    sent = sent => Ok(sent),
                    () = node.lost() => Err(Attempt::Unanswered(NodeError::Lost)),
                }
            };
            match timeout_at(deadline, sent).await {
                Err(_elapsed) => return Err(Attempt::Deadline),
                Ok(Err(lost)) => return Err(lost),
                Ok(Ok(Ok(answer))) => {
                    let (head, body) = answer.into_parts();
                    let mut answer = Answer {
                        head,
                        body,
                        connection: Some((node.number(), sender)),
                        deadline,
                        alarm: None,
                        _under_way: under_way,
                    };
                    answer.give_back_at_end();
                    return Ok(answer);
                }
                Ok(Ok(Err(mut error))) => match error.take_message() {
                    // The node had closed it: nothing of the call was written.
                    Some(unsent) if !is_new => call = Some(unsent),
                    Some(_unsent) => {
                        return Err(Attempt::NotSent(NodeError::Broken(error.into_error())));
                    }
                    None => {
                        return Err(Attempt::Unanswered(NodeError::Broken(error.into_error())));
                    }
                },
            }
        }
    }
}

async fn take_idle(node: &Node, idle_timeout: Duration) -> Option<Sender> {
    loop {
        let mut sender = IDLE.with_borrow_mut(|all| {
            let idle = all.get_mut(&node.number())?;
            let Idle { sender, since } = idle.pop()?;
            if since.elapsed() > idle_timeout {
                // All others have been waiting for longer.
                idle.clear();
                return None;
            }
            Some(sender)
        })?;
        // An answer that was read a moment ago may still have to be noticed by its connection.
        if sender.ready().await.is_ok() {
            return Some(sender);
        }
    }
}

fn keep_idle(number: usize, sender: Sender) {
    if sender.is_closed() {
        return;
    }
    IDLE.with_borrow_mut(|all| {
        let idle = all.entry(number).or_default();
        if idle.len() < MOST_IDLE {
            let since = Instant::now();
            idle.push(Idle { sender, since });
        }
    });
}

async fn connect(
    node: &Node,
    connect_timeout: Duration,
    deadline: Instant,
) -> Result<Sender, Attempt> {
    let connecting = timeout(connect_timeout, node.connect());
    let stream = match timeout_at(deadline, connecting).await {
        Err(_elapsed) => return Err(Attempt::Deadline),
        Ok(Err(_elapsed)) => return Err(Attempt::NotSent(NodeError::ConnectTimeout)),
        Ok(Ok(Err(error))) => return Err(Attempt::NotSent(NodeError::Connect(error))),
        Ok(Ok(Ok(stream))) => stream,
    };
    match stream {
        NodeStream::Plain(stream) => begin(stream).await,
        NodeStream::Tls(stream) => begin(stream).await,
    }
}

async fn begin<S>(stream: S) -> Result<Sender, Attempt>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_headers(MOST_ANSWER_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Attempt::NotSent(NodeError::Broken(error)))?;
    // What goes wrong on it is told to whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// A node's answer, whose body is still to be read.
#[derive(Debug)]
pub struct Answer {
    /// Status and headers.
    pub head: response::Parts,
    body: Incoming,
    /// Kept for the next call when the body was read to its end.
    connection: Option<(usize, Sender)>,
    deadline: Instant,
    /// Set when a part of the body is waited for.
    alarm: Option<Pin<Box<Sleep>>>,
    _under_way: UnderWay,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The connection ended before the body did.
    #[error("the node's answer broke off")]
    Broken(#[source] hyper::Error),
    /// The time was over.
    #[error("the node's answer did not end in time")]
    Deadline,
    /// It is larger than an answer may be.
    #[error("the node's answer is too large")]
    TooLarge,
}

impl Answer {
    /// Length of the body in bytes, where it is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next part of the body. The time in which the call must be answered holds for all of it.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        // Also where there is always more to pass on, as to a client that reads a little at a time:
        // the node holds the rest of the answer meanwhile.
        if Instant::now() >= self.deadline {
            self.connection = None;
            return Poll::Ready(Some(Err(AnswerError::Deadline)));
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                let deadline = self.deadline;
                let alarm = self
                    .alarm
                    .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                std::task::ready!(alarm.as_mut().poll(cx));
                self.connection = None;
                return Poll::Ready(Some(Err(AnswerError::Deadline)));
            };
            let part = match frame {
                None => None,
                Some(Err(error)) => Some(Err(AnswerError::Broken(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(part) => Some(Ok(part)),
                    // Trailers say nothing to us.
                    Err(_trailers) => continue,
                },
            };
            match &part {
                Some(Err(_)) => self.connection = None,
                _ => self.give_back_at_end(),
            }
            return Poll::Ready(part);
        }
    }

    /// Reads the rest of the body away, so that the connection can be used again.
    pub async fn discard(mut self) {
        while let Some(Ok(_)) = std::future::poll_fn(|cx| self.poll_part(cx)).await {}
    }

    fn give_back_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some((number, sender)) = self.connection.take()
        {
            keep_idle(number, sender);
        }
    }
}
