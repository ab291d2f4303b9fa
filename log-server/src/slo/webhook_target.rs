//! Where a notice may be posted to.
//!
//! Whoever may set a group's configuration chooses a URL that the broker then asks from within its own network. So a
//! group's webhook reaches neither the broker's own machine nor what is on its link, where clouds serve a machine's
//! credentials; or, where the setting `slo_webhook_hosts` lists hosts, those and no others. What the name stands for is
//! checked when a connection is made, by the address that it is made to. The broker's own setting `slo_webhook` is the
//! operator's, and may be anywhere.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use axum::http::Uri;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Names that are looked up at a time, by all webhooks. Each takes a thread until the system answers.
const LOOKUPS_MAX: usize = 8;

/// Where clouds serve a machine's credentials, beyond link-local addresses: of AWS by IPv6, of Alibaba, of Azure.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Why what is on the broker's machine or link is not posted to.
const TOO_NEAR: &str =
    "the host is on the broker's machine or link; list it in the setting slo_webhook_hosts";

/// A URL, and who says so.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Target {
    /// The URL.
    pub url: String,
    /// Whether it is the broker's own setting.
    pub is_operators: bool,
}

/// Which hosts webhooks of groups may name.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// As the setting lists them, separated by commas.
    pub fn new(setting: &str) -> AllowedHosts {
        let names = setting.split(',').map(str::trim).filter(|name| !name.is_empty());
        AllowedHosts(names.map(str::to_ascii_lowercase).collect())
    }

    /// Why an address that `host` stands for may not be posted to, if it may not.
    pub fn forbids(&self, host: &str, address: IpAddr) -> Option<&'static str> {
        if !self.0.is_empty() {
            let listed = self.0.iter().any(|name| name.eq_ignore_ascii_case(host));
            return (!listed).then_some("the setting slo_webhook_hosts does not list the host");
        }
        is_of_the_machine(address).then_some(TOO_NEAR)
    }

    /// Why a connection from `local` to `peer` may not be posted over, if it may not. This machine has addresses that do
    /// not look like it; a connection to one of them comes from that very address.
    pub fn forbids_connection(&self, local: IpAddr, peer: IpAddr) -> Option<&'static str> {
        (self.0.is_empty() && local.to_canonical() == peer.to_canonical()).then_some(TOO_NEAR)
    }
}

/// Whether an address leads to this machine, to its link, or to what tells a machine its credentials.
fn is_of_the_machine(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let special = match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.octets()[0] == 0
                || address.is_broadcast()
                || address.is_multicast()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast()
        }
    };
    special || METADATA.contains(&address)
}

/// What tells the addresses of a name: the system's resolver, which may block.
pub(super) type Resolver = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The look-ups of all webhooks.
#[derive(Clone)]
pub(super) struct Lookups {
    pub(super) resolver: Resolver,
    turns: Arc<Semaphore>,
}

impl Default for Lookups {
    fn default() -> Self {
        Lookups {
            resolver: Arc::new(|host, port| Ok((host, port).to_socket_addrs()?.collect())),
            turns: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }
}

/// The name in one URL. It is looked up once at a time, however often whoever asks loses patience.
pub(super) struct Place {
    host: String,
    port: u16,
    lookups: Lookups,
    pending: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Place {
    /// Of a URL; `None` for one without a host.
    pub(super) fn of(uri: &Uri, lookups: Lookups) -> Option<Place> {
        let authority = uri.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Place { host, port: authority.port_u16().unwrap_or(80), lookups, pending: None })
    }

    /// The host, as it is looked up.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its addresses. May be given up and asked again: the look-up goes on meanwhile.
    ///
    /// # Errors
    /// The resolver's.
    pub(super) async fn addresses(&mut self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        if self.pending.is_none() {
            let turn = self.lookups.turns.clone().acquire_owned().await.expect("never closed");
            let (resolver, host, port) = (self.lookups.resolver.clone(), self.host.clone(), self.port);
            self.pending = Some(tokio::task::spawn_blocking(move || {
                let _turn = turn;
                resolver(&host, port)
            }));
        }
        let pending = self.pending.as_mut().expect("it was put there");
        let addresses = pending.await.map_err(io::Error::other).flatten();
        self.pending = None;
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_s_webhook_reaches_neither_the_machine_nor_its_link() {
        let hosts = AllowedHosts::default();
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "ff02::1",
        ] {
            assert!(hosts.forbids("a-name", address.parse().unwrap()).is_some(), "{address}");
        }
        for address in ["10.0.0.1", "192.168.1.1", "93.184.216.34", "fd00::1", "2606:2800::1"] {
            assert_eq!(hosts.forbids("a-name", address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn listed_hosts_are_reached_wherever_they_are_and_no_others() {
        let hosts = AllowedHosts::new(" localhost, Relay.internal ,");
        assert_eq!(hosts.forbids("localhost", IpAddr::V4(Ipv4Addr::LOCALHOST)), None);
        assert_eq!(hosts.forbids("relay.INTERNAL", "10.0.0.1".parse().unwrap()), None);
        assert!(hosts.forbids("127.0.0.1", IpAddr::V4(Ipv4Addr::LOCALHOST)).is_some());
        assert!(hosts.forbids("example.org", "93.184.216.34".parse().unwrap()).is_some());
        let own: IpAddr = "10.0.0.5".parse().unwrap();
        assert_eq!(hosts.forbids_connection(own, own), None);
        assert!(AllowedHosts::default().forbids_connection(own, own).is_some());
        assert_eq!(AllowedHosts::default().forbids_connection(own, "10.0.0.6".parse().unwrap()), None);
    }
}
