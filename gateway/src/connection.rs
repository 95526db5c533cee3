//! One client connection, below HTTP: the time limits that actix-http does not have, and a SCIM
//! body for the refusals that it makes by itself.
//!
//! actix-http limits the time of a connection's first header only. Here the header of every
//! further request has its limit too, a client that takes nothing of its answer is cut off, and a
//! connection that is to be closed does not stay for a body that nobody reads. How long a connection
//! is kept without a request is also counted here: one timer that is set rarely, where actix-http
//! makes and ends one with each request. Framing errors end inside actix-http, as a bare status
//! line; the bytes are exchanged for a SCIM answer on their way out. All of this is the same for
//! plain and for encrypted connections; how one becomes encrypted is in `tls`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use shared::api_token::random_base62;
use shared::{Dialect, ScimError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use crate::host::RegionalHost;
use crate::limits::network;
use crate::telemetry::RequestRecord;

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// For the header of a request.
    pub header_read: Duration,
    /// Without a request, after the first.
    pub keep_alive: Duration,
    /// Without a byte taken.
    pub write_stall: Duration,
    /// To notice that it is closed.
    pub linger: Duration,
}

/// What the connection is doing, as far as HTTP has told it.
#[derive(Debug, Default)]
pub struct Activity {
    serving: Cell<bool>,
    /// When the last request had its answer.
    served: Cell<Option<Instant>>,
    header_since: Cell<Option<Instant>>,
    close_at: Cell<Option<Instant>>,
    abandoned: Cell<bool>,
    /// Of the request whose answer is being sent; told by being dropped.
    untold: RefCell<Option<RequestRecord>>,
}

impl Activity {
    /// Whether the connection ends after an answer that was given already.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.close_at.get().is_some()
    }

    /// Since when there has been no request, or no more of one than a part of its header. Nothing
    /// before the first: actix-http limits its time.
    fn unserved(&self) -> Option<Instant> {
        self.served.get().filter(|_| !self.serving.get())
    }
}

/// A request is being served. Ends when dropped.
#[derive(Debug)]
pub struct Serving {
    activity: Option<Rc<Activity>>,
    answered: bool,
    /// When the answer was complete.
    ended: Option<Instant>,
    close_in: Option<Duration>,
}

impl Serving {
    /// The header of a request is complete.
    #[must_use]
    pub fn begin(activity: Option<Rc<Activity>>) -> Self {
        if let Some(activity) = &activity {
            activity.serving.set(true);
            activity.header_since.set(None);
        }
        Self {
            activity,
            answered: false,
            ended: None,
            close_in: None,
        }
    }

    /// There is an answer; it may still have to be sent.
    pub fn answered(&mut self) {
        self.answered = true;
    }

    /// The answer's last byte is there. What there is to tell of the request is told when it was
    /// sent, or never will be.
    pub fn tell_when_sent(&mut self, record: RequestRecord, ended: Instant) {
        self.ended = Some(ended);
        if let Some(activity) = &self.activity {
            // One before it, whose answer goes out together with this one.
            let before = activity.untold.replace(Some(record));
            drop(before);
        }
    }

    /// After the answer the connection ends, whatever of the request is still to come.
    pub fn close_after(&mut self, linger: Duration) {
        self.close_in = Some(linger);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            let now = self.ended.unwrap_or_else(Instant::now);
            activity.serving.set(false);
            activity.served.set(Some(now));
            activity.header_since.set(None);
            activity.abandoned.set(!self.answered);
            if let Some(linger) = self.close_in {
                activity.close_at.set(Some(now + linger));
            }
        }
    }
}

/// The bytes on the network. Knows since when the other side has taken none: TLS has a buffer of
/// its own above, so that only here it can be seen.
#[derive(Debug)]
pub struct Wire {
    io: TcpStream,
    blocked_since: Option<Instant>,
}

impl Wire {
    /// An accepted connection.
    #[must_use]
    pub fn new(io: TcpStream) -> Self {
        Self {
            io,
            blocked_since: None,
        }
    }

