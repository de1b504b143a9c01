//! The first start: who the members are, by the flags or by asking a cluster that is there.
//!
//! Promises: ids are those that etcd would give; a member that the cluster knows as started does not begin anew with an empty directory.
//! Never: a change to the data directory. Start at [`FirstMembers::of`].

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use basalt_engine::member::{Member, cluster_id, member_id};
use basalt_engine::types::{ClusterId, MemberId};
use basalt_engine::wal::Identity;
use serde::Deserialize;

use crate::boot::BootError;
use crate::config::{Address, Config, InitialMember, Url, open_first, same_places};
use crate::http::{CLUSTER_HEADER, RELEASE_HEADER};

/// The members of a cluster as its newest member knows them before it has a log, with the ids that etcd would give them (etcd-facts 2).
pub(crate) struct FirstMembers {
    /// By ascending id.
    pub(crate) members: Vec<Member>,
    pub(crate) cluster: ClusterId,
    pub(crate) own: MemberId,
    /// They have a log already, which this one is to get from them.
    pub(crate) has_log: bool,
}

impl FirstMembers {
    /// By the flags; a cluster that is to be joined is asked.
    pub(crate) fn of(config: &Config) -> Result<FirstMembers, BootError> {
        let named = config.initial_members().map_err(BootError::Bootstrap)?;
        match config.bootstrap.joins_existing {
            true => joined(config, &named).map_err(BootError::Bootstrap),
            false => founded(config, &named),
        }
    }

    /// Who this member is from now on, with a salt of its own.
    pub(crate) fn identity(&self) -> Result<Identity, BootError> {
        let mut salt = [0; 8];
        getrandom::fill(&mut salt)?;
        Ok(Identity {
            cluster: self.cluster,
            member: self.own,
            salt: u64::from_ne_bytes(salt),
        })
    }

    pub(crate) fn is_of(&self, identity: &Identity) -> bool {
        (self.cluster, self.own) == (identity.cluster, identity.member)
    }

    /// Asks the others whether this member has run before. Its data would be lost then, and with it votes and acknowledgements.
    pub(crate) fn refuse_lost_data(&self, config: &Config) -> Result<(), BootError> {
        if self.has_log || self.members.len() < 2 {
            return Ok(());
        }
        let named = config.initial_members().map_err(BootError::Bootstrap)?;
        for url in others(config, &named) {
            let Ok(known) = fetch(&url, FOUNDING_PATIENCE) else {
                continue;
            };
            let is_started = |it: &Member| it.id == self.own && !it.client_urls.is_empty();
            if known.cluster == self.cluster && known.members.iter().any(is_started) {
                return Err(BootError::Bootstrap(format!(
                    "member {} has already been bootstrapped",
                    self.own
                )));
            }
        }
        Ok(())
    }
}

fn founded(config: &Config, named: &[InitialMember]) -> Result<FirstMembers, BootError> {
    let mut members = Vec::new();
    let mut own = MemberId(0);
    for initial in named {
        let peer_urls: Vec<String> = initial.peer_urls.iter().map(Url::to_string).collect();
        let id = member_id(&peer_urls, &config.bootstrap.token);
        if id == MemberId(0) {
            return Err(BootError::Bootstrap(
                "the peer URLs give the member id 0; change one of them".to_owned(),
            ));
        }
        if initial.name == config.name {
            own = id;
        }
        members.push(Member {
            id,
            peer_urls,
            name: initial.name.clone(),
            ..Member::default()
        });
    }
    members.sort_by_key(|member| member.id);
    let ids: Vec<MemberId> = members.iter().map(|member| member.id).collect();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(BootError::Bootstrap(
            "two members have peer URLs that give the same member id; change one of them"
                .to_owned(),
        ));
    }
    Ok(FirstMembers {
        cluster: cluster_id(&ids),
        members,
        own,
        has_log: false,
    })
}

