//! What the handlers of the group APIs have in common.

use std::net::IpAddr;
use std::sync::Arc;

use log_core::wire::StrBytes;

use super::Request;

/// Bytes of a client's name that its member ids begin with. The name is for people; the rest makes the id unique.
const MEMBER_ID_PREFIX_BYTES_MAX: usize = 200;

/// A string of its own: the request's are slices of the connection's buffer.
pub(super) fn own(string: &StrBytes) -> Arc<str> {
    Arc::from(&**string)
}

/// [`own`] of what may be missing. An empty instance id is none.
pub(super) fn own_option(string: &Option<StrBytes>) -> Option<Arc<str>> {
    string.as_ref().filter(|string| !string.is_empty()).map(own)
}

/// A member id that nobody has, beginning with the name of the client or of the static member.
pub(super) fn member_id_for(name: &str) -> Arc<str> {
    let end = name.floor_char_boundary(name.len().min(MEMBER_ID_PREFIX_BYTES_MAX));
    format!("{}-{}", &name[..end], uuid::Uuid::new_v4()).into()
}

/// Where a request came from, as Kafka's tools print it.
pub(super) fn client_host(request: &Request) -> Arc<str> {
    let address: IpAddr = request.connection.peer.ip().to_canonical();
    format!("/{address}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_begin_with_the_clients_name_and_differ() {
        let (one, other) = (member_id_for("app"), member_id_for("app"));
        assert!(one.starts_with("app-") && one != other);
        let long = member_id_for(&"ä".repeat(20_000));
        assert!(long.len() < 300);
    }
}
