//! Lag by way of Highwater's own API, which counts records rather than offsets, and knows rates and members.

use log_client::admin::ConfigResource;
use log_client::{Admin, Client};
use serde::Deserialize;

use super::{Row, nothing_committed};
use crate::connect::text;
use crate::http::{HttpAddress, HttpError, segment};

/// What brokers call the address of their HTTP API among their settings.
const HTTP_SETTING: &str = "highwater.http";

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    group: String,
}

#[derive(Deserialize)]
struct OfGroup {
    group: String,
    catch_up_seconds: Option<f64>,
    partitions: Vec<Row>,
}

#[derive(Deserialize)]
struct Broker {
    cluster_id: String,
}

/// Where the cluster serves HTTP, if it is one of Highwater's and that can be reached from here.
pub async fn find(client: &Client) -> Option<HttpAddress> {
    let admin = Admin::new(client);
    let cluster = admin.describe_cluster().await.ok()?;
    let broker = cluster.brokers.values().next()?;
    let settings = admin.describe_configs(&ConfigResource::Broker(broker.id)).await.ok()?;
    let setting = settings.into_iter().find(|setting| setting.name == HTTP_SETTING)?.value?;
    let address = reachable(&setting, &broker.address)?;
    let http = HttpAddress::at(address);
    // Loopback there is not loopback here: another broker may have that port on this machine.
    let told: Broker = http.get("/api/v1/broker").await.ok()?;
    (Some(&told.cluster_id) == cluster.cluster_id.as_ref()).then_some(http)
}

/// The address to connect to for a broker that listens on `setting` and is known to clients as `broker`.
fn reachable(setting: &str, broker: &str) -> Option<String> {
    let (host, port) = setting.rsplit_once(':').filter(|(_, port)| *port != "0")?;
    match host {
        "0.0.0.0" | "[::]" | "" => Some(format!("{}:{port}", broker.rsplit_once(':')?.0)),
        _ => Some(setting.to_owned()),
    }
}

/// The lag of `groups`, of all if there are none, in `topic` or everywhere.
///
/// # Errors
/// The broker does not answer, or one of `groups` has committed nothing.
pub async fn measure(http: &HttpAddress, groups: &[String], topic: Option<&str>) -> Result<Vec<Row>, String> {
    let all = match groups.is_empty() {
        false => groups.to_vec(),
        true => {
            let all: Groups = http.get("/api/v1/groups").await.map_err(text)?;
            all.groups.into_iter().map(|named| named.group).collect()
        }
    };
    let mut rows = Vec::new();
    for group in &all {
        let path = format!("/api/v1/groups/{}/lag", segment(group));
        let of_group: OfGroup = match http.get(&path).await {
            Ok(lag) => lag,
            Err(HttpError::Refused { status, .. }) if status.as_u16() == 404 => {
                // Between two of the requests a group can go.
                if groups.is_empty() {
                    continue;
                }
                return Err(nothing_committed(group, topic));
            }
            Err(error) => return Err(error.to_string()),
        };
        let before = rows.len();
        let in_topic = |row: &Row| topic.is_none_or(|topic| topic == row.topic);
        rows.extend(of_group.partitions.into_iter().filter(in_topic).map(|row| Row {
            group: of_group.group.clone(),
            group_catch_up_seconds: of_group.catch_up_seconds,
            ..row
        }));
        if rows.len() == before && !groups.is_empty() {
            return Err(nothing_committed(group, topic));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_one_to_connect_to() {
        let broker = "broker.example:9092";
        assert_eq!(reachable("127.0.0.1:9080", broker).as_deref(), Some("127.0.0.1:9080"));
        assert_eq!(reachable("0.0.0.0:9080", broker).as_deref(), Some("broker.example:9080"));
        assert_eq!(reachable("[::]:9080", broker).as_deref(), Some("broker.example:9080"));
        assert_eq!(reachable("127.0.0.1:0", broker), None, "the system chose");
        assert_eq!(reachable("off", broker), None);
    }
}