/// In etcd's words: they stand in its documentation and in scripts.
fn joined(config: &Config, named: &[InitialMember]) -> Result<FirstMembers, String> {
    let mut known = None;
    for url in others(config, named) {
        match fetch(&url, JOINING_PATIENCE) {
            Ok(found) if found.members.is_empty() => {
                return Err("cannot fetch cluster info from peer urls: failed to get raft cluster member(s) from the given URLs".to_owned());
            }
            Ok(found) => {
                known = Some((url, found));
                break;
            }
            Err(error) => tracing::warn!(
                address = %format_args!("{url}/members"),
                %error,
                "failed to get cluster response"
            ),
        }
    }
    let Some((url, known)) = known else {
        return Err(
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs".to_owned(),
        );
    };
    if !known.is_basalt {
        return Err(format!(
            "{url} is a member of an etcd cluster, and basalt speaks to its peers in its own way: make a cluster of basalt members from a \
             snapshot (basalt restore)"
        ));
    }
    let own = own_id(config, named, &known)
        .map_err(|error| format!("error validating peerURLs {}: {error}", known.shown()))?;
    let mut members = known.members.iter();
    if members.any(|it| it.id == own && !it.client_urls.is_empty()) {
        // Its votes and what it acknowledged are gone: under the same id it could undo both.
        return Err(format!(
            "member {own} has already been bootstrapped and its data is gone: remove it from the cluster and add it anew"
        ));
    }
    Ok(FirstMembers {
        members: known.members,
        cluster: known.cluster,
        own,
        has_log: true,
    })
}

/// Finds each of the cluster's members among those that the flags name, by its peer URLs.
fn own_id(config: &Config, named: &[InitialMember], known: &Known) -> Result<MemberId, String> {
    if known.members.len() != named.len() {
        return Err("member count is unequal".to_owned());
    }
    let mut own = None;
    for member in &known.members {
        let mut urls: Vec<Url> = member
            .peer_urls
            .iter()
            .filter_map(|url| Url::parse(url).ok())
            .collect();
        urls.sort();
        let found = named.iter().find(|it| same_places(&it.peer_urls, &urls));
        let Some(found) = found else {
            return Err(format!(
                "PeerURLs: no match found for existing member ({}, [{}]), last resolver error (<nil>)",
                member.id,
                member.peer_urls.join(" ")
            ));
        };
        if found.name == config.name {
            own = Some(member.id);
        }
    }
    own.ok_or_else(|| {
        format!(
            "the cluster has no member with the peer URLs of \"{}\"",
            config.name
        )
    })
}

/// The peer URLs of everybody else, in the order to be asked.
fn others(config: &Config, named: &[InitialMember]) -> Vec<Url> {
    let others = named.iter().filter(|member| member.name != config.name);
    let mut urls: Vec<Url> = others.flat_map(|member| member.peer_urls.clone()).collect();
    urls.sort();
    urls
}

/// What a peer says of its cluster.
struct Known {
    cluster: ClusterId,
    members: Vec<Member>,
    is_basalt: bool,
}

impl Known {
    /// As etcd prints a cluster.
    fn shown(&self) -> String {
        let member = |it: &Member| {
            format!(
                "&{{ID:{} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
                it.id,
                it.peer_urls.join(" "),
                it.is_learner,
                it.name,
                it.client_urls.join(" ")
            )
        };
        let members: Vec<String> = self.members.iter().map(member).collect();
        format!(
            "{{ClusterID:{} Members:[{}] RemovedMemberIDs:[]}}",
            self.cluster,
            members.join(" ")
        )
    }
}

/// A member as `/members` lists it.
#[derive(Deserialize)]
struct Listed {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
}

impl From<Listed> for Member {
    fn from(listed: Listed) -> Member {
        Member {
            id: MemberId(listed.id),
            peer_urls: listed.peer_urls,
            is_learner: listed.is_learner,
            name: listed.name,
            client_urls: listed.client_urls,
        }
    }
}

fn fetch(url: &Url, patience: Duration) -> io::Result<Known> {
    let answer = get(url, "/members", Instant::now() + patience)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no list of members"))
}

fn parse(answer: &str) -> Option<Known> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    if !lines.next()?.starts_with("HTTP/1.1 200") {
        return None;
    }
    let header = |name: &str| {
        lines.clone().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let cluster = u64::from_str_radix(header(CLUSTER_HEADER)?, 16).ok()?;
    let listed: Vec<Listed> = serde_json::from_str(body).ok()?;
    let mut members: Vec<Member> = listed.into_iter().map(Member::from).collect();
    members.sort_by_key(|member| member.id);
    Some(Known {
        cluster: ClusterId(cluster),
        members,
        is_basalt: header(RELEASE_HEADER).is_some(),
    })
}

