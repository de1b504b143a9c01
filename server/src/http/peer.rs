use basalt_engine::member::Member;
use basalt_engine::replica::ClusterView;
use basalt_net::h1::{Request, Response};

use super::{Http, get_only, health, text};
use crate::version;

impl Http {
    /// What a peer port answers over HTTP: to members that join, to operators, and to etcd's members, which it cannot serve.
    pub(super) fn route_peer(&self, request: &Request<'_>) -> Response {
        let cluster = format!("{:x}", self.registry.facts.cluster);
        let response = match request.path() {
            "/members" => get_only(request, || {
                let body = members(&self.registry.published.cluster());
                Response::new(200, "application/json", body).with(RELEASE_HEADER, version::BASALT)
            }),
            "/version" => get_only(request, || self.version()),
            "/health" => get_only(request, || {
                health::health(&self.registry.published, &self.metrics, request)
            }),
            path if path == "/raft" || path.starts_with("/raft/") => {
                self.refuse_etcd(request, &cluster)
            }
            _ => text(404, "404 page not found\n"),
        };
        response.with(CLUSTER_HEADER, cluster)
    }

    /// etcd's members log the text of a 412.
    fn refuse_etcd(&self, request: &Request<'_>, cluster: &str) -> Response {
        match request.header(CLUSTER_HEADER) {
            Some(theirs) if theirs != cluster => text(412, "cluster ID mismatch\n"),
            _ => text(412, NO_ETCD_PEERS),
        }
    }
}

/// etcd's list: a member after the other as they stand in its store, and a line feed.
fn members(cluster: &ClusterView) -> String {
    let mut body = String::from("[");
    for (place, listed) in cluster.members.iter().enumerate() {
        if place > 0 {
            body.push(',');
        }
        Member::from_proto(listed).write_json(&mut body, false);
    }
    body.push_str("]\n");
    body
}

pub(crate) const CLUSTER_HEADER: &str = "X-Etcd-Cluster-ID";
/// etcd does not send it: by it a joining member knows whom it talks to.
pub(crate) const RELEASE_HEADER: &str = "X-Basalt-Release";
const NO_ETCD_PEERS: &str = "this is a member of a basalt cluster, which speaks another peer protocol than etcd: all members must run basalt\n";

#[cfg(test)]
mod tests {
    use basalt_engine::types::MemberId;

    use super::*;

    /// A joining member and etcd's own tools read it.
    #[test]
    fn members_are_listed_as_etcd_lists_them() {
        let mut cluster = ClusterView::default();
        assert_eq!(members(&cluster), "[]\n");
        for id in [1, 2] {
            let member = Member {
                id: MemberId(id),
                peer_urls: vec![format!("http://127.0.0.1:{id}")],
                name: if id == 1 {
                    "a".to_owned()
                } else {
                    String::new()
                },
                ..Member::default()
            };
            cluster.members.push(member.to_proto());
        }
        let expected = r#"[{"id":1,"peerURLs":["http://127.0.0.1:1"],"name":"a"},{"id":2,"peerURLs":["http://127.0.0.1:2"]}]"#;
        assert_eq!(members(&cluster), format!("{expected}\n"));
    }
}
