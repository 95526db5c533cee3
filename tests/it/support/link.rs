//! [`Link`]: a TCP connection between two programs that can go silent or break.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of what the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Passes,
    /// What the client asks still reaches the server; the answers do not come back.
    Silent,
    /// Open connections end, and so does every new one.
    Broken,
}

/// Passes bytes on to a server.
pub struct Link {
    pub address: SocketAddr,
    state: Arc<watch::Sender<State>>,
}

impl Link {
    /// A link that works.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State::Passes));
        let states = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *states.borrow() != State::Broken
                    && let Ok(server) = TcpStream::connect(server).await
                {
                    tokio::spawn(pass(client, server, states.subscribe()));
                }
            }
        });
        Self { address, state }
    }

    /// From now on nothing is heard of the server.
    pub fn goes_silent(&self) {
        self.state.send_replace(State::Silent);
    }

    /// All connections end.
    pub fn breaks(&self) {
        self.state.send_replace(State::Broken);
    }

    /// New connections work.
    pub fn works(&self) {
        self.state.send_replace(State::Passes);
    }
}

async fn pass(client: TcpStream, server: TcpStream, mut state: watch::Receiver<State>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut broken = state.clone();
    tokio::select! {
        () = copy(from_client, to_server, None) => {}
        () = copy(from_server, to_client, Some(&mut state)) => {}
        _ = broken.wait_for(|state| *state == State::Broken) => {}
    }
}

/// Copies until one side ends; drops everything while the link is silent.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: Option<&mut watch::Receiver<State>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let silent = state
            .as_ref()
            .is_some_and(|state| *state.borrow() == State::Silent);
        if !silent && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
