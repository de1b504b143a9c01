use basalt_engine::replica::{ClusterView, Status};
use basalt_engine::types::MemberId;
use basalt_net::h1::Header;
use basalt_pb::etcdserverpb::AlarmType;

use super::*;

fn http(access: Access) -> Http {
    let registry = crate::metrics::tests::registry(1);
    let metrics = Arc::clone(&registry.loops[0].0);
    Http::new(Arc::new(registry), metrics, access)
}

fn ask(http: &Http, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let headers: Vec<Header<'_>> = headers
        .iter()
        .map(|&(name, value)| Header {
            name,
            value: value.as_bytes(),
        })
        .collect();
    http.answer(&Request {
        method,
        target,
        headers: &headers,
        body: b"",
        tag: tag::CLIENT,
    })
}

fn get(target: &str) -> (u16, String) {
    let response = ask(&http(Access::default()), "GET", target, &[]);
    (response.status, String::from_utf8(response.body).unwrap())
}

/// A member that leads, with these alarms.
fn led(alarms: &[AlarmType]) -> Http {
    let http = http(Access::default());
    let published = &http.registry.published;
    published.set_status(Status {
        leader: Some(MemberId(0xabc)),
        ..Status::default()
    });
    published.read_gate().set(true);
    let alarms = alarms
        .iter()
        .map(|&alarm| (MemberId(0xabc), alarm as i32))
        .collect();
    let cluster_version = Some("3.7.0".to_owned());
    published.set_cluster(ClusterView {
        alarms,
        cluster_version,
        ..ClusterView::default()
    });
    http
}

fn get_from(http: &Http, target: &str) -> (u16, String) {
    let response = ask(http, "GET", target, &[]);
    (response.status, String::from_utf8(response.body).unwrap())
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| &**value)
}

