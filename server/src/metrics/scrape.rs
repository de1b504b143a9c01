use std::collections::BTreeMap;

use basalt_engine::mvcc::KeyRange;
use basalt_net::grpc::Code;
use basalt_net::reactor::{Counter, Stats};
use basalt_pb::etcdserverpb;
use basalt_pb::paths::maintenance;

use super::calls::{CODES, Calls, METHODS, SHOWN_WHEN_CALLED, labels};
use super::histogram::{Histogram, Sum};
use super::process::Process;
use super::table::TABLE;
use super::text::Family;
use super::{CheckCount, LoopMetrics, Registry, RequestKind};
use crate::version;

/// The whole exposition: every family of the table in its order, fed or zero.
pub(super) fn write(registry: &Registry, out: &mut String) {
    let scrape = Scrape {
        registry,
        process: Process::read(),
    };
    for metric in TABLE.iter() {
        let mut family = Family::new(metric, out);
        scrape.feed(metric.name, &mut family);
        if !family.has_samples() && metric.is_always_shown() {
            metric.write_zero(&mut family);
        }
    }
}

struct Scrape<'a> {
    registry: &'a Registry,
    process: Process,
}

impl Scrape<'_> {
    /// Writes what is known of the name; nothing stands for zero.
    fn feed(&self, name: &str, family: &mut Family<'_>) {
        let prefix = name.split('_').next().unwrap_or_default();
        match prefix {
            _ if name.contains("_peer") => self.feed_peers(name, family),
            "etcd" => self.feed_member(name, family),
            "grpc" => self.feed_calls(name, family),
            "basalt" => self.feed_loops(name, family),
            _ => self.feed_process(name, family),
        }
    }

    fn feed_member(&self, name: &str, family: &mut Family<'_>) {
        let registry = self.registry;
        let status = registry.published.status();
        let counts = registry.published.counts();
        let leases = registry.published.leases().totals();
        let facts = &registry.facts;
        let watch = registry.hub.counts();
        let pin = registry.reader.pin();
        let view = pin.view();
        match name {
            "etcd_cluster_version" => {
                if let Some(version) = &registry.published.cluster().cluster_version {
                    family.value(
                        &[version.rsplit_once('.').map_or(version, |(minor, _)| minor)],
                        1.0,
                    );
                }
            }
            "etcd_debugging_auth_revision" => family.value(&[], 1.0),
            "etcd_debugging_mvcc_compact_revision" => family.value(&[], view.compacted() as f64),
            "etcd_debugging_mvcc_current_revision" => family.value(&[], view.revision() as f64),
            "etcd_debugging_mvcc_keys_total" => {
                family.value(&[], view.count_newest(&KeyRange::All).unwrap_or(0) as f64);
            }
            "etcd_debugging_mvcc_watcher_total" => family.value(&[], watch.watchers as f64),
            "etcd_debugging_mvcc_watch_stream_total" => family.value(&[], watch.streams as f64),
            "etcd_debugging_mvcc_slow_watcher_total" => {
                family.value(&[], watch.slow_watchers as f64)
            }
            "etcd_debugging_mvcc_events_total" => family.value(&[], watch.events as f64),
            "etcd_debugging_mvcc_db_compaction_keys_total" => {
                family.value(&[], registry.engine.compaction_keys.get() as f64)
            }
            "etcd_debugging_mvcc_db_compaction_last" => {
                family.value(&[], registry.engine.compaction_last.get() as f64)
            }
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds" => {
                family.histogram(&[], &Sum::of([&registry.engine.compaction]).in_millis())
            }
            "etcd_debugging_lease_granted_total" => family.value(&[], leases.granted as f64),
            "etcd_debugging_lease_revoked_total" => family.value(&[], leases.revoked as f64),
            "etcd_debugging_lease_renewed_total" => family.value(&[], leases.renewed as f64),
            "etcd_debugging_server_lease_expired_total" => family.value(&[], leases.expired as f64),
            "etcd_debugging_lease_ttl_total" => family.histogram(
                &[],
                &Sum {
                    counts: leases.ttls.to_vec(),
                    seconds: leases.ttl_seconds as f64,
                },
            ),
            "etcd_debugging_server_alarms" => {
                for (member, alarm) in &registry.published.cluster().alarms {
                    family.value(&[alarm_name(*alarm), &format!("{:x}", member.0)], 1.0);
                }
            }
            "etcd_disk_backend_defrag_duration_seconds" => {
                let method = super::method(maintenance::DEFRAGMENT).expect("it is served");
                let answered =
                    self.sum(|own| &own.calls.handled[method.index()][Code::Ok as usize]);
                family.histogram(&[], &Sum::at_once(answered as u64, DEFRAG_BOUNDS));
            }
            "etcd_disk_wal_fsync_duration_seconds" => {
                family.histogram(&[], &Sum::of([&registry.engine.wal_sync]))
            }
            "etcd_disk_wal_write_duration_seconds" => {
                family.histogram(&[], &Sum::of([&registry.engine.wal_write]))
            }
            "etcd_disk_wal_write_bytes_total" => {
                family.value(&[], registry.engine.wal_bytes.get() as f64)
            }
            "etcd_mvcc_db_total_size_in_bytes" => family.value(&[], status.db_size as f64),
            "etcd_mvcc_db_total_size_in_use_in_bytes" => {
                family.value(&[], status.db_size_in_use as f64)
            }
            "etcd_mvcc_put_total" => family.value(&[], counts.applied.puts as f64),
            "etcd_mvcc_delete_total" => family.value(&[], counts.applied.deletes as f64),
            "etcd_mvcc_txn_total" => family.value(&[], counts.applied.txns as f64),
            "etcd_mvcc_range_total" => {
                let ranges = Sum::of(registry.loops.iter().flat_map(|(own, _)| &own.ranges));
                family.value(&[], (ranges.total() + counts.applied.ranges) as f64);
            }
            "etcd_debugging_mvcc_total_put_size_in_bytes" => {
                family.value(&[], counts.applied.put_bytes as f64)
            }
            "etcd_server_leader_changes_seen_total" => {
                family.value(&[], counts.leader_changes as f64)
            }
            "etcd_server_proposals_failed_total" => {
                family.value(&[], counts.proposals_failed as f64)
            }
            "etcd_server_proposals_pending" => family.value(&[], counts.proposals_pending as f64),
            "etcd_network_client_grpc_received_bytes_total" => {
                family.value(&[], self.sum(|own| &own.calls.received_bytes));
            }
            "etcd_network_client_grpc_sent_bytes_total" => {
                family.value(&[], self.sum(|own| &own.calls.sent_bytes))
            }
            "etcd_server_has_leader" => family.value(&[], f64::from(status.leader.is_some())),
            "etcd_server_id" => family.value(&[&facts.member_id], 1.0),
            "etcd_server_is_leader" => {
                family.value(
                    &[],
                    f64::from(status.leader.is_some_and(|leader| leader.0 == facts.member)),
                );
            }
            "etcd_server_is_learner" => family.value(&[], f64::from(status.is_learner)),
            "etcd_server_proposals_applied_total" => family.value(&[], status.applied.0 as f64),
            "etcd_server_proposals_committed_total" => family.value(&[], status.committed.0 as f64),
            "etcd_server_quota_backend_bytes" => family.value(&[], facts.quota_bytes as f64),
            "etcd_server_version" => family.value(&[version::ETCD], 1.0),
            "etcd_server_go_version" => family.value(&["none"], 1.0),
            _ => self.feed_requests(name, family),
        }
    }

    fn feed_peers(&self, name: &str, family: &mut Family<'_>) {
        let me = &self.registry.facts.member_id;
        if name == "etcd_network_known_peers" {
            for member in &self.registry.published.cluster().members {
                family.value(&[me, &format!("{:x}", member.id)], 1.0);
            }
            return;
        }
        for (id, peer) in self.registry.connectivity.all() {
            let (other, metrics) = (&*format!("{:x}", id.0), &peer.metrics);
            let counter = match name {
                "etcd_network_active_peers" => {
                    family.value(&[me, other], f64::from(peer.is_up));
                    continue;
                }
                "etcd_network_disconnected_peers_total" => {
                    family.value(&[me, other], peer.lost as f64);
                    continue;
                }
                "etcd_network_peer_round_trip_time_seconds" => {
                    family.histogram(&[other], &Sum::of([&metrics.round_trips]));
                    continue;
                }
                "etcd_network_peer_sent_bytes_total" => &metrics.sent.bytes,
                "etcd_network_peer_sent_failures_total" => &metrics.sent.failures,
                "etcd_network_peer_received_bytes_total" => &metrics.received.bytes,
                "etcd_network_peer_received_failures_total" => &metrics.received.failures,
                "basalt_peer_sent_messages_total" => &metrics.sent.messages,
                "basalt_peer_received_messages_total" => &metrics.received.messages,
                _ => return,
            };
            family.value(&[other], counter.get() as f64);
        }
    }

    fn feed_requests(&self, name: &str, family: &mut Family<'_>) {
        match name {
            "etcd_server_client_requests_total" => {
                let mut sums = BTreeMap::new();
                for (own, _) in &self.registry.loops {
                    for (version, is_stream, counter) in own.client_versions().iter() {
                        let kind = if *is_stream { "stream" } else { "unary" };
                        *sums.entry((version.clone(), kind)).or_insert(0) += counter.get();
                    }
                }
                for ((version, kind), count) in sums {
                    family.value(&[&version, kind], count as f64);
                }
            }
            "etcd_server_feature_enabled" => {
                for (feature, stage, is_on) in &self.registry.facts.features {
                    family.value(&[feature, stage], f64::from(*is_on));
                }
            }
            "etcd_server_range_duration_seconds" => {
                self.by_success(family, |own, refused| &own.ranges[refused], &[]);
            }
            "etcd_server_request_duration_seconds" => {
                for (number, (_, kind)) in RequestKind::ALL.iter().enumerate() {
                    self.by_success(
                        family,
                        |own, refused| &own.requests[number][refused],
                        &[kind],
                    );
                }
            }
            "etcd_server_health_success" => family.value(&[], self.sum(|own| &own.health_success)),
            "etcd_server_health_failures" => {
                family.value(&[], self.sum(|own| &own.health_failures))
            }
            "etcd_server_healthcheck" => {
                for ((kind, check), count) in self.health_checks() {
                    family.value(&[check, kind], f64::from(count.last_passed));
                }
            }
            "etcd_server_healthchecks_total" => {
                for ((kind, check), count) in self.health_checks() {
                    family.value(&[check, "error", kind], count.failed as f64);
                    family.value(&[check, "success", kind], count.passed as f64);
                }
            }
            _ => {}
        }
    }

    fn feed_calls(&self, name: &str, family: &mut Family<'_>) {
        let mut methods: Vec<_> = METHODS.map(labels).into_iter().enumerate().collect();
        methods.retain(|(index, _)| {
            let started = || self.sum(|own| &own.calls.started[*index]);
            *index < SHOWN_WHEN_CALLED || started() > 0.0
        });
        methods.sort_by_key(|&(_, (service, method, kind))| (method, service, kind));
        let per_method = |family: &mut Family<'_>, counters: fn(&Calls) -> &[Counter]| {
            for &(index, (service, method, kind)) in &methods {
                family.value(
                    &[method, service, kind],
                    self.sum(|own| &counters(&own.calls)[index]),
                );
            }
        };
        match name {
            "grpc_server_started_total" => per_method(family, |calls| &calls.started),
            "grpc_server_msg_received_total" => {
                per_method(family, |calls| &calls.messages_received)
            }
            "grpc_server_msg_sent_total" => per_method(family, |calls| &calls.messages_sent),
            "grpc_server_handled_total" => {
                let mut codes: Vec<_> = CODES.iter().enumerate().collect();
                codes.sort_by_key(|&(_, name)| *name);
                for (code, code_name) in codes {
                    for &(index, (service, method, kind)) in &methods {
                        let count = self.sum(|own| &own.calls.handled[index][code]);
                        family.value(&[code_name, method, service, kind], count);
                    }
                }
            }
            _ => {}
        }
    }

    fn feed_loops(&self, name: &str, family: &mut Family<'_>) {
        let counts = self.registry.published.counts();
        let value = match name {
            "basalt_build_info" => return family.value(&[version::BASALT], 1.0),
            "basalt_net_connections" => {
                self.sum_stats(|stats| &stats.opened) - self.sum_stats(|stats| &stats.closed)
            }
            "basalt_net_reads_total" => self.sum_stats(|stats| &stats.reads),
            "basalt_net_writes_total" => self.sum_stats(|stats| &stats.writes),
            "basalt_net_received_bytes_total" => self.sum_stats(|stats| &stats.received_bytes),
            "basalt_net_sent_bytes_total" => self.sum_stats(|stats| &stats.sent_bytes),
            "basalt_net_turns_total" => self.sum_stats(|stats| &stats.turns),
            "basalt_scrub_damages_total" => counts.scrub.damages as f64,
            "basalt_scrub_passes_total" => counts.scrub.passes as f64,
            "basalt_scrub_read_bytes_total" => counts.scrub.bytes as f64,
            "basalt_store_cache_bytes" => counts.cache_bytes as f64,
            "basalt_store_cache_misses_total" => counts.cache_reads as f64,
            "basalt_net_accept_pauses_total" => self.sum_stats(|stats| &stats.accept_pauses),
            _ => return,
        };
        family.value(&[], value);
    }

    fn feed_process(&self, name: &str, family: &mut Family<'_>) {
        let process = &self.process;
        let value = match name {
            "go_info" => return family.value(&["none"], 1.0),
            "go_goroutines" | "go_threads" => process.threads,
            "go_memstats_alloc_bytes"
            | "go_memstats_sys_bytes"
            | "go_memstats_heap_inuse_bytes" => process.resident_bytes,
            "os_fd_limit" | "process_max_fds" => process.fds_max,
            "os_fd_used" | "process_open_fds" => process.open_fds,
            "process_cpu_seconds_total" => process.cpu_seconds,
            "process_network_receive_bytes_total" => process.network_received_bytes,
            "process_network_transmit_bytes_total" => process.network_sent_bytes,
            "process_resident_memory_bytes" => process.resident_bytes,
            "process_start_time_seconds" => process.start_seconds,
            "process_virtual_memory_bytes" => process.virtual_bytes,
            "process_virtual_memory_max_bytes" => -1.0,
            // The scrape that asks.
            "promhttp_metric_handler_requests_in_flight" => 1.0,
            "promhttp_metric_handler_requests_total" => {
                family.value(&["200"], self.sum(|own| &own.scrapes));
                family.value(&["500"], 0.0);
                return family.value(&["503"], 0.0);
            }
            _ => return,
        };
        family.value(&[], value);
    }

    /// The two histograms of a kind, told apart by the label `success`; one without an observation is not shown.
    fn by_success(
        &self,
        family: &mut Family<'_>,
        of: impl Fn(&LoopMetrics, usize) -> &Histogram,
        labels: &[&str],
    ) {
        for (refused, success) in [(1, "false"), (0, "true")] {
            let sum = Sum::of(self.registry.loops.iter().map(|(own, _)| of(own, refused)));
            if sum.total() > 0 {
                let labels: Vec<&str> = std::iter::once(success)
                    .chain(labels.iter().copied())
                    .collect();
                family.histogram(&labels, &sum);
            }
        }
    }

    fn health_checks(&self) -> BTreeMap<(&'static str, &'static str), CheckCount> {
        let mut sums: BTreeMap<_, CheckCount> = BTreeMap::new();
        for (own, _) in &self.registry.loops {
            for (&key, count) in own.health_checks().iter() {
                let sum = sums.entry(key).or_default();
                sum.passed += count.passed;
                sum.failed += count.failed;
                sum.last_passed = count.last_passed;
            }
        }
        sums
    }

    fn sum(&self, counter: impl Fn(&LoopMetrics) -> &Counter) -> f64 {
        self.registry
            .loops
            .iter()
            .map(|(own, _)| counter(own).get())
            .sum::<u64>() as f64
    }

    fn sum_stats(&self, counter: impl Fn(&Stats) -> &Counter) -> f64 {
        self.registry
            .loops
            .iter()
            .map(|(_, stats)| counter(stats).get())
            .sum::<u64>() as f64
    }
}

/// Buckets of the defragmentation histogram.
const DEFRAG_BOUNDS: usize = 13;

fn alarm_name(alarm: i32) -> &'static str {
    etcdserverpb::AlarmType::try_from(alarm).map_or("UNKNOWN", |alarm| alarm.as_str_name())
}
