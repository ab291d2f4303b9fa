//! Who is connected: an entry for every open connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::handler::ConnectionInfo;

/// The open connections; no more of them than may be open (`connections_max`).
#[derive(Clone, Default)]
pub struct Connections {
    /// By their numbers. Locked for an insertion, a removal or a copy of the list.
    open: Arc<Mutex<HashMap<u64, Arc<ConnectionInfo>>>>,
}

/// A connection's entry, for as long as this lives.
pub struct Listed {
    connections: Connections,
    id: u64,
}

impl Connections {
    /// Lists a connection until what is returned is dropped.
    pub fn enter(&self, info: Arc<ConnectionInfo>) -> Listed {
        let id = info.id;
        self.open.lock().insert(id, info);
        Listed { connections: self.clone(), id }
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<ConnectionInfo>> {
        let mut all: Vec<_> = self.open.lock().values().cloned().collect();
        all.sort_unstable_by_key(|info| info.id);
        all
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.id);
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connections({})", self.open.lock().len())
    }
}
