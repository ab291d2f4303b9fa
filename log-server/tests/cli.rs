//! The binary's subcommands against a broker in this process: what they print, and how they end.

mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use log_client::{Client, Producer, ProducerConfig, ProducerRecord};
use support::{PATIENCE, Rig, start};

/// Runs `highwater` with these arguments (separated by blanks) and this input.
async fn highwater(rig: &Rig, arguments: &str, input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(arguments.split_whitespace());
    command.env("HIGHWATER_BOOTSTRAP", rig.broker.kafka_addr().to_string());
    command.env("HIGHWATER_DATA_DIR", rig.dir.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_vec();
    // Not on the runtime's threads, which the broker needs to answer.
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("piped");
        // One that ends early does not read it all.
        stdin.write_all(&input).ok();
        drop(stdin);
        child.wait_with_output().expect("it ends")
    });
    run.await.unwrap()
}

async fn lines(rig: &Rig, arguments: &str) -> Vec<String> {
    let output = highwater(rig, arguments, b"").await;
    assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn ndjson() -> Vec<u8> {
    let events = (0..1000)
        .map(|n| format!("{{\"id\":{n},\"user\":\"u{}\",\"at\":{}}}\n", n % 5, 1_000_000 + n * 1000));
    events.collect::<String>().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ndjson_goes_in_packed_and_comes_out_as_it_was() {
    let rig = start().await;
    lines(&rig, "topic create events --partitions 3 --config retention.ms=-1").await;
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&ndjson()).unwrap();
    let produce = "produce events --format ndjson --key-field user --timestamp-field at --compression zstd";
    let output = highwater(&rig, produce, &packed.finish().unwrap()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1,000 records"), "{}", text(&output.stderr));

    let mut values = lines(&rig, "consume events").await;
    let mut sent: Vec<String> = text(&ndjson()).lines().map(str::to_owned).collect();
    sent.sort();
    values.sort();
    assert_eq!(values, sent);

    let records: Vec<serde_json::Value> =
        lines(&rig, "consume events --format json --from @1900000 --to @1950000")
            .await
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
    assert_eq!(records.len(), 50);
    for record in &records {
        let event: serde_json::Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
        assert_eq!(record["key"], event["user"]);
        assert_eq!(record["timestamp"], event["at"]);
    }
    assert_eq!(lines(&rig, "consume events --count 7").await.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_lines_are_named_and_stop_or_are_left_out() {
    let rig = start().await;
    lines(&rig, "topic create t --partitions 1").await;
    let input = b"{\"k\":1}\nnot json\n{\"k\":2}\n";
    let stopped = highwater(&rig, "produce t --key-field k", input).await;
    assert_eq!(stopped.status.code(), Some(1));
    let message = text(&stopped.stderr);
    assert!(message.contains("-:2: not a JSON object") && message.contains("--on-error skip"), "{message}");
    let skipped = highwater(&rig, "produce t --key-field k --on-error skip", input).await;
    assert!(skipped.status.success());
    assert_eq!(
        lines(&rig, "consume t --format key-value").await,
        ["1\t{\"k\":1}", "1\t{\"k\":1}", "2\t{\"k\":2}"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_told_of_what_was_printed_and_no_more() {
    let rig = start().await;
    lines(&rig, "topic create t --partitions 1").await;
    let input: String = (0..10).map(|n| format!("{n}\n")).collect();
    assert!(highwater(&rig, "produce t --quiet", input.as_bytes()).await.status.success());
    assert_eq!(lines(&rig, "consume t --group g --count 4").await, ["0", "1", "2", "3"]);

    let lag: serde_json::Value = serde_json::from_str(&lines(&rig, "lag g --json").await[0]).unwrap();
    assert_eq!((&lag["committed_offset"], &lag["lag_records"]), (&4.into(), &6.into()));
    assert!(lag["lag_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(lines(&rig, "consume t --group g").await, ["4", "5", "6", "7", "8", "9"]);
    let lag: serde_json::Value = serde_json::from_str(&lines(&rig, "lag g --json").await[0]).unwrap();
    assert_eq!((&lag["lag_records"], &lag["lag_seconds"]), (&0.into(), &0.0.into()));

    lines(&rig, "group reset g --topic t --to 8 --execute").await;
    assert_eq!(lines(&rig, "consume t --group g").await, ["8", "9"]);
    assert!(lines(&rig, "group list").await.iter().any(|line| line.starts_with("g ")));
    lines(&rig, "group delete g").await;
    let gone = highwater(&rig, "lag g", b"").await;
    assert!(!gone.status.success() && text(&gone.stderr).contains("highwater group list"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_changed_and_errors_say_what_to_do() {
    let rig = start().await;
    lines(&rig, "topic create t --partitions 1 --config retention.ms=1000000").await;
    let again = highwater(&rig, "topic create t", b"").await;
    assert!(
        text(&again.stderr).contains("TOPIC_ALREADY_EXISTS")
            && text(&again.stderr).contains("--if-not-exists")
    );
    lines(&rig, "topic create t --if-not-exists").await;
    lines(&rig, "topic alter t --set retention.ms=2000000").await;
    lines(&rig, "topic add-partitions t 2").await;
    let described = lines(&rig, "topic describe t").await.join("\n");
    assert!(described.contains("2 partitions") && described.contains("2000000"), "{described}");
    assert_eq!(lines(&rig, "topic list --quiet").await, ["t"]);
    lines(&rig, "topic delete t").await;
    assert!(lines(&rig, "topic list --quiet").await.is_empty());
    let missing = highwater(&rig, "consume t", b"").await;
    assert!(text(&missing.stderr).contains("highwater topic list"), "{}", text(&missing.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_is_shown_and_damage_is_found() {
    let rig = start().await;
    lines(&rig, "topic create t --partitions 1").await;
    assert!(highwater(&rig, "produce t", b"one\ntwo\n").await.status.success());
    rig.broker.shutdown().await;
    let dir = rig.dir.path();
    let run = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.args(arguments.split_whitespace()).arg("--data-dir").arg(dir).output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let (code, summary) = run("verify --json");
    let summary: serde_json::Value = serde_json::from_str(summary.lines().last().unwrap()).unwrap();
    assert_eq!((code, &summary["damage"]), (Some(0), &0.into()));
    assert!(run("dump").1.contains("t-0"));
    let records = run("dump t-0 --records").1;
    assert!(records.contains("\"one\"") && records.contains("\"two\""), "{records}");

    // What a power cut leaves of a partition that was being created.
    std::fs::create_dir(dir.join("topics/u-0")).unwrap();
    std::fs::write(dir.join("topics/u-0/partition.json.tmp"), "").unwrap();
    let (code, found) = run("verify");
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("repairable: topics/u-0: empty"), "{found}");
    std::fs::write(dir.join("topics/u-0/partition.json"), "").unwrap();
    let (code, found) = run("verify");
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("repairable: topics/u-0: not in catalog.json"), "{found}");

    let segment = dir.join("topics/t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (code, found) = run("verify");
    assert_eq!(code, Some(1));
    assert!(found.contains("damage: topics/t-0/00000000000000000000.log"), "{found}");
    std::fs::remove_file(dir.join("meta.json")).unwrap();
    assert_eq!(run("verify").0, Some(2));
}

/// Waits until these are what readers of `payments` see. A commit is answered when it is decided, and seen when its
/// markers are written.
async fn committed(rig: &Rig, sorted: &[&str]) {
    let started = Instant::now();
    loop {
        let mut seen = lines(rig, "consume payments --isolation read-committed").await;
        seen.sort();
        if seen == sorted {
            return;
        }
        assert!(seen.is_empty() || seen.len() < sorted.len(), "{seen:?}");
        assert!(started.elapsed() < PATIENCE, "{seen:?} for too long");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_one_transaction_count_together_or_not_at_all() {
    let rig = start().await;
    lines(&rig, "topic create payments --partitions 2").await;
    let produce = "produce payments --transactional-id nightly --format ndjson";
    let malformed = highwater(&rig, produce, b"{\"id\":1}\n{\"id\":2}\nnonsense\n").await;
    assert!(!malformed.status.success());
    let error = text(&malformed.stderr);
    assert!(error.contains("line 3") && error.contains("no line counts"), "{error}");
    let whole = highwater(&rig, produce, b"{\"id\":3}\n{\"id\":4}\n").await;
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    committed(&rig, &["{\"id\":3}", "{\"id\":4}"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_committed_ends_where_the_first_open_transaction_begins() {
    let rig = start().await;
    lines(&rig, "topic create payments --partitions 1").await;
    highwater(&rig, "produce payments", b"before\n").await;
    let client = Client::connect(&rig.broker.kafka_addr().to_string()).await.unwrap();
    let config = ProducerConfig { transactional_id: Some("open".to_owned()), ..ProducerConfig::default() };
    let producer = Producer::new(&client, config);
    producer.init_transactions().await.unwrap();
    producer.begin_transaction().unwrap();
    drop(producer.send(ProducerRecord::to("payments").value("open")).await.unwrap());
    producer.flush().await.unwrap();
    highwater(&rig, "produce payments", b"behind\n").await;
    assert_eq!(lines(&rig, "consume payments --isolation read-committed").await, ["before"]);
    assert_eq!(lines(&rig, "consume payments").await, ["before", "open", "behind"]);
    producer.commit_transaction().await.unwrap();
    committed(&rig, &["before", "behind", "open"]).await;
}
