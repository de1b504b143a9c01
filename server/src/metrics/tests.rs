use super::table::{Kind, TABLE};
use super::text::number_text;
use super::*;
use basalt_engine::mvcc::{Store, StoreConfig};
use basalt_engine::types::{ClusterId, MemberId};
use basalt_pb::paths::kv;

pub(crate) fn registry(loops: usize) -> Registry {
    let (_, reader) = Store::new(StoreConfig::default());
    let facts = Facts {
        member_id: "abc".to_owned(),
        cluster: 1,
        member: 0xabc,
        quota_bytes: 2 << 30,
        features: Vec::new(),
    };
    Registry {
        loops: (0..loops).map(|_| Default::default()).collect(),
        engine: Arc::default(),
        published: Arc::default(),
        reader,
        facts,
        hub: Hub::new(ClusterId(1), MemberId(0xabc), loops),
        connectivity: Arc::default(),
    }
}

fn scrape(registry: &Registry) -> String {
    let mut out = String::new();
    registry.scrape(&mut out);
    out
}

/// [HTTP-7] Alerts that never fire are how a missing name shows; operators notice after the outage.
#[test]
fn every_name_without_labels_is_there_before_anything_happened() {
    let text = scrape(&registry(1));
    for metric in TABLE.iter().filter(|metric| metric.labels.is_empty()) {
        let suffix = if matches!(metric.kind, Kind::Histogram { .. }) {
            "_count"
        } else {
            ""
        };
        let sample = format!("\n{}{suffix} ", metric.name);
        assert!(text.contains(&sample), "{sample:?} is missing");
    }
}

#[test]
fn families_are_sorted_and_each_name_stands_once() {
    assert!(TABLE.is_sorted_by(|one, next| one.name < next.name));
}

#[test]
fn counters_of_all_loops_are_summed() {
    let registry = registry(2);
    let put = method(kv::PUT).unwrap();
    for (own, _) in &registry.loops {
        own.started(put);
        own.handled(put, Code::Ok);
        own.message_received(put, 10);
    }
    registry.loops[0].0.handled(put, Code::Cancelled);
    let text = scrape(&registry);
    let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    for line in [
        format!("grpc_server_started_total{{{labels}}} 2"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}} 2"),
        format!("grpc_server_handled_total{{grpc_code=\"Canceled\",{labels}}} 1"),
        "etcd_network_client_grpc_received_bytes_total 20".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is missing");
    }
}

#[test]
fn a_duration_counts_in_the_bucket_whose_bound_holds_it() {
    let registry = registry(1);
    for micros in [1, 100, 101, 200, 1_000_000_000] {
        registry.loops[0]
            .0
            .range(Duration::from_micros(micros), true);
    }
    let text = scrape(&registry);
    let name = r#"etcd_server_range_duration_seconds_bucket{success="true",le="#;
    for (bound, count) in [("0.0001", 2), ("0.0002", 4), ("52.4288", 4), ("+Inf", 5)] {
        let line = format!("{name}\"{bound}\"}} {count}\n");
        assert!(text.contains(&line), "{line} is missing");
    }
    assert!(text.contains("etcd_mvcc_range_total 5\n"));
}

#[test]
fn versions_that_clients_invent_do_not_grow_without_bound() {
    let metrics = LoopMetrics::default();
    let mut known = ClientVersions::default();
    for number in 0..1000 {
        metrics.client_request(&mut known, false, Some(&format!("v{number}")));
    }
    assert!(known.0.len() <= CLIENT_VERSIONS_MAX + 1);
    let total: u64 = metrics
        .client_versions()
        .iter()
        .map(|(_, _, counter)| counter.get())
        .sum();
    assert_eq!(total, 1000);
}

#[test]
fn numbers_look_as_go_prints_them() {
    for (value, text) in [
        (0.0, "0"),
        (-1.0, "-1"),
        (20480.0, "20480"),
        (1e6, "1e+06"),
        (2147483648.0, "2.147483648e+09"),
        (0.000119103, "0.000119103"),
        (4.1e-5, "4.1e-05"),
        (0.1 + 0.2, "0.30000000000000004"),
        (f64::INFINITY, "+Inf"),
    ] {
        assert_eq!(number_text(value), text);
    }
}

#[test]
fn the_process_knows_itself() {
    let process = super::process::Process::read();
    assert!(process.resident_bytes > 0.0);
    assert!(process.open_fds >= 3.0);
    assert!(process.threads >= 1.0);
    assert!(process.start_seconds > 1e9);
}

/// The stock alert on slow members reads the round trips, the dashboard the rest.
#[test]
fn traffic_of_each_other_member_is_shown_by_its_id() {
    let registry = registry(1);
    let now = std::time::Instant::now();
    registry.connectivity.set(MemberId(0xdef), Some(now));
    let peer = registry.connectivity.metrics(MemberId(0xdef));
    peer.sent(Some(84));
    peer.sent(None);
    peer.received(Some(17));
    peer.received(None);
    peer.round_trip(Duration::from_micros(150));
    let text = scrape(&registry);
    for line in [
        "etcd_network_active_peers{Local=\"abc\",Remote=\"def\"} 1",
        "etcd_network_disconnected_peers_total{Local=\"abc\",Remote=\"def\"} 0",
        "etcd_network_peer_sent_bytes_total{To=\"def\"} 100",
        "etcd_network_peer_sent_failures_total{To=\"def\"} 1",
        "etcd_network_peer_received_bytes_total{From=\"def\"} 33",
        "etcd_network_peer_received_failures_total{From=\"def\"} 1",
        "etcd_network_peer_round_trip_time_seconds_bucket{To=\"def\",le=\"0.0001\"} 0",
        "etcd_network_peer_round_trip_time_seconds_bucket{To=\"def\",le=\"0.0002\"} 1",
        "basalt_peer_sent_messages_total{To=\"def\"} 1",
        "basalt_peer_received_messages_total{From=\"def\"} 1",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} is missing");
    }
    registry.connectivity.set(MemberId(0xdef), None);
    let text = scrape(&registry);
    assert!(text.contains("\netcd_network_active_peers{Local=\"abc\",Remote=\"def\"} 0\n"));
    assert!(
        text.contains("\netcd_network_disconnected_peers_total{Local=\"abc\",Remote=\"def\"} 1\n")
    );
}
