//! `--initial-cluster`: who the members are at the first start.

use super::Config;
use super::check::joined;
use super::url::Url;

/// The name that a member has if none was given.
pub(super) const DEFAULT_NAME: &str = "default";

/// One member of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its name.
    pub name: String,
    /// Sorted; its id is made from them.
    pub peer_urls: Vec<Url>,
}

impl Config {
    /// The members of a new cluster, sorted by name. The errors are etcd's where it has one: this member must be named with exactly the
    /// peer URLs that it advertises. May ask the system's resolver.
    pub fn initial_members(&self) -> Result<Vec<InitialMember>, String> {
        if let Some(flag) = self.bootstrap.discovery {
            return Err(format!(
                "--{flag} is not supported yet; name the members with --initial-cluster"
            ));
        }
        if self.bootstrap.initial_cluster.is_empty() {
            return Err("initial cluster unset and no discovery endpoints found".to_owned());
        }
        let members = parse(&self.bootstrap.initial_cluster)?;
        let own = members
            .iter()
            .find(|member| member.name == self.name)
            .ok_or_else(|| {
                format!(
                    "couldn't find local name \"{}\" in the initial cluster configuration",
                    self.name
                )
            })?;
        let mut all: Vec<&Url> = members
            .iter()
            .flat_map(|member| &member.peer_urls)
            .collect();
        if let Some(url) = all.iter().find(|url| url.is_secure() && members.len() > 1) {
            return Err(format!(
                "--initial-cluster: {url} asks for TLS, which basalt does not speak to peers yet; use http or unix"
            ));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        if all.len() < count {
            return Err(format!(
                "initial cluster {} has duplicate url",
                self.bootstrap.initial_cluster
            ));
        }
        if !same_places(&own.peer_urls, &self.advertise_peer) {
            let missing = own
                .peer_urls
                .iter()
                .find(|url| !self.advertise_peer.contains(url))
                .unwrap_or(&own.peer_urls[0]);
            return Err(format!(
                "--initial-cluster has {}={missing} but missing from --initial-advertise-peer-urls={}",
                self.name,
                joined(&self.advertise_peer)
            ));
        }
        Ok(members)
    }
}

/// A cluster of one: what etcd assumes when only a name is given.
pub(super) fn alone(name: &str, peer_urls: &[Url]) -> String {
    peer_urls
        .iter()
        .map(|url| format!("{name}={url}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// `name=URL,name=URL`; a name that stands several times has several URLs.
fn parse(text: &str) -> Result<Vec<InitialMember>, String> {
    let mut members: Vec<InitialMember> = Vec::new();
    for entry in text.split(',') {
        let (name, url) = entry
            .trim()
            .split_once('=')
            .ok_or_else(|| format!("--initial-cluster: \"{entry}\" is not of the form name=URL"))?;
        if url.is_empty() {
            return Err(format!("empty URL given for \"{name}\""));
        }
        let url = Url::parse(url)?;
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url),
            None => members.push(InitialMember {
                name: name.to_owned(),
                peer_urls: vec![url],
            }),
        }
    }
    members
        .iter_mut()
        .for_each(|member| member.peer_urls.sort());
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

/// Equal as texts, or at least as addresses once names are resolved.
pub(crate) fn same_places(a: &[Url], b: &[Url]) -> bool {
    let places = |urls: &[Url]| {
        let mut all: Vec<_> = urls
            .iter()
            .map(|url| (url.scheme(), url.resolve()))
            .collect();
        all.sort();
        all
    };
    a == b
        || a.len() == b.len()
            && places(a) == places(b)
            && a.iter().all(|url| !url.resolve().is_empty())
}