/// [HTTP-2] [HTTP-3] [HTTP-4] Probes of orchestrators match these bytes.
#[test]
fn a_member_without_a_leader_is_unhealthy_and_not_ready_but_alive() {
    assert_eq!(
        get("/health"),
        (
            503,
            "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n".to_owned()
        )
    );
    assert_eq!(
        get("/health?serializable=true"),
        (200, r#"{"health":"true","reason":""}"#.to_owned())
    );
    assert_eq!(get("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(
        get("/livez?verbose"),
        (200, "[+]serializable_read ok\nok\n".to_owned())
    );
    let lines = "[+]data_corruption ok\n[+]serializable_read ok\n\
                 [-]linearizable_read failed: etcdserver: no leader\n[+]non_learner ok\n\n";
    assert_eq!(get("/readyz"), (503, lines.to_owned()));
    assert_eq!(
        get("/readyz?exclude=linearizable_read"),
        (200, "ok\n".to_owned())
    );
    assert_eq!(get("/readyz/non_learner"), (200, "ok\n".to_owned()));
}

/// [HTTP-2] [HTTP-4]
#[test]
fn a_member_that_leads_is_healthy_and_ready() {
    let http = led(&[]);
    assert_eq!(
        get_from(&http, "/health"),
        (200, r#"{"health":"true","reason":""}"#.to_owned())
    );
    assert_eq!(get_from(&http, "/readyz"), (200, "ok\n".to_owned()));
    let body = r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(get_from(&http, "/version"), (200, body.to_owned()));
    let metrics = get_from(&http, "/metrics").1;
    assert!(metrics.contains("\netcd_server_has_leader 1\n"));
    assert!(metrics.contains("\netcd_server_health_success 1\n"));
}

/// [HTTP-2] [HTTP-4] An orchestrator must not restart a member that only lacks space.
#[test]
fn alarms_make_a_member_unhealthy_but_only_corruption_makes_it_unready() {
    let full = led(&[AlarmType::Nospace]);
    let reason = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n";
    assert_eq!(get_from(&full, "/health"), (503, reason.to_owned()));
    assert_eq!(get_from(&full, "/health?exclude=NOSPACE").0, 200);
    assert_eq!(get_from(&full, "/readyz").0, 200);
    let corrupt = led(&[AlarmType::Corrupt]);
    assert_eq!(get_from(&corrupt, "/health?exclude=NOSPACE").0, 503);
    assert_eq!(
        get_from(&corrupt, "/readyz/data_corruption"),
        (
            503,
            "[-]data_corruption failed: alarm activated: CORRUPT\n\n".to_owned()
        )
    );
    assert_eq!(get_from(&corrupt, "/livez").0, 200);
}

/// [HTTP-1]
#[test]
fn before_the_cluster_has_a_version_it_is_not_decided() {
    let body = r#"{"etcdserver":"3.7.3","etcdcluster":"not_decided","storage":"unknown"}"#;
    assert_eq!(get("/version"), (200, body.to_owned()));
}

/// [HTTP-5]
#[test]
fn unknown_paths_are_refused_in_gos_words() {
    for target in ["/", "/nothing", "/readyz/nothing", "/livezx", "/health/"] {
        assert_eq!(
            get(target),
            (404, "404 page not found\n".to_owned()),
            "{target}"
        );
    }
    assert_eq!(get("/v3/nothing").1, r#"{"code":5,"message":"Not Found"}"#);
}

/// [HTTP-5]
#[test]
fn wrong_methods_are_refused_with_the_right_one_named() {
    for target in ["/health", "/livez", "/readyz/non_learner", "/version"] {
        let response = ask(&http(Access::default()), "POST", target, &[]);
        assert_eq!(
            (response.status, header(&response, "Allow")),
            (405, Some("GET"))
        );
        assert_eq!(response.body, b"Method Not Allowed\n");
    }
    assert_eq!(
        ask(&http(Access::default()), "POST", "/metrics", &[]).status,
        200
    );
}

#[test]
fn paths_are_decoded_and_crooked_ones_redirected() {
    assert_eq!(get("/%6civez").1, "ok\n");
    let response = ask(
        &http(Access::default()),
        "GET",
        "//livez/../health?a=b",
        &[],
    );
    assert_eq!(
        (response.status, header(&response, "Location")),
        (307, Some("/health?a=b"))
    );
    let response = ask(&http(Access::default()), "GET", "//a%0d%0ab", &[]);
    assert_eq!(header(&response, "Location"), Some("/ab"));
}

/// [HTTP-6]
#[test]
fn browsers_of_any_origin_may_read_unless_origins_are_listed() {
    let response = ask(&http(Access::default()), "OPTIONS", "/anything", &[]);
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(header(&response, "Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(
        header(&response, "Access-Control-Allow-Methods"),
        Some("POST, GET, OPTIONS, PUT, DELETE")
    );
    assert_eq!(
        header(&response, "Access-Control-Allow-Headers"),
        Some("accept, content-type, authorization")
    );
    let listed = http(Access {
        origins: vec!["http://a".to_owned()],
        ..Access::default()
    });
    let allowed = ask(&listed, "GET", "/version", &[("Origin", "http://a")]);
    assert_eq!(
        header(&allowed, "Access-Control-Allow-Origin"),
        Some("http://a")
    );
    let other = ask(&listed, "GET", "/version", &[("Origin", "http://b")]);
    assert_eq!(header(&other, "Access-Control-Allow-Origin"), None);
}

#[test]
fn a_host_name_that_is_not_listed_is_refused_and_told_why() {
    let http = http(Access {
        hosts: vec!["a".to_owned(), "::1".to_owned()],
        ..Access::default()
    });
    for (host, status) in [
        ("a", 200),
        ("a:2379", 200),
        ("[::1]:2379", 200),
        ("b", 421),
        ("", 421),
    ] {
        let response = ask(&http, "GET", "/version", &[("Host", host)]);
        assert_eq!(response.status, status, "{host}");
        assert_eq!(
            status == 421,
            String::from_utf8(response.body)
                .unwrap()
                .contains("CVE-2018-5702")
        );
    }
}

#[test]
fn a_metrics_listener_serves_metrics_and_health_only() {
    let http = http(Access::default());
    let ask = |target| {
        http.answer(&Request {
            method: "GET",
            target,
            headers: &[],
            body: b"",
            tag: tag::METRICS,
        })
    };
    assert_eq!(ask("/livez").status, 200);
    assert_eq!(ask("/metrics").status, 200);
    assert_eq!(ask("/version").status, 404);
}
