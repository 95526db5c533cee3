//! Connections to nodes, kept by each worker thread for itself: no lock is taken and no thread or
//! task is woken for a call; whoever calls reads and writes the connection. Answers are taken apart
//! in `answer`.
//!
//! A connection carries one call at a time. It comes back when the answer's last byte was read,
//! and ends with an answer that was not read to its end, so no answer can be taken for another's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_codec::Decoder as _;
use actix_http::ServiceConfig;
use actix_http::h1::ClientCodec;
use actix_web::web::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use super::answer::{self, AnswerHead, Begun, Framing};
use super::beat;
use super::node::{LOOK_EVERY, Node, NodeStream, UnderWay};
use super::{Attempt, NodeError, RegionLink};

/// Most connections to one node that a worker keeps without a call.
const MOST_IDLE: usize = 256;
/// Room for a read. Most answers come whole in one.
const READ_BYTES: usize = 16 * 1024;
/// A body up to this size goes out with the head, in one write.
const SMALL_BODY: usize = 16 * 1024;

/// A connection to a node.
#[derive(Debug)]
struct Connection {
    io: NodeStream,
    /// What was read and belongs to no message yet.
    read: BytesMut,
    /// The head that is sent.
    write: BytesMut,
}

/// A connection without a call.
struct Idle {
    connection: Box<Connection>,
    /// When its last call began.
    since: Instant,
}

/// A connection that carries a call.
struct Carrier {
    connection: Box<Connection>,
    /// The number of its node.
    node: usize,
    /// When the call began.
    since: Instant,
}

thread_local! {
    /// By the number of the node; those used last are at the end.
    static IDLE: RefCell<HashMap<usize, Vec<Idle>>> = RefCell::default();
    /// What the codec wants to know of a service; it keeps a clock, so there is one for all.
    static CODEC_CONFIG: ServiceConfig = ServiceConfig::default();
}

impl RegionLink {
    /// One attempt: sends a call to a node, over a connection that is at hand or a new one.
    /// `write_head` writes its head, and is told how much time is left for the answer.
    ///
    /// # Errors
    /// [`Attempt`], which says whether anything was sent.
    pub async fn attempt(
        &self,
        node: Arc<Node>,
        deadline: Instant,
        write_head: impl Fn(&Node, Duration, &mut BytesMut),
        body: &Bytes,
    ) -> Result<Answer, Attempt> {
        beat::keep();
        let under_way = UnderWay::begin(node);
        let node = under_way.node();
        loop {
            let now = Instant::now();
            let (mut connection, is_new) = match take_idle(node, now, self.idle_timeout) {
                Some(connection) => (connection, false),
                // In a box: it is rare, and its room would be moved with every call.
                None => {
                    let connecting = Box::pin(connect(node, self.connect_timeout, deadline));
                    (connecting.await?, true)
                }
            };
            connection.write.clear();
            let left = deadline.saturating_duration_since(now);
            write_head(node, left, &mut connection.write);
            let mut exchange = Exchange::begin(&mut connection, body);
            let losses = node.losses();
            let mut looked = now;
            let exchanged = loop {
                // One timer for both: most answers are here long before it is looked at.
                let look = deadline.min(looked + LOOK_EVERY);
                let head = std::future::poll_fn(|cx| exchange.poll(&mut connection, cx));
                match timeout_at(look, head).await {
                    Ok(head) => break head,
                    Err(_elapsed) if node.losses() != losses => break Err(NodeError::Lost),
                    Err(_elapsed) if look == deadline => return Err(Attempt::Deadline),
                    Err(_elapsed) => looked = Instant::now(),
                }
            };
            match exchanged {
                Ok(mut begun) => {
                    begun.is_lasting &= exchange.is_sent();
                    let carrier = Carrier {
                        connection,
                        node: node.number(),
                        since: now,
                    };
                    return Ok(Answer::new(begun, carrier, deadline, under_way));
                }
                // The node had closed it: nothing of the call was written.
                Err(_) if exchange.is_untouched() && !is_new => {}
                Err(error) if exchange.is_untouched() => return Err(Attempt::NotSent(error)),
                Err(error) => return Err(Attempt::Unanswered(error)),
            }
        }
    }
}

