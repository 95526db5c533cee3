//! [`Balancer`]: a load balancer before gateways, as operators have one: it gives new connections
//! to those whose `/readyz` says 200, in turn, and looks again all the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::{Answer, plain_client};

const LOOK_EVERY: Duration = Duration::from_millis(50);

struct Gateway {
    address: SocketAddr,
    is_ready: AtomicBool,
}

/// Passes connections on.
pub struct Balancer {
    pub address: SocketAddr,
}

impl Balancer {
    /// Before these gateways, each with its management listener.
    pub fn before(gateways: Vec<(SocketAddr, String)>, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let gateways: Vec<_> = gateways
            .into_iter()
            .map(|(address, management)| {
                let gateway = Arc::new(Gateway {
                    address,
                    is_ready: AtomicBool::new(true),
                });
                tokio::spawn(watch(gateway.clone(), management));
                gateway
            })
            .collect();
        tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((client, _)) = listener.accept().await {
                turn += 1;
                let mut order = gateways.clone();
                order.rotate_left(turn % gateways.len());
                tokio::spawn(pass(client, order));
            }
        });
        Self { address }
    }
}

async fn watch(gateway: Arc<Gateway>, management: String) {
    let client = plain_client();
    loop {
        let look = client.get(format!("http://{management}/readyz"));
        let is_ready = matches!(Answer::try_of(look).await, Ok(answer) if answer.status == 200);
        gateway.is_ready.store(is_ready, Ordering::Relaxed);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn pass(mut client: TcpStream, gateways: Vec<Arc<Gateway>>) {
    // Where none is ready any may be better than none.
    let is_ready = |gateway: &Arc<Gateway>| gateway.is_ready.load(Ordering::Relaxed);
    let none_is_ready = !gateways.iter().any(is_ready);
    for gateway in gateways {
        if (none_is_ready || is_ready(&gateway))
            && let Ok(mut server) = TcpStream::connect(gateway.address).await
        {
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
