use basalt_net::h1::{Request, Response};

use super::text;

/// Who may ask from where: origins for browsers, host names against DNS rebinding.
#[derive(Debug, Clone)]
pub struct Access {
    /// `--cors`; `*` stands for all.
    pub origins: Vec<String>,
    /// `--host-whitelist`; `*` stands for all, and so does an empty list.
    pub hosts: Vec<String>,
}

impl Default for Access {
    fn default() -> Access {
        Access {
            origins: vec!["*".to_owned()],
            hosts: vec!["*".to_owned()],
        }
    }
}

impl Access {
    /// The refusal of a host name that is not listed.
    pub(super) fn refuse_host(&self, request: &Request<'_>) -> Option<Response> {
        if self.hosts.is_empty() || allows(&self.hosts, "*") {
            return None;
        }
        let host = host_name(request.header("Host").unwrap_or_default());
        if allows(&self.hosts, host) {
            return None;
        }
        let shown: String = host
            .chars()
            .filter(|character| !character.is_control())
            .collect();
        let body = format!(
            "The host name {shown:?} is not in the list of --host-whitelist, so this request is refused: a page in a browser could \
             reach this member under a name of its own (CVE-2018-5702).\n\
             Add the name with --host-whitelist={shown} if it is yours.\n"
        );
        Some(text(421, body))
    }

    /// Adds the headers that let a page of an allowed origin read the answer.
    pub(super) fn allow_origin(&self, request: &Request<'_>, mut response: Response) -> Response {
        let origin = if allows(&self.origins, "*") {
            "*"
        } else {
            request.header("Origin").unwrap_or_default()
        };
        if !allows(&self.origins, origin) {
            return response;
        }
        let headers = [
            (
                "Access-Control-Allow-Headers",
                "accept, content-type, authorization".into(),
            ),
            (
                "Access-Control-Allow-Methods",
                "POST, GET, OPTIONS, PUT, DELETE".into(),
            ),
            ("Access-Control-Allow-Origin", origin.to_owned().into()),
        ];
        response
            .headers
            .splice(0..0, headers.map(|(name, value)| (name.into(), value)));
        response
    }
}

fn allows(list: &[String], name: &str) -> bool {
    list.iter().any(|allowed| allowed == name)
}

/// The host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') =>
        {
            name.trim_start_matches('[').trim_end_matches(']')
        }
        _ => host,
    }
}
