use basalt_engine::replica::Published;
use basalt_net::h1::{Request, Response};
use basalt_pb::etcdserverpb::AlarmType;

use super::text;
use crate::metrics::LoopMetrics;

/// `/health`: alarms, then a leader, then a read.
pub(super) fn health(
    published: &Published,
    metrics: &LoopMetrics,
    request: &Request<'_>,
) -> Response {
    match why_unhealthy(published, request) {
        None => {
            metrics.health_success.add(1);
            Response::new(
                200,
                "text/plain; charset=utf-8",
                r#"{"health":"true","reason":""}"#,
            )
        }
        Some(reason) => {
            metrics.health_failures.add(1);
            text(
                503,
                format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"),
            )
        }
    }
}

fn why_unhealthy(published: &Published, request: &Request<'_>) -> Option<String> {
    let excluded = |name: &str| {
        request
            .query_values("exclude")
            .any(|excluded| excluded == name)
    };
    for (_, alarm) in &published.cluster().alarms {
        if let Some(name) = alarm_name(*alarm)
            && !excluded(name)
        {
            return Some(format!("ALARM {name}"));
        }
    }
    let is_serializable = request
        .query_values("serializable")
        .any(|value| value == "true");
    if !is_serializable && published.status().leader.is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let check = if is_serializable {
        Check::SerializableRead
    } else {
        Check::LinearizableRead
    };
    check
        .run(published)
        .err()
        .map(|error| format!("RANGE ERROR:{error}"))
}

fn alarm_name(alarm: i32) -> Option<&'static str> {
    match AlarmType::try_from(alarm).ok()? {
        AlarmType::None => None,
        AlarmType::Nospace => Some("NOSPACE"),
        AlarmType::Corrupt => Some("CORRUPT"),
    }
}

/// One path under `/livez` or `/readyz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    kind: &'static str,
    checks: &'static [Check],
}

/// What a probe looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Probe {
    pub(super) fn of(path: &str) -> Option<Probe> {
        let (kind, checks, rest) = if let Some(rest) = path.strip_prefix("/livez") {
            ("livez", LIVE, rest)
        } else {
            ("readyz", READY, path.strip_prefix("/readyz")?)
        };
        if rest.is_empty() {
            return Some(Probe { kind, checks });
        }
        let name = rest.strip_prefix('/')?;
        let at = checks.iter().position(|check| check.name() == name)?;
        Some(Probe {
            kind,
            checks: &checks[at..=at],
        })
    }

    pub(super) fn answer(
        self,
        published: &Published,
        metrics: &LoopMetrics,
        request: &Request<'_>,
    ) -> Response {
        let mut lines = String::new();
        let mut has_failed = false;
        for check in self.checks {
            let name = check.name();
            if request
                .query_values("exclude")
                .any(|excluded| excluded == name)
            {
                continue;
            }
            let outcome = check.run(published);
            metrics.health_check(self.kind, name, outcome.is_ok());
            has_failed |= outcome.is_err();
            match outcome {
                Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
                Err(error) => lines.push_str(&format!("[-]{name} failed: {error}\n")),
            }
        }
        if has_failed {
            return text(503, lines + "\n");
        }
        let is_verbose = request.query_values("verbose").next().is_some();
        text(
            200,
            if is_verbose {
                lines + "ok\n"
            } else {
                "ok\n".to_owned()
            },
        )
    }
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    fn run(self, published: &Published) -> Result<(), &'static str> {
        let status = published.status();
        let holds = match self {
            Check::DataCorruption => {
                let is_corrupt = |&(_, alarm): &(_, i32)| alarm == AlarmType::Corrupt as i32;
                !published.cluster().alarms.iter().any(is_corrupt)
            }
            Check::SerializableRead => status.failed.is_none(),
            // With several members a read needs the leader's word; that there is a leader is what can be known without waiting.
            Check::LinearizableRead => {
                let is_led = status.is_ready && status.leader.is_some();
                (published.read_gate().is_free() || is_led) && status.failed.is_none()
            }
            Check::NonLearner => !status.is_learner,
        };
        if holds {
            return Ok(());
        }
        Err(match self {
            Check::DataCorruption => "alarm activated: CORRUPT",
            Check::LinearizableRead if status.leader.is_none() => "etcdserver: no leader",
            Check::LinearizableRead if status.failed.is_none() => "etcdserver: request timed out",
            Check::SerializableRead | Check::LinearizableRead => "etcdserver: server stopped",
            Check::NonLearner => "not supported for learner",
        })
    }
}

const LIVE: &[Check] = &[Check::SerializableRead];
const READY: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];
