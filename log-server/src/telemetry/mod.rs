//! Metrics that clients push (KIP-714), and `/metrics` shows again.
//!
//! - [`otlp`]: numbers out of OpenTelemetry's MetricsData. Pure.
//! - [`clients`]: which clients push, what they are asked for, how often they may, and what they last said. Pure; time
//!   is an argument.
//! - [`matching`]: which subscriptions a client falls under. Pure.
//!
//! Clients choose everything that is in here, so everything is bounded: clients, series a client, bytes a push, bytes
//! a name. A client that has not pushed for three intervals is forgotten with its numbers.

pub mod clients;
pub mod matching;
pub mod otlp;

pub use clients::{Clients, PushError, Pushed, Subscription, TELEMETRY_BYTES_MAX};
pub use matching::ClientFacts;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::metrics::escaped;

/// Writes what clients have pushed behind the metrics in `text`, which is in the OpenMetrics format.
///
/// A metric `org.apache.kafka.producer.record.send.rate` shows as `highwater_client_producer_record_send_rate`.
pub fn append_metrics(text: &mut String, clients: &Clients) {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    clients.each(|client, instance| {
        let client_id = escaped(&client.client_id);
        for series in &client.series {
            let name = family_name(&series.name);
            let lines = families.entry(name.clone()).or_default();
            let mut labels = format!("client_id=\"{client_id}\",client_instance_id=\"{instance}\"");
            for (key, value) in &series.attributes {
                let key = sanitized(key);
                // A client does not get to say who it is twice.
                if !matches!(key.as_str(), "client_id" | "client_instance_id") {
                    let _ = write!(labels, ",{key}=\"{}\"", escaped(value));
                }
            }
            let _ = writeln!(lines, "{name}{{{labels}}} {}", series.value);
        }
    });
    for (name, lines) in families {
        let _ = write!(text, "# TYPE {name} unknown\n{lines}");
    }
}

fn family_name(metric: &str) -> String {
    let short = metric.strip_prefix("org.apache.kafka.").unwrap_or(metric);
    // The end of a name means something in OpenMetrics, which a name of unknown type must not claim.
    format!("highwater_client_{}", sanitized(short))
}

/// A name of letters, digits and underscores that begins with no digit.
fn sanitized(name: &str) -> String {
    let mut sane: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if sane.starts_with(|c: char| c.is_ascii_digit()) {
        sane.insert(0, '_');
    }
    sane
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use log_core::wire::Uuid;

    use super::*;
    use crate::telemetry::otlp::tests::{gauge, metrics_data};

    #[test]
    fn what_a_client_pushed_is_shown_with_its_names_made_safe() {
        let subscription = Subscription::new("*", Duration::from_secs(10));
        let clients = Clients::new(subscription, 10);
        let id = Uuid::from_bytes([7; 16]);
        let now = Instant::now();
        let asked = clients.subscribe(id, clients.subscription(), now).unwrap();
        let payload = metrics_data(&[
            gauge(
                "org.apache.kafka.producer.node.request.rate",
                1.5,
                &[("node.id", "1"), ("client_id", "liar")],
            ),
            gauge("odd \"name\"\n", 2.0, &[("0", "a\"b")]),
        ]);
        clients.push(id, "me\"\n", asked.subscription_id, false, &payload, now).unwrap();
        let mut text = String::new();
        append_metrics(&mut text, &clients);
        let instance = "07070707-0707-0707-0707-070707070707";
        let labels = format!(r#"client_id="me\"\n",client_instance_id="{instance}""#);
        let expected = format!(
            "# TYPE highwater_client_odd__name__ unknown\n\
             highwater_client_odd__name__{{{labels},_0=\"a\\\"b\"}} 2\n\
             # TYPE highwater_client_producer_node_request_rate unknown\n\
             highwater_client_producer_node_request_rate{{{labels},node_id=\"1\"}} 1.5\n"
        );
        assert_eq!(text, expected);
    }
}
