//! This broker: what it is, how it is, and who is connected.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::health::not_ready;
use crate::handler::{ConnectionInfo, Context};
use crate::metrics::Memory;
use crate::partition::TrafficRates;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new().routes(routes!(broker)).routes(routes!(connections))
}

/// The broker as it is at this moment.
#[derive(Serialize, ToSchema)]
struct Broker {
    version: &'static str,
    cluster_id: String,
    node_id: i32,
    started_at_ms: i64,
    uptime_seconds: f64,
    /// What Kafka clients are told to connect to.
    kafka_address: String,
    data_dir: String,
    /// Whether requests are served, as `/readyz` has it.
    ready: bool,
    health: Health,
    /// Null until the disk has been looked at.
    disk: Option<Disk>,
    /// Null where the system does not say.
    memory: Option<ProcessMemory>,
    /// Open connections of Kafka clients.
    connections: i64,
    /// Of all topics, internal ones included.
    partitions: usize,
    produce: ProduceRates,
    fetch: FetchRates,
}

/// Whether the log directory takes writes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Health {
    Online,
    /// A sync has failed; nothing is written until the next start.
    Offline,
}

#[derive(Serialize, ToSchema)]
struct Disk {
    total_bytes: u64,
    free_bytes: u64,
    /// Less free space raises an alarm.
    soft_limit_bytes: u64,
    /// With less free space produce is refused.
    hard_limit_bytes: u64,
    state: DiskState,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DiskState {
    Ok,
    /// Below the soft limit.
    Low,
    /// Below the hard limit: produce is refused.
    Full,
}

#[derive(Serialize, ToSchema)]
struct ProcessMemory {
    /// All that is resident, mapped segments included.
    resident_bytes: u64,
    /// What of it no file is behind.
    own_bytes: u64,
}

#[derive(Serialize, ToSchema)]
struct ProduceRates {
    records_per_second: f64,
    bytes_per_second: f64,
}

#[derive(Serialize, ToSchema)]
struct FetchRates {
    bytes_per_second: f64,
}

/// This broker: version, disk, memory, rates.
#[utoipa::path(get, path = "/api/v1/broker", tag = "broker", responses((status = 200, body = Broker)))]
async fn broker(State(context): State<Arc<Context>>) -> Json<Broker> {
    let rates = context
        .partitions
        .all()
        .iter()
        .fold(TrafficRates::default(), |sum, partition| sum + partition.traffic().rates());
    Json(Broker {
        version: env!("CARGO_PKG_VERSION"),
        cluster_id: context.cluster_id.clone(),
        node_id: context.config.node_id,
        started_at_ms: context.started_at_ms,
        uptime_seconds: context.started_at.elapsed().as_secs_f64(),
        kafka_address: format!("{}:{}", context.advertised_host, context.advertised_port),
        data_dir: context.config.data_dir.display().to_string(),
        ready: not_ready(&context).is_none(),
        health: match context.log_dir.health().reason() {
            None => Health::Online,
            Some(_) => Health::Offline,
        },
        disk: disk(&context),
        memory: Memory::now().map(|memory| ProcessMemory {
            resident_bytes: memory.resident_bytes,
            own_bytes: memory.own_bytes,
        }),
        connections: context.metrics.connections.get(),
        partitions: context.catalog.topics().partitions(),
        produce: ProduceRates {
            records_per_second: rates.produce_records_per_second,
            bytes_per_second: rates.produce_bytes_per_second,
        },
        fetch: FetchRates { bytes_per_second: rates.fetch_bytes_per_second },
    })
}

fn disk(context: &Context) -> Option<Disk> {
    let seen = context.space.seen()?;
    Some(Disk {
        total_bytes: seen.total_bytes,
        free_bytes: seen.free_bytes,
        soft_limit_bytes: seen.soft_limit_bytes,
        hard_limit_bytes: seen.hard_limit_bytes,
        state: match (context.space.is_exhausted(), context.space.is_low()) {
            (true, _) => DiskState::Full,
            (false, true) => DiskState::Low,
            (false, false) => DiskState::Ok,
        },
    })
}

/// The connections of Kafka clients, the oldest first.
#[derive(Serialize, ToSchema)]
struct Connections {
    connections: Vec<Connection>,
}

#[derive(Serialize, ToSchema)]
struct Connection {
    /// Address and port of the other end.
    address: String,
    /// Null before the first request, and for a client that does not say.
    client_id: Option<Arc<str>>,
    /// Null for clients that do not say (ApiVersions before version 3).
    software_name: Option<String>,
    software_version: Option<String>,
    connected_at_ms: i64,
    /// Null before the first request.
    last_request_at_ms: Option<i64>,
    requests: u64,
    received_bytes: u64,
    sent_bytes: u64,
}

impl Connection {
    fn of(info: &ConnectionInfo) -> Connection {
        let (software_name, software_version) = info.software.get().cloned().unzip();
        Connection {
            address: info.peer.to_string(),
            client_id: info.client_id(),
            software_name,
            software_version,
            connected_at_ms: info.connected_at_ms(),
            last_request_at_ms: info.last_request_at_ms(),
            requests: info.requests(),
            received_bytes: info.received_bytes(),
            sent_bytes: info.sent_bytes(),
        }
    }
}

/// Who is connected.
#[utoipa::path(get, path = "/api/v1/connections", tag = "broker", responses((status = 200, body = Connections)))]
async fn connections(State(context): State<Arc<Context>>) -> Json<Connections> {
    let connections = context.connections.all().iter().map(|info| Connection::of(info)).collect();
    Json(Connections { connections })
}