    /// The first byte that the client sends, which stays to be read; `None` if it sends none.
    ///
    /// # Errors
    /// As the operating system says.
    pub async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let count = self.io.peek(&mut first).await?;
        Ok(first.first().copied().filter(|_| count > 0))
    }

    fn noting<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.blocked_since = None;
        } else {
            self.blocked_since.get_or_insert_with(Instant::now);
        }
        written
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buffer);
        self.noting(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        self.noting(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(Wire),
    /// Within TLS.
    Tls(Box<TlsStream<Wire>>),
}

impl Stream {
    fn wire(&self) -> &Wire {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The host that a client named when its connection was encrypted (RFC 6066 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(pub RegionalHost);

/// A client connection.
#[derive(Debug)]
pub struct Connection {
    io: Option<Stream>,
    server_name: Option<ServerName>,
    activity: Rc<Activity>,
    limits: ConnectionLimits,
    alarm: Option<Pin<Box<Sleep>>>,
    exchange: Option<Exchange>,
    client_gone: bool,
    /// Stays until the last byte was read.
    seat: Option<Seat>,
}

/// A SCIM answer on its way out in place of a bare one.
#[derive(Debug)]
struct Exchange {
    answer: Vec<u8>,
    sent: usize,
    in_place_of: usize,
}

impl Connection {
    /// Wraps an accepted connection; an encrypted one with the name that the client gave.
    #[must_use]
    pub fn new(
        (io, server_name): (Stream, Option<ServerName>),
        limits: ConnectionLimits,
        seat: Seat,
    ) -> Self {
        Self {
            io: Some(io),
            server_name,
            activity: Rc::default(),
            limits,
            alarm: None,
            exchange: None,
            client_gone: false,
            seat: Some(seat),
        }
    }

    /// What HTTP tells the connection through.
    #[must_use]
    pub fn activity(&self) -> Rc<Activity> {
        Rc::clone(&self.activity)
    }

    /// The host that an encrypted connection is for.
    #[must_use]
    pub fn server_name(&self) -> Option<&ServerName> {
        self.server_name.as_ref()
    }

    fn io(&mut self) -> io::Result<Pin<&mut Stream>> {
        let io = self.io.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(io))
    }

    /// The next moment at which this connection's patience ends.
    fn deadline(&self) -> Option<Instant> {
        let activity = &self.activity;
        let header = activity
            .unserved()
            .map(|since| match activity.header_since.get() {
                Some(since) => since + self.limits.header_read,
                None => since + self.limits.keep_alive,
            });
        let blocked_since = self.io.as_ref().and_then(|io| io.wire().blocked_since);
        let write = blocked_since.map(|since| since + self.limits.write_stall);
        let ends = [header, write, activity.close_at.get()];
        ends.into_iter().flatten().min()
    }

    /// Whether a connection whose patience has ended was just not used for too long. Then it ends as
    /// if its client had ended it, and in order.
    fn is_unused(&self) -> bool {
        let Activity {
            header_since,
            close_at,
            ..
        } = &*self.activity;
        let is_blocked = self
            .io
            .as_ref()
            .is_some_and(|io| io.wire().blocked_since.is_some());
        header_since.get().is_none() && close_at.get().is_none() && !is_blocked
    }

    /// Whether patience has ended; if not, wakes the task when it does.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(deadline) = self.deadline() {
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if alarm.deadline() > deadline || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
            match alarm.as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(()) if Instant::now() >= deadline => return true,
                // It was set for something that has come in the meantime.
                Poll::Ready(()) => {}
            }
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.io()?.poll_read(cx, buffer);
        let closing = self.activity.close_at.get();
        match read {
            Poll::Ready(Ok(())) if closing.is_some_and(|at| Instant::now() >= at) => {
                buffer.set_filled(before);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(Ok(())) => {
                self.client_gone |= buffer.filled().len() == before;
                let activity = &self.activity;
                if !activity.serving.get() && activity.header_since.get().is_none() {
                    activity.header_since.set(Some(Instant::now()));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.client_gone = true;
                Poll::Ready(Err(error))
            }
            Poll::Pending if !self.poll_patience(cx) => Poll::Pending,
            Poll::Pending if self.is_unused() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.exchange.is_none()
            && let Some(answer) = scim_answer_for(buffer)
        {
            this.exchange = Some(Exchange {
                answer,
                sent: 0,
                in_place_of: buffer.len(),
            });
        }
        let io = this.io.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let written = match &mut this.exchange {
            Some(exchange) if exchange.in_place_of > 0 => loop {
                let rest = exchange.answer.get(exchange.sent..).unwrap_or_default();
                if rest.is_empty() {
                    break Poll::Ready(Ok(std::mem::take(&mut exchange.in_place_of)));
                }
                match Pin::new(&mut *io).poll_write(cx, rest) {
                    Poll::Ready(Ok(count)) => exchange.sent += count,
                    other => break other,
                }
            },
            _ => Pin::new(io).poll_write(cx, buffer),
        };
        match written {
            Poll::Pending if this.poll_patience(cx) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.io()?.poll_flush(cx);
        match flushed {
            Poll::Pending if self.poll_patience(cx) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending => {}
            Poll::Ready(_) => drop(self.activity.untold.take()),
        }
        // The dispatcher may not read again before the client sends; the alarm must be set now.
        if !self.activity.serving.get() && self.poll_patience(cx) {
            cx.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(cx)
    }
}

impl Drop for Connection {
    /// Two things are left to do for a client that sent something malformed. actix-http drops a
    /// request whose chunks are malformed without any answer: that it was one of ours and the
    /// client is still there tells us so. And a connection that is closed with unread bytes
    /// resets, and the reset may overtake the answer that says why, so what the client still
    /// sends is read for a moment. Until then the connection counts for its source.
    fn drop(&mut self) {
        let unanswered = self.activity.abandoned.get() && !self.client_gone;
        let answer = unanswered
            .then(|| scim_answer_for(BARE_BAD_REQUEST))
            .flatten();
        if let Some(mut io) = self.io.take()
            && (answer.is_some() || self.exchange.is_some())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let linger = self.limits.linger;
            let seat = self.seat.take();
            runtime.spawn(async move {
                let _seat = seat;
                let reading = async {
                    io.write_all(&answer.unwrap_or_default()).await?;
                    io.shutdown().await?;
                    let mut rest = [0; 4096];
                    while io.read(&mut rest).await? > 0 {}
                    io::Result::Ok(())
                };
                drop(timeout(linger, reading).await);
            });
        }
    }
}

/// Characters of the id of a request that could not be read.
const REQUEST_ID_LENGTH: usize = 32;
const BARE_BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

/// The SCIM answer for a refusal that actix-http makes by itself: one of three statuses, without
/// a body. An answer of ours always has a body and a request id.
fn scim_answer_for(written: &[u8]) -> Option<Vec<u8>> {
    let status = match written.get(..12)? {
        b"HTTP/1.1 400" | b"HTTP/1.0 400" => 400,
        b"HTTP/1.1 408" | b"HTTP/1.0 408" => 408,
        b"HTTP/1.1 431" | b"HTTP/1.0 431" => 431,
        _ => return None,
    };
    let head = std::str::from_utf8(written).ok()?;
    let is_bare = head.contains("\r\ncontent-length: 0\r\n")
        && head.ends_with("\r\n\r\n")
        && !head.contains("\r\nx-request-id:");
    if !is_bare {
        return None;
    }
    let detail = match status {
        408 => "The request did not arrive in time.",
        431 => "The request header is too large.",
        _ => "The request is no well-formed HTTP/1.1 request.",
    };
    answer_unread(head.lines().next()?, status, detail)
}

/// The answer to plain HTTP where TLS is spoken. No redirect: it would teach a client to go on
/// sending its API token for everybody to read first (failure class 57).
#[must_use]
pub fn answer_to_plain_http() -> Option<Vec<u8>> {
    let detail = "HTTPS only is spoken here: the base URL begins with https://. \
                  What was sent came unencrypted; replace the API token if it was in it.";
    answer_unread("HTTP/1.1 400 Bad Request", 400, detail)
}

fn answer_unread(status_line: &str, status: u16, detail: &str) -> Option<Vec<u8>> {
    // The path was never read, so the dialect is not known.
    let dialect = Dialect::Scim20;
    let body = ScimError::new(status, detail).body(dialect);
    let request_id = random_base62(REQUEST_ID_LENGTH).ok()?;
    let answer = format!(
        "{status_line}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         x-request-id: {request_id}\r\n\r\n{body}",
        dialect.media_type(),
        body.len(),
    );
    Some(answer.into_bytes())
}

/// How many connections each address has; for IPv6, each /64.
#[derive(Clone, Debug)]
pub struct Seats {
    taken: Arc<Mutex<HashMap<IpAddr, u32>>>,
    most: u32,
}

/// One connection's place. Given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    source: IpAddr,
}

impl Seats {
    /// So many for each address.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.values().map(|count| u64::from(*count)).sum()
    }

    /// A place for one more connection of an address, or `None` when it has too many.
    #[must_use]
    pub fn take(&self, source: IpAddr) -> Option<Seat> {
        let source = network(source);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat {
            seats: self.clone(),
            source,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let taken = self.seats.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_exchanged() {
        let bare = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: x\r\n\r\n";
        let answer = String::from_utf8(scim_answer_for(bare).unwrap()).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(body.contains("\"status\":\"400\""));

        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-request-id: 1\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert!(scim_answer_for(other).is_none());
        }
    }

    #[test]
    fn an_address_gets_its_places_back() {
        let seats = Seats::new(2);
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let first = seats.take(source).unwrap();
        let _second = seats.take(source).unwrap();
        assert!(seats.take(source).is_none());
        assert!(seats.take("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        assert!(seats.take(source).is_some());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_share_their_places() {
        let seats = Seats::new(1);
        let take = |source: &str| seats.take(source.parse().unwrap());
        let _first = take("2001:db8::1").unwrap();
        assert!(take("2001:db8::ffff:2").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        // An IPv4 address is one, however it is written.
        let _other = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
    }

    #[tokio::test]
    async fn a_refused_connection_keeps_its_place_until_its_client_is_gone() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (io, peer) = listener.accept().await.unwrap();
        let long = Duration::from_secs(3600);
        let limits = ConnectionLimits {
            header_read: long,
            keep_alive: long,
            write_stall: long,
            linger: long,
        };
        let seats = Seats::new(1);
        let seat = seats.take(peer.ip()).unwrap();
        let stream = Stream::Plain(Wire::new(io));
        let mut connection = Connection::new((stream, None), limits, seat);
        connection.write_all(BARE_BAD_REQUEST).await.unwrap();
        drop(connection);
        // All of the answer is there, and the other side writes nothing more.
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400 "));
        assert!(seats.take(peer.ip()).is_none());
        drop(client);
        while seats.take(peer.ip()).is_none() {
            tokio::task::yield_now().await;
        }
    }
}
