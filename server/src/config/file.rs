//! `--config-file`: YAML or JSON whose keys are the flags.
//!
//! Promises: what etcd reads from such a file is read alike; durations may also be written `10m`; an unknown key warns with its line.

use yaml_serde::{Mapping, Value};

use super::Warning;
use super::flag::{self, Kind};
use super::settings::{Settings, Source};

/// Blocks: their key, and the flags that their keys stand for.
const BLOCKS: &[(&str, &[(&str, &str)])] = &[
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
            ("crl-file", "client-crl-file"),
            ("client-crl-file", "client-crl-file"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
            ("crl-file", "peer-crl-file"),
            ("peer-crl-file", "peer-crl-file"),
        ],
    ),
    (
        "socket-options",
        &[
            ("reuse-port", "socket-reuse-port"),
            ("reuse-address", "socket-reuse-address"),
        ],
    ),
    (
        "discovery-config",
        &[
            ("token", "discovery-token"),
            ("endpoints", "discovery-endpoints"),
            ("dial-timeout", "discovery-dial-timeout"),
            ("request-timeout", "discovery-request-timeout"),
            ("keepalive-time", "discovery-keepalive-time"),
            ("keepalive-timeout", "discovery-keepalive-timeout"),
        ],
    ),
];

/// Reads the text of such a file. An error names the key.
pub(super) fn parse(text: &str, warnings: &mut Vec<Warning>) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let top = match yaml_serde::from_str(text).map_err(|error| error.to_string())? {
        Value::Null => return Ok(settings),
        Value::Mapping(top) => top,
        _ => return Err("the file holds no keys at its top".to_owned()),
    };
    for (key, value) in &top {
        let key = key_text(key)?;
        if let Some((_, names)) = BLOCKS.iter().find(|(block, _)| *block == key) {
            match value {
                Value::Null => {}
                Value::Mapping(block) => {
                    read_block(&mut settings, key, block, names, text, warnings)?
                }
                _ => return Err(format!("invalid {key}")),
            }
        } else if flag::find(key).is_some() {
            set(&mut settings, key, key, value)?;
        } else {
            warnings.push(unknown_key(key, text, flag::nearest(key)));
        }
    }
    Ok(settings)
}

fn read_block(
    settings: &mut Settings,
    block_key: &str,
    block: &Mapping,
    names: &[(&str, &str)],
    text: &str,
    warnings: &mut Vec<Warning>,
) -> Result<(), String> {
    for (key, value) in block {
        let key = key_text(key)?;
        match names.iter().find(|(name, _)| *name == key) {
            Some((_, flag)) => set(settings, flag, &format!("{block_key}.{key}"), value)?,
            None => {
                let nearest = flag::nearest_of(key, names.iter().map(|(name, _)| *name));
                warnings.push(unknown_key(key, text, nearest));
            }
        }
    }
    Ok(())
}

fn set(settings: &mut Settings, name: &str, key: &str, value: &Value) -> Result<(), String> {
    let flag = flag::find(name).expect("callers and BLOCKS name flags of the table");
    let Some(text) = go_text(flag.kind, value).map_err(|reason| format!("{key}: {reason}"))? else {
        return Ok(());
    };
    settings
        .set(flag, &text, Source::File)
        .map_err(|reason| format!("{key}: invalid value \"{text}\": {reason}"))
}

/// The value as it would stand on the command line; None for null, which leaves the default.
fn go_text(kind: Kind, value: &Value) -> Result<Option<String>, &'static str> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) if kind == Kind::Duration => format!("{number}ns"),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Sequence(items) if matches!(kind, Kind::List | Kind::Urls) => {
            let words: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            words.ok_or("a list of texts is expected")?.join(",")
        }
        _ => return Err("a single value is expected"),
    }))
}

fn key_text(key: &Value) -> Result<&str, String> {
    key.as_str().ok_or_else(|| "a key is not a text".to_owned())
}

fn unknown_key(key: &str, text: &str, nearest: Option<&str>) -> Warning {
    let is_at = |line: &str| {
        let line = line.trim_start_matches([' ', '\t', '{', '-', '"', '\'']);
        line.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    let mut warning = Warning::new("unknown key in the configuration file").with("key", key);
    if let Some(line) = text.lines().position(is_at) {
        warning = warning.with("line", &(line + 1).to_string());
    }
    match nearest {
        Some(nearest) => warning.with("nearest", nearest),
        None => warning,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> (Settings, Vec<Warning>) {
        let mut warnings = Vec::new();
        let settings = parse(text, &mut warnings).expect("a good file");
        (settings, warnings)
    }

    /// etcd writes durations as nanoseconds; people write minutes.
    #[test]
    fn durations_are_nanoseconds_or_gos_form() {
        let (settings, _) =
            read("grpc-keepalive-interval: 600000000000\ngrpc-keepalive-timeout: 10m\n");
        assert_eq!(
            settings.duration("grpc-keepalive-interval"),
            Duration::from_secs(600)
        );
        assert_eq!(
            settings.duration("grpc-keepalive-timeout"),
            Duration::from_secs(600)
        );
    }

    #[test]
    fn security_blocks_set_the_flags_of_their_side() {
        let (settings, warnings) = read(
            "client-transport-security:\n  cert-file: a.pem\npeer-transport-security:\n  cert-file: b.pem\n  allowed-cn: [x, y]\n",
        );
        assert_eq!(settings.text("cert-file"), "a.pem");
        assert_eq!(settings.text("peer-cert-file"), "b.pem");
        assert_eq!(settings.list("peer-cert-allowed-cn"), ["x", "y"]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn json_is_read_too_and_lists_or_commas_mean_the_same() {
        let (settings, _) =
            read(r#"{"log-outputs": ["stderr", "a.log"], "cors": "x,y", "max-txn-ops": 7}"#);
        assert_eq!(settings.list("log-outputs"), ["stderr", "a.log"]);
        assert_eq!(settings.list("cors"), ["x", "y"]);
        assert_eq!(settings.uint("max-txn-ops"), 7);
    }

    #[test]
    fn an_unknown_key_warns_with_its_line_and_the_nearest_name() {
        let (_, warnings) = read("name: a\n# data-dri: no\ndata-dri: x\n");
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].field("key"), Some("data-dri"));
        assert_eq!(warnings[0].field("line"), Some("3"));
        assert_eq!(warnings[0].field("nearest"), Some("data-dir"));
    }

    #[test]
    fn a_bad_value_names_its_key() {
        let error = parse("heartbeat-interval: often\n", &mut Vec::new()).unwrap_err();
        assert!(
            error.starts_with("heartbeat-interval: invalid value \"often\""),
            "{error}"
        );
        assert_eq!(
            parse("peer-transport-security: 3", &mut Vec::new()).unwrap_err(),
            "invalid peer-transport-security"
        );
        assert!(parse("- a\n", &mut Vec::new()).is_err());
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        let (settings, warnings) = read("# nothing\n");
        assert_eq!(settings.names().count(), 0);
        assert!(warnings.is_empty());
    }
}