fn take_idle(node: &Node, now: Instant, idle_timeout: Duration) -> Option<Box<Connection>> {
    loop {
        let mut connection = IDLE.with_borrow_mut(|all| {
            let idle = all.get_mut(&node.number())?;
            let Idle { connection, since } = idle.pop()?;
            if now.saturating_duration_since(since) > idle_timeout {
                // All others have been waiting for longer.
                idle.clear();
                return None;
            }
            Some(connection)
        })?;
        if connection.is_quiet() {
            return Some(connection);
        }
    }
}

fn keep_idle(carrier: Carrier) {
    let Carrier {
        connection,
        node,
        since,
    } = carrier;
    IDLE.with_borrow_mut(|all| {
        let idle = all.entry(node).or_default();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { connection, since });
        }
    });
}

async fn connect(
    node: &Node,
    connect_timeout: Duration,
    deadline: Instant,
) -> Result<Box<Connection>, Attempt> {
    let connecting = timeout(connect_timeout, node.connect());
    match timeout_at(deadline, connecting).await {
        Err(_elapsed) => Err(Attempt::Deadline),
        Ok(Err(_elapsed)) => Err(Attempt::NotSent(NodeError::ConnectTimeout)),
        Ok(Ok(Err(error))) => Err(Attempt::NotSent(NodeError::Connect(error))),
        Ok(Ok(Ok(io))) => Ok(Box::new(Connection {
            io,
            read: BytesMut::with_capacity(READ_BYTES),
            write: BytesMut::new(),
        })),
    }
}

impl Connection {
    /// Reads what there is. Zero bytes are the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read.capacity() - self.read.len() < READ_BYTES / 8 {
            self.read.reserve(READ_BYTES);
        }
        // Stateless, so it can be made anew for each look.
        match &mut self.io {
            NodeStream::Plain(io) => pin!(io.read_buf(&mut self.read)).poll(cx),
            NodeStream::Tls(io) => pin!(io.read_buf(&mut self.read)).poll(cx),
        }
    }

    /// Whether the node has neither closed it nor said anything that nobody asked for.
    fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.read.is_empty() && self.poll_read(&mut cx).is_pending()
    }
}

fn poll_write(io: &mut NodeStream, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match io {
        NodeStream::Plain(io) => pin!(io.write(bytes)).poll(cx),
        NodeStream::Tls(io) => pin!(io.write(bytes)).poll(cx),
    }
}

fn poll_flush(io: &mut NodeStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    match io {
        NodeStream::Plain(_) => Poll::Ready(Ok(())),
        NodeStream::Tls(io) => pin!(io.flush()).poll(cx),
    }
}

/// A call on its way out, and the head of its answer on its way in. Both at once: a node may answer
/// before it has read all.
struct Exchange<'b> {
    /// Where it does not go out with the head.
    body: &'b [u8],
    /// How much of head and body is written.
    written: (usize, usize),
    is_flushed: bool,
    write_error: Option<io::Error>,
}

impl<'b> Exchange<'b> {
    fn begin(connection: &mut Connection, body: &'b Bytes) -> Self {
        let body = match body.len() {
            0..=SMALL_BODY => {
                connection.write.extend_from_slice(body);
                &[]
            }
            _ => body.as_ref(),
        };
        Self {
            body,
            written: (0, 0),
            is_flushed: false,
            write_error: None,
        }
    }

    fn is_sent(&self) -> bool {
        self.is_flushed
    }

    /// Whether nothing was written.
    fn is_untouched(&self) -> bool {
        self.written == (0, 0)
    }