/// A whole answer, at most `ANSWER_BYTES_MAX`; there is no other work to do meanwhile.
fn get(url: &Url, path: &str, until: Instant) -> io::Result<String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        url.host_port()
    );
    if let Address::Unix(socket) = url.address() {
        let stream = UnixStream::connect(socket)?;
        let wait = left(until)?;
        stream.set_read_timeout(Some(wait))?;
        stream.set_write_timeout(Some(wait))?;
        return ask(stream, &request, until);
    }
    let stream = open_first(url.resolve(), |address| {
        TcpStream::connect_timeout(&address, left(until)?)
    })?;
    let wait = left(until)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    ask(stream, &request, until)
}

fn ask(mut stream: impl Read + Write, request: &str, until: Instant) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        left(until)?;
        let count = stream.read(&mut piece)?;
        answer.extend_from_slice(&piece[..count]);
        if count == 0 {
            return String::from_utf8(answer)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer is too long",
            ));
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// For one peer to say what its cluster is, as in etcd.
const JOINING_PATIENCE: Duration = Duration::from_secs(10);
/// Nobody need be there yet when a cluster is founded.
const FOUNDING_PATIENCE: Duration = Duration::from_secs(1);
/// A thousand members have less.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn config(more: &[&str]) -> Config {
        let args: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        load(&args, std::iter::empty(), &mut Vec::new()).expect("a good command line")
    }

    fn three(name: &str) -> FirstMembers {
        let place = name.bytes().next().expect("a letter") - b'a';
        FirstMembers::of(&config(&[
            &format!("--name={name}"),
            "--initial-cluster=a=http://127.0.0.1:7000,b=http://127.0.0.1:7001,c=http://127.0.0.1:7002",
            &format!("--initial-advertise-peer-urls=http://127.0.0.1:700{place}"),
        ]))
        .expect("a good cluster")
    }

    /// Members that count differently would each found a cluster of their own.
    #[test]
    fn all_members_of_a_new_cluster_agree_on_everything_but_who_they_are() {
        let (a, b, c) = (three("a"), three("b"), three("c"));
        assert_eq!(a.members, b.members);
        assert_eq!(b.members, c.members);
        assert_eq!((a.cluster, b.cluster), (b.cluster, c.cluster));
        let mut own = [a.own, b.own, c.own];
        own.sort();
        let ids: Vec<MemberId> = a.members.iter().map(|member| member.id).collect();
        assert_eq!(ids, own);
    }

    fn known(members: &str, extra: &str) -> Option<Known> {
        parse(&format!(
            "HTTP/1.1 200 OK\r\nx-etcd-cluster-id: 1f\r\n{extra}\r\n{members}\n"
        ))
    }

    #[test]
    fn a_joining_member_finds_its_id_by_its_peer_urls() {
        let config = config(&[
            "--name=b",
            "--initial-cluster=a=http://127.0.0.1:7000,b=http://127.0.0.1:7001",
            "--initial-advertise-peer-urls=http://127.0.0.1:7001",
            "--initial-cluster-state=existing",
        ]);
        let named = config.initial_members().expect("good flags");
        let list = r#"[{"id":9,"peerURLs":["http://127.0.0.1:7000"],"name":"a","clientURLs":["http://x:1"]},{"id":5,"peerURLs":["http://127.0.0.1:7001"]}]"#;
        let found = known(list, "X-Basalt-Release: 1\r\n").expect("a list");
        assert_eq!(found.cluster, ClusterId(0x1f));
        assert!(found.is_basalt);
        assert_eq!(own_id(&config, &named, &found), Ok(MemberId(5)));
        let fewer =
            known(r#"[{"id":9,"peerURLs":["http://127.0.0.1:7000"]}]"#, "").expect("a list");
        assert!(!fewer.is_basalt);
        let error = own_id(&config, &named, &fewer).expect_err("one is missing");
        assert_eq!(error, "member count is unequal");
        assert!(
            fewer
                .shown()
                .starts_with("{ClusterID:1f Members:[&{ID:9 RaftAttributes:")
        );
        let other = list.replace("7000", "7009");
        let error = own_id(&config, &named, &known(&other, "").expect("a list"));
        assert!(error.expect_err("no match").contains("no match found"));
    }

    #[test]
    fn what_is_no_list_of_members_is_refused() {
        assert!(known("{}", "").is_none());
        assert!(parse("HTTP/1.1 200 OK\r\n\r\n[]").is_none());
        assert!(parse("HTTP/1.1 404 Not Found\r\nX-Etcd-Cluster-ID: 1\r\n\r\n[]").is_none());
        assert!(parse("").is_none());
    }
}
