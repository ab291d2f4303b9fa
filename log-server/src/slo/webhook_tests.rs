use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::slo::{Change, State};

/// Long enough for a loaded machine; nothing waits for it when all is well.
const LONG: Duration = Duration::from_secs(30);

/// A server of HTTP that answers each request with the next of its answers, and the last one from then on. An empty
/// answer is none at all.
struct Server {
    url: String,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start(answers: &[&'static str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks?room=1", listener.local_addr().unwrap());
        let (told, requests) = mpsc::unbounded_channel();
        let answers = answers.to_vec();
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = answers[number.min(answers.len() - 1)];
                let told = told.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    // All of a notice's JSON ends with a brace and is the end of the request.
                    while !request.ends_with(b"}") {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let _ = told.send(String::from_utf8(request).unwrap());
                    match answer {
                        "" => tokio::time::sleep(LONG * 10).await,
                        answer => {
                            let head = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
                            stream.write_all(head.as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        Server { url, requests }
    }

    async fn next(&mut self) -> String {
        tokio::time::timeout(LONG, self.requests.recv()).await.expect("a request").unwrap()
    }
}

fn webhooks(answer: Duration) -> Webhooks {
    let mut webhooks =
        Webhooks::new(AllowedHosts::new("127.0.0.1,hooks.test"), &Metrics::new(), CancellationToken::new());
    webhooks.patience = Patience { answer, retry: Duration::from_millis(1) };
    webhooks
}

fn event(group: &str) -> Event {
    Event {
        change: Change { from: State::Ok, to: State::Violated },
        report: Report {
            group: group.into(),
            lag_seconds_objective: 30.0,
            target: 0.99,
            window_seconds: 3600.0,
            state: "violated",
            since_ms: 7,
            lag_seconds: Some(31.5),
            waited_seconds: Some(30.5),
            catch_up_seconds: None,
            budget_used: 0.25,
            burn_rate: 2.0,
            webhook: Some("http://127.0.0.1/…".to_owned()),
        },
        webhook: None,
    }
}

fn post(webhooks: &Webhooks, url: &str, group: &str) {
    let target = Target { url: url.to_owned(), is_operators: false };
    webhooks.post(&target, &Notice::of(&event(group), "cluster", 1));
}

async fn until(what: impl Fn() -> bool) {
    let waited = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, waited).await.expect("in time");
}

fn count(webhooks: &Webhooks, result: &'static str) -> u64 {
    webhooks.results.0.get_or_create(&ResultLabels { result }).get()
}

#[tokio::test]
async fn changes_are_posted_in_their_order_with_all_that_is_known() {
    let mut server = Server::start(&["204 No Content"]).await;
    let webhooks = webhooks(LONG);
    for group in ["a", "b", "c"] {
        post(&webhooks, &server.url, group);
    }
    for group in ["a", "b", "c"] {
        let request = server.next().await;
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /hooks?room=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
        assert!(head.contains("\r\nhost: 127.0.0.1:"), "{head}");
        let expected = serde_json::json!({
            "event": "slo_state_changed", "cluster_id": "cluster", "node_id": 1, "from": "ok", "to": "violated",
            "group": group, "lag_seconds_objective": 30.0, "target": 0.99, "window_seconds": 3600.0,
            "state": "violated", "since_ms": 7, "lag_seconds": 31.5, "waited_seconds": 30.5, "catch_up_seconds": null,
            "budget_used": 0.25, "burn_rate": 2.0,
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), expected);
    }
    until(|| count(&webhooks, Results::DELIVERED) == 3).await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_nothing_else_is() {
    let mut server = Server::start(&["503 Busy", "429 Slow Down", "200 OK"]).await;
    let webhooks = webhooks(LONG);
    post(&webhooks, &server.url, "a");
    for _ in 0..3 {
        server.next().await;
    }
    until(|| count(&webhooks, Results::DELIVERED) == 1).await;
    for answer in ["404 Not Found", "301 Moved\r\nLocation: http://127.0.0.1:1/"] {
        let failed = count(&webhooks, Results::FAILED);
        let mut server = Server::start(&[answer, "200 OK"]).await;
        post(&webhooks, &server.url, "a");
        until(|| count(&webhooks, Results::FAILED) == failed + 1).await;
        server.next().await;
        assert!(server.requests.try_recv().is_err(), "{answer} is final");
    }
}

#[tokio::test]
async fn one_that_fails_is_given_up_after_its_tries() {
    let mut server = Server::start(&["500 Oh No"]).await;
    let webhooks = webhooks(LONG);
    post(&webhooks, &server.url, "a");
    until(|| count(&webhooks, Results::FAILED) == 1).await;
    for _ in 0..TRIES_MAX {
        server.next().await;
    }
    assert!(server.requests.try_recv().is_err());
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    post(&webhooks, &url, "a");
    until(|| count(&webhooks, Results::FAILED) == 2).await;
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_other_and_fills_only_its_own_queue() {
    let mut hanging = Server::start(&[""]).await;
    let mut other = Server::start(&["200 OK"]).await;
    let webhooks = Arc::new(webhooks(LONG));
    post(&webhooks, &hanging.url, "first");
    hanging.next().await;
    for number in 0..QUEUE_MAX + 5 {
        post(&webhooks, &hanging.url, &number.to_string());
    }
    assert_eq!(count(&webhooks, Results::DROPPED), 5);
    post(&webhooks, &other.url, "a");
    assert!(other.next().await.contains("\"group\":\"a\""));
}

#[tokio::test]
async fn one_that_hangs_is_given_up() {
    let mut hanging = Server::start(&["", "200 OK"]).await;
    let webhooks = webhooks(Duration::from_millis(50));
    post(&webhooks, &hanging.url, "a");
    hanging.next().await;
    hanging.next().await;
    until(|| count(&webhooks, Results::DELIVERED) + count(&webhooks, Results::FAILED) == 1).await;
}

#[tokio::test]
async fn the_number_of_urls_is_bounded_and_those_with_nothing_to_do_make_room() {
    let mut server = Server::start(&["200 OK"]).await;
    let webhooks = webhooks(LONG);
    for number in 0..3 * URLS_MAX {
        post(&webhooks, &format!("{}&n={number}", server.url), "a");
        server.next().await;
        assert!(webhooks.queues.lock().len() <= URLS_MAX);
    }
    assert_eq!(count(&webhooks, Results::DROPPED), 0);
}

#[tokio::test]
async fn a_group_s_webhook_on_the_machine_itself_is_not_posted_to_and_the_operator_s_is() {
    let mut server = Server::start(&["200 OK"]).await;
    let mut webhooks = webhooks(LONG);
    webhooks.hosts = AllowedHosts::default();
    post(&webhooks, &server.url, "a");
    until(|| count(&webhooks, Results::FAILED) == 1).await;
    // By a name that leads there, too.
    webhooks.lookups.resolver = Arc::new(|_, port| Ok(vec![([169, 254, 169, 254], port).into()]));
    post(&webhooks, "http://innocent.test/", "a");
    until(|| count(&webhooks, Results::FAILED) == 2).await;
    assert!(server.requests.try_recv().is_err(), "nothing was posted");
    let target = Target { url: server.url.clone(), is_operators: true };
    webhooks.post(&target, &Notice::of(&event("a"), "cluster", 1));
    server.next().await;
}

#[tokio::test]
async fn a_name_is_looked_up_once_at_a_time_however_long_that_takes() {
    let mut server = Server::start(&["200 OK"]).await;
    let address = server.url[7..server.url.find("/hooks").unwrap()].parse().unwrap();
    let mut webhooks = webhooks(Duration::from_millis(10));
    let (answer, answers) = std::sync::mpsc::channel();
    let (answers, lookups) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
    let counted = lookups.clone();
    webhooks.lookups.resolver = Arc::new(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        answers.lock().recv().map_err(std::io::Error::other)
    });
    post(&webhooks, "http://hooks.test/", "a");
    until(|| lookups.load(Ordering::Relaxed) > 0 && count(&webhooks, Results::FAILED) == 1).await;
    assert_eq!(lookups.load(Ordering::Relaxed), 1, "of all tries");
    webhooks.patience.answer = LONG;
    answer.send(vec![address]).unwrap();
    let courier = webhooks.courier(&Target { url: "http://hooks.test/".to_owned(), is_operators: false });
    answer.send(vec![address]).unwrap();
    assert!(courier.unwrap().deliver(&Bytes::from_static(b"{}")).await);
    server.next().await;
}