    fn poll(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Begun, NodeError>> {
        if !self.is_flushed
            && self.write_error.is_none()
            && let Poll::Ready(Err(error)) = self.poll_send(connection, cx)
        {
            // It may have answered before it stopped reading.
            self.write_error = Some(error);
        }
        loop {
            if !connection.read.is_empty() {
                match answer::begin(&mut connection.read, new_codec) {
                    Ok(Some(begun)) => return Poll::Ready(Ok(begun)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(NodeError::Malformed(error))),
                }
            }
            let read = match connection.poll_read(cx) {
                Poll::Ready(read) => read,
                Poll::Pending => match self.write_error.take() {
                    Some(error) => Err(error),
                    None => return Poll::Pending,
                },
            };
            match read {
                Ok(0) => {
                    let error = self.write_error.take();
                    let error = error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Poll::Ready(Err(NodeError::Broken(error)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(NodeError::Broken(error))),
            }
        }
    }

    fn poll_send(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Connection { io, write, .. } = connection;
        let (of_head, of_body) = &mut self.written;
        for (bytes, written) in [(&**write, of_head), (self.body, of_body)] {
            while let Some(left) = bytes.get(*written..).filter(|left| !left.is_empty()) {
                match ready!(poll_write(io, left, cx))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => *written += count,
                }
            }
        }
        ready!(poll_flush(io, cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }
}

fn new_codec() -> ClientCodec {
    CODEC_CONFIG.with(|config| ClientCodec::new(config.clone()))
}

/// A node's answer, whose body is still to be read.
pub struct Answer {
    /// Status and headers.
    pub head: AnswerHead,
    length: Option<u64>,
    /// Whether a part of the body was handed out.
    has_begun: bool,
    /// What of the body is still to come; none where all of it was read.
    rest: Option<Framing>,
    /// Kept for the next call when the body was read to its end.
    carrier: Option<Carrier>,
    /// Whether the connection can carry another call.
    is_lasting: bool,
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
    Broken(#[source] io::Error),
    /// The body is no HTTP.
    #[error("the node's answer is malformed")]
    Malformed(#[source] actix_http::error::PayloadError),
    /// The time was over.
    #[error("the node's answer did not end in time")]
    Deadline,
    /// It is larger than an answer may be.
    #[error("the node's answer is too large")]
    TooLarge,
}

impl Answer {
    /// An answer whose head was read.
    fn new(begun: Begun, carrier: Carrier, deadline: Instant, under_way: UnderWay) -> Self {
        let length = match begun.framing {
            Framing::Left(length) => Some(length),
            Framing::Chunked(_) => None,
        };
        let mut answer = Self {
            head: begun.head,
            length,
            has_begun: false,
            rest: Some(begun.framing),
            carrier: Some(carrier),
            is_lasting: begun.is_lasting,
            deadline,
            alarm: None,
            _under_way: under_way,
        };
        if length == Some(0) {
            answer.give_back();
        }
        answer
    }

    /// Length of the body in bytes, where it is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next part of the body. The time in which the call must be answered holds for all of it.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        // Also where there is always more to pass on, as to a client that reads a little at a time:
        // the node holds the rest of the answer meanwhile. Most bodies are one part.
        let is_over = self.has_begun && self.rest.is_some() && Instant::now() >= self.deadline;
        let part = match is_over {
            true => Some(Err(AnswerError::Deadline)),
            false => ready!(self.poll_body(cx)),
        };
        match &part {
            Some(Ok(_)) => {
                self.has_begun = true;
                if let Some(Framing::Left(0)) = self.rest {
                    self.give_back();
                }
            }
            Some(Err(_)) => self.give_up(),
            None => self.give_back(),
        }
        Poll::Ready(part)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        let (Some(rest), Some(carrier)) = (&mut self.rest, &mut self.carrier) else {
            return Poll::Ready(None);
        };
        let connection = &mut carrier.connection;
        loop {
            match rest {
                Framing::Left(left) if !connection.read.is_empty() => {
                    let here = connection.read.len();
                    let part = usize::try_from(*left).map_or(here, |left| left.min(here));
                    *left -= part as u64;
                    return Poll::Ready(Some(Ok(connection.read.split_to(part).freeze())));
                }
                Framing::Left(_) => {}
                Framing::Chunked(codec) => match codec.decode(&mut connection.read) {
                    Ok(Some(part)) => return Poll::Ready(part.map(Ok)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(AnswerError::Malformed(error)))),
                },
            }
            let Poll::Ready(read) = connection.poll_read(cx) else {
                let deadline = self.deadline;
                let alarm = self
                    .alarm
                    .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                ready!(alarm.as_mut().poll(cx));
                return Poll::Ready(Some(Err(AnswerError::Deadline)));
            };
            match read {
                Ok(0) => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Poll::Ready(Some(Err(AnswerError::Broken(error))));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(AnswerError::Broken(error)))),
            }
        }
    }

    /// Reads the rest of the body away, so that the connection can be used again.
    pub async fn discard(mut self) {
        while let Some(Ok(_)) = std::future::poll_fn(|cx| self.poll_part(cx)).await {}
    }

    /// The last byte was read.
    fn give_back(&mut self) {
        self.rest = None;
        self.alarm = None;
        if let Some(carrier) = self.carrier.take()
            && self.is_lasting
            && carrier.connection.read.is_empty()
        {
            keep_idle(carrier);
        }
    }

    fn give_up(&mut self) {
        self.rest = None;
        self.alarm = None;
        self.carrier = None;
    }
}
