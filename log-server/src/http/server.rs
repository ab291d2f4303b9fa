//! The socket: accepts up to a cap, and holds every connection to deadlines.
//!
//! A request's head has to be there within `request_receive_ms` (that is also how long a connection may be silent
//! between two requests), its body as well ([`extract`](super::extract)), and a client that takes nothing of its
//! answer for `response_send_ms` is given up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::{Guard, router};
use crate::handler::Context;

/// How long requests that have begun may take to end when the broker stops.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// How long to leave the listener alone when the process or the system is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that a request's head may have, and that are read or written ahead.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What a connection beyond the cap is told before it is closed.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 86\r\n\
    connection: close\r\n\r\n{\"error\":\"too many connections (setting http_connections_max); close some, try again\"}";

/// A bound socket that does not answer yet.
pub struct HttpListener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

impl HttpListener {
    /// Binds `address`.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(address: SocketAddr) -> io::Result<HttpListener> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(HttpListener { socket, address })
    }

    /// The address that is listened on, with the port that the system chose for 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, and what has begun by then for a moment longer.
    pub async fn run(self, context: Arc<Context>, stop: CancellationToken) {
        let socket = match TcpListener::from_std(self.socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "HTTP is not served");
                return;
            }
        };
        let guard = Guard::new(self.address.ip(), &context.config.http_hosts);
        let server = Server {
            receive: Duration::from_millis(context.config.request_receive_ms),
            send: Duration::from_millis(context.config.response_send_ms),
            connections_max: context.config.http_connections_max,
            router: router(context, guard),
            stop,
        };
        server.accept(socket).await;
    }
}

struct Server {
    router: Router,
    receive: Duration,
    send: Duration,
    connections_max: usize,
    stop: CancellationToken,
}

impl Server {
    async fn accept(self, socket: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) if connections.len() >= self.connections_max => {
                    tracing::warn!(%peer, cap = self.connections_max, "refused: too many HTTP connections");
                    // A fresh socket has room for it; where it has not, closing says enough.
                    let _ = stream.try_write(TOO_MANY);
                }
                Ok((stream, _)) => {
                    connections.spawn(self.serve(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        // Whoever sends half of a request must not keep the broker from stopping.
        let _ = tokio::time::timeout(STOP_WAIT, ended).await;
        connections.shutdown().await;
    }

    /// Serves one connection until either side ends it.
    fn serve(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.send));
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.receive)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let stop = self.stop.clone();
        async move {
            let mut connection = Box::pin(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "closed an HTTP connection");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_its_length() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
