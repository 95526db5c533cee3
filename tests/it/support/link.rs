//! [`Link`]: a TCP connection between two programs that can be slow, go silent or break, at every
//! stage of a call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of what the two say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Passes,
    /// Each part of an answer comes so much later.
    Slow(Duration),
    /// What the client asks still reaches the server; the answers do not come back.
    Silent,
    /// Connections come up, and nothing passes in either direction.
    Hangs,
    /// Of what the server says on a connection, so many bytes pass; then the connection is reset.
    ResetAfter(usize),
    /// The same, and then the connection ends as if the server had said everything.
    CutAfter(usize),
    /// Open connections end, and so does every new one.
    Broken,
}

/// Passes bytes on to a server.
pub struct Link {
    pub address: SocketAddr,
    opened: Arc<AtomicUsize>,
    state: Arc<watch::Sender<State>>,
}

impl Link {
    /// A link that works.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State::Passes));
        let states = state.clone();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = opened.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let states = states.clone();
                tokio::spawn(async move {
                    if *states.borrow() != State::Broken
                        && let Ok(server) = TcpStream::connect(server).await
                    {
                        pass(client, server, states.subscribe()).await;
                    }
                });
            }
        });
        Self {
            address,
            opened,
            state,
        }
    }

    /// How many connections there have been.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// From now on it is so.
    pub fn is(&self, state: State) {
        self.state.send_replace(state);
    }

    /// From now on nothing is heard of the server.
    pub fn goes_silent(&self) {
        self.is(State::Silent);
    }

    /// All connections end.
    pub fn breaks(&self) {
        self.is(State::Broken);
    }

    /// New connections work.
    pub fn works(&self) {
        self.is(State::Passes);
    }
}

async fn pass(client: TcpStream, server: TcpStream, state: watch::Receiver<State>) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut broken = state.clone();
    let reset = tokio::select! {
        () = ask(from_client, to_server, state.clone()) => false,
        reset = answer(from_server, &to_client, state) => reset,
        _ = broken.wait_for(|state| *state == State::Broken) => false,
    };
    if reset {
        let _ = to_client.as_ref().set_zero_linger();
    }
}

/// Copies what the client says until it ends.
async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // Whoever watches is gone when the test is.
        if state
            .wait_for(|state| *state != State::Hangs)
            .await
            .is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}

/// Copies what the server says until it ends; answers whether the connection is to be reset.
async fn answer(
    mut from: OwnedReadHalf,
    to: &OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if state
            .wait_for(|state| *state != State::Hangs)
            .await
            .is_err()
        {
            return false;
        }
        let now = *state.borrow();
        let allowed = match now {
            State::Silent => 0,
            State::ResetAfter(most) | State::CutAfter(most) => length.min(most - passed.min(most)),
            State::Slow(pause) => {
                tokio::time::sleep(pause).await;
                length
            }
            State::Passes | State::Hangs | State::Broken => length,
        };
        if write_all(to, &buffer[..allowed]).await.is_err() {
            return false;
        }
        passed += allowed;
        match now {
            State::ResetAfter(_) if allowed < length => return true,
            State::CutAfter(_) if allowed < length => return false,
            _ => {}
        }
    }
    false
}

async fn write_all(to: &OwnedWriteHalf, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
