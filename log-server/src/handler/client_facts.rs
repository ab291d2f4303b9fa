//! What is known of the client behind a request, for the subscriptions to its metrics (71, 72).

use log_core::log::kafka_id;
use log_core::wire::Uuid;

use super::{Context, Request};
use crate::resource_config::Kind;
use crate::telemetry::{ClientFacts, Subscription};

/// What the client of that instance id is asked for at this moment.
pub fn subscription_of(context: &Context, request: &Request, instance: Uuid) -> Subscription {
    let named = context.resource_configs.all(Kind::ClientMetrics);
    context.telemetry.subscription().joined(&named, &facts(request, instance))
}

fn facts(request: &Request, instance: Uuid) -> ClientFacts {
    let connection = &request.connection;
    let (software, version) = connection.software.get().cloned().unwrap_or_default();
    ClientFacts::from([
        ("client_id", request.client_id().to_owned()),
        ("client_instance_id", kafka_id(uuid::Uuid::from_bytes(instance.to_bytes()))),
        ("client_software_name", software),
        ("client_software_version", version),
        ("client_source_address", connection.peer.ip().to_string()),
        ("client_source_port", connection.peer.port().to_string()),
    ])
}
