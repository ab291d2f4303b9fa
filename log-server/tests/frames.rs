//! What comes over a socket before it is a request: order, limits, malformed and half-sent frames.

mod support;

use log_core::wire::ApiKey;
use support::{Socket, api_versions_frame, correlation_id, start, start_with};

/// The broker still serves others, whatever this connection did.
async fn assert_alive(rig: &support::Rig) {
    let mut socket = Socket::connect(rig).await;
    socket.send_raw(&api_versions_frame(7)).await;
    assert_eq!(correlation_id(socket.receive().await), 7);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let rig = start().await;
    let mut socket = Socket::connect(&rig).await;
    let frames: Vec<u8> = (0..500).flat_map(|id| api_versions_frame(id).to_vec()).collect();
    socket.send_raw(&frames).await;
    for id in 0..500 {
        assert_eq!(correlation_id(socket.receive().await), id);
    }
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_frame_may_come_byte_by_byte() {
    let rig = start().await;
    let mut socket = Socket::connect(&rig).await;
    for byte in api_versions_frame(3) {
        socket.send_raw(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(correlation_id(socket.receive().await), 3);
}

#[tokio::test]
async fn impossible_sizes_close_the_connection_and_nothing_else() {
    let rig = start().await;
    for size in [-1, i32::MIN, 0, 7, (100 << 20) + 1, i32::MAX] {
        let mut socket = Socket::connect(&rig).await;
        socket.send_raw(&i32::to_be_bytes(size)).await;
        socket.send_raw(&[0; 8]).await;
        socket.expect_closed().await;
    }
    assert_alive(&rig).await;
}

#[tokio::test]
async fn answers_before_a_malformed_request_are_still_sent() {
    let rig = start().await;
    let mut socket = Socket::connect(&rig).await;
    let mut bytes = api_versions_frame(1).to_vec();
    // Metadata v9 whose body is a count of 2³²-1 topics and nothing else.
    let body = [0, 3, 0, 9, 0, 0, 0, 2, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    bytes.extend((body.len() as i32).to_be_bytes());
    bytes.extend(body);
    bytes.extend(&api_versions_frame(3));
    socket.send_raw(&bytes).await;
    assert_eq!(correlation_id(socket.receive().await), 1);
    socket.expect_closed().await;
    assert_alive(&rig).await;
}

#[tokio::test]
async fn unknown_apis_and_versions_close_the_connection() {
    let rig = start().await;
    for (key, version) in [(4_i16, 0_i16), (999, 0), (-1, 0), (1, 3), (3, 99)] {
        let mut socket = Socket::connect(&rig).await;
        let mut frame = 10_i32.to_be_bytes().to_vec();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0xff, 0xff]);
        socket.send_raw(&frame).await;
        socket.expect_closed().await;
    }
    assert_alive(&rig).await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_told_the_range() {
    let rig = start().await;
    let mut socket = Socket::connect(&rig).await;
    let mut frame = 12_i32.to_be_bytes().to_vec();
    frame.extend([0, 18, 0, 99, 0, 0, 0, 5, 0xde, 0xad, 0xbe, 0xef]);
    socket.send_raw(&frame).await;
    assert_eq!(&socket.receive().await[..], [0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    // The client asks again on the same connection.
    socket.send_raw(&api_versions_frame(6)).await;
    assert_eq!(correlation_id(socket.receive().await), 6);
}

#[tokio::test]
async fn a_half_sent_frame_runs_into_its_deadline() {
    let rig = start_with(|config| config.request_receive_ms = 50).await;
    for sent in [1, 4, 9, 13] {
        let mut socket = Socket::connect(&rig).await;
        socket.send_raw(&api_versions_frame(1)[..sent]).await;
        socket.expect_closed().await;
    }
    // A connection that says nothing is no half-sent frame.
    let mut idle = Socket::connect(&rig).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    idle.send_raw(&api_versions_frame(2)).await;
    assert_eq!(correlation_id(idle.receive().await), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let rig = start_with(|config| config.connection_idle_ms = 50).await;
    Socket::connect(&rig).await.expect_closed().await;
}

#[tokio::test]
async fn connections_above_the_cap_are_refused_until_one_ends() {
    let rig = start_with(|config| config.connections_per_address_max = 1).await;
    let mut first = Socket::connect(&rig).await;
    first.send_raw(&api_versions_frame(1)).await;
    first.receive().await;
    Socket::connect(&rig).await.expect_closed().await;
    drop(first);
    // The place is free once the broker has noticed that the first one has gone.
    while rig.broker.context().metrics.connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_alive(&rig).await;
}

#[tokio::test]
async fn large_frames_wait_for_the_budget_and_are_all_served() {
    let rig = start_with(|config| {
        config.message_bytes_max = 1 << 10;
        config.request_bytes_max = 1 << 20;
        config.requests_in_flight_bytes_max = 1 << 20;
    })
    .await;
    let work = (0..8).map(|_| async {
        let mut socket = Socket::connect(&rig).await;
        for _ in 0..4 {
            // Produce v3 to no topic would be malformed: the frame is whole, and its body is not.
            let body = bytes::Bytes::from(vec![0; 900 << 10]);
            socket.send(ApiKey::Produce, 3, vec![body]).await;
            socket.expect_closed().await;
            socket = Socket::connect(&rig).await;
        }
    });
    futures_util::future::join_all(work).await;
    assert_alive(&rig).await;
}

#[tokio::test]
async fn shutdown_closes_connections() {
    let rig = start().await;
    let mut socket = Socket::connect(&rig).await;
    socket.send_raw(&api_versions_frame(1)).await;
    socket.receive().await;
    rig.broker.shutdown().await;
    socket.expect_closed().await;
}
