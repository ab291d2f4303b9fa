//! Accepts connections, up to a cap in all and per address, and starts a task for each.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::connection;
use super::lane::Lanes;
use crate::handler::{ConnectionInfo, Context};

/// Connections that the system holds for us until they are accepted.
const BACKLOG: u32 = 1024;

/// How long to leave the listener alone when the process or the system is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket whose connections are not accepted yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`. Connections wait in the system's queue until [`Listener::run`].
    ///
    /// # Errors
    /// The port is in use, the address is not one of this machine's, or permission is missing.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the old connections' TIME_WAIT to pass.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let address = socket.local_addr()?;
        Ok(Listener { socket, address })
    }

    /// The address that is listened on, with the port that the system chose for 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until the broker shuts down. Connections run on `tasks`.
    pub async fn run(self, context: Arc<Context>, tasks: TaskTracker) {
        let shared = Arc::new(Shared {
            request_bytes: Arc::new(Semaphore::new(context.config.requests_in_flight_bytes_max as usize)),
            lanes: Lanes::default(),
            by_address: Mutex::new(HashMap::new()),
            next_id: AtomicU64::new(1),
        });
        loop {
            let accepted = tokio::select! {
                biased;
                () = context.shutdown.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => admit(stream, peer, &context, &shared, &tasks),
                Err(error) => {
                    // Out of descriptors, most likely: the queue stays full and accept would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// What the connections of one listener share.
struct Shared {
    /// Bytes of requests that may still be received.
    request_bytes: Arc<Semaphore>,
    lanes: Lanes,
    /// Open connections by address, to hold each address to its cap. Locked for a look-up, never across an await.
    by_address: Mutex<HashMap<IpAddr, usize>>,
    next_id: AtomicU64,
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    context: &Arc<Context>,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
) {
    context.metrics.connections_accepted.inc();
    let Some(slot) = Slot::take(context, shared, peer) else {
        return; // Dropping the stream closes it.
    };
    // Relaxed: the number only has to be unique.
    let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
    let info = Arc::new(ConnectionInfo::new(id, peer));
    let listed = context.connections.enter(info.clone());
    let (budget, lanes) = (shared.request_bytes.clone(), shared.lanes.clone());
    let context = context.clone();
    tasks.spawn(async move {
        let (_slot, _listed) = (slot, listed);
        connection::serve(stream, info, context, budget, lanes).await;
    });
}

/// One connection's place within the caps; given back when dropped.
struct Slot {
    shared: Arc<Shared>,
    context: Arc<Context>,
    address: IpAddr,
}

impl Slot {
    fn take(context: &Arc<Context>, shared: &Arc<Shared>, peer: SocketAddr) -> Option<Slot> {
        let address = peer.ip();
        let mut by_address = shared.by_address.lock();
        let cap = context.dynamic.current().connections_max;
        if context.metrics.connections.get() >= cap as i64 {
            tracing::warn!(%peer, cap, "refused: too many connections");
            context.metrics.connection_refused("total");
            return None;
        }
        let count = by_address.entry(address).or_insert(0);
        if *count >= context.config.connections_per_address_max {
            let cap = context.config.connections_per_address_max;
            tracing::warn!(%peer, cap, "refused: too many connections from this address");
            context.metrics.connection_refused("address");
            return None;
        }
        *count += 1;
        // Under the lock, so that the cap on all connections holds too.
        context.metrics.connections.inc();
        Some(Slot { shared: shared.clone(), context: context.clone(), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut by_address = self.shared.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
        self.context.metrics.connections.dec();
    }
}
