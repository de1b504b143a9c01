use super::*;

fn load_with(args: &[&str], env: &[(&str, &str)]) -> (Result<Config, Exit>, Vec<Warning>) {
    let args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut warnings = Vec::new();
    (load(&args, env, &mut warnings), warnings)
}

fn config(args: &[&str]) -> Config {
    load_with(args, &[]).0.expect("a good command line")
}

fn refused(args: &[&str]) -> String {
    match load_with(args, &[]).0 {
        Err(Exit::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn has(warnings: &[Warning], message: &str, field: (&str, &str)) -> bool {
    warnings
        .iter()
        .any(|warning| warning.message.contains(message) && warning.field(field.0) == Some(field.1))
}

#[test]
fn without_any_flag_a_member_serves_on_localhost_alone() {
    let config = config(&[]);
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(config.listen_client[0].to_string(), "http://localhost:2379");
    assert_eq!(
        config.bootstrap.initial_cluster,
        "default=http://localhost:2380"
    );
    assert_eq!(config.limits.request_bytes, 1_572_864);
    assert_eq!(config.limits.concurrent_streams, u32::MAX);
    assert_eq!(config.initial_members().expect("alone").len(), 1);
}

#[test]
fn a_name_alone_names_directory_and_cluster() {
    let config = config(&["--name=a"]);
    assert_eq!(config.data_dir, PathBuf::from("a.etcd"));
    assert_eq!(config.bootstrap.initial_cluster, "a=http://localhost:2380");
}

#[test]
fn the_flag_wins_over_the_variable_and_says_so() {
    let (config, warnings) = load_with(
        &["--name=flag"],
        &[("ETCD_NAME", "env"), ("ETCD_HEARTBEAT_INTERVAL", "50")],
    );
    let config = config.expect("a good command line");
    assert_eq!(config.name, "flag");
    assert_eq!(config.heartbeat, Duration::from_millis(50));
    assert!(has(
        &warnings,
        "shadowed",
        ("environment-variable", "ETCD_NAME")
    ));
}

#[test]
fn an_unknown_variable_warns_by_name_and_keeps_its_value_secret() {
    let (config, warnings) = load_with(&[], &[("ETCD_ROOT_PASSWORD", "hunter2"), ("PATH", "/bin")]);
    assert!(config.is_ok());
    assert!(has(
        &warnings,
        "unrecognized environment variable",
        ("environment-variable", "ETCD_ROOT_PASSWORD")
    ));
    assert!(!format!("{warnings:?}").contains("hunter2"));
}

#[test]
fn a_bad_variable_is_refused_by_name() {
    let (config, _) = load_with(&[], &[("ETCD_MAX_TXN_OPS", "many")]);
    assert_eq!(
        config.unwrap_err(),
        Exit::Refused("invalid value \"many\" for ETCD_MAX_TXN_OPS: parse error".into())
    );
}

#[test]
fn a_file_rules_alone_and_each_dropped_setting_is_named() {
    let dir = tempfile::tempdir().expect("a directory for the file");
    let path = dir.path().join("basalt.yaml");
    std::fs::write(&path, "name: from-file\n").expect("written");
    let path = path.to_str().expect("a plain path");
    let (config, warnings) = load_with(
        &["--config-file", path, "--name=flag"],
        &[("ETCD_DATA_DIR", "/x"), ("ETCD_ODD", "1")],
    );
    let config = config.expect("a good file");
    assert_eq!(config.name, "from-file");
    assert_eq!(config.data_dir, PathBuf::from("from-file.etcd"));
    assert!(has(&warnings, "flag is ignored", ("flag", "name")));
    assert!(has(
        &warnings,
        "variable is ignored",
        ("environment-variable", "ETCD_DATA_DIR")
    ));
}

#[test]
fn the_file_may_be_named_by_its_variable() {
    let (config, _) = load_with(&[], &[("ETCD_CONFIG_FILE", "/does/not/exist")]);
    assert!(matches!(config, Err(Exit::Refused(text)) if text.starts_with("open /does/not/exist")));
}

#[test]
fn each_flag_without_effect_warns_once() {
    let (config, warnings) = load_with(&["--pre-vote", "--cert-file=x", "--cert-file=y"], &[]);
    assert!(config.is_ok());
    assert_eq!(
        warnings
            .iter()
            .filter(|warning| warning.field("flag") == Some("cert-file"))
            .count(),
        1
    );
    assert!(has(
        &warnings,
        "flag is ignored",
        ("reason", "it is always on")
    ));
}

#[test]
fn older_names_reach_todays_flags() {
    let (config, warnings) = load_with(
        &[
            "--experimental-max-learners=2",
            "--experimental-enable-lease-checkpoint-persist",
            "--cluster-active-size",
        ],
        &[],
    );
    assert!(has(&warnings, "new name", ("use", "max-learners")));
    assert!(!has(&warnings, "no effect yet", ("flag", "max-learners")));
    assert!(has(
        &warnings,
        "flag is ignored",
        ("flag", "cluster-active-size")
    ));
    assert!(
        matches!(config, Err(Exit::Refused(text)) if text.contains("requires enabling feature gate LeaseCheckpoint"))
    );
}

/// Tools and people match these texts; they are etcd's.
#[test]
fn misfits_are_refused_with_etcds_words() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--heartbeat-interval=1000"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[1000ms]",
        ),
        (
            &["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (
            &["--heartbeat-interval=0"],
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            &[
                "--listen-client-urls=http://foo.bar:22379",
                "--advertise-client-urls=http://foo.bar:22379",
            ],
            "expected IP in URL for binding (http://foo.bar:22379)",
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:22379"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--advertise-client-urls=http://:1"],
            "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" (unexpected empty host (http://:1))",
        ),
        (
            &[
                "--discovery-srv=x",
                "--initial-cluster=default=http://localhost:2380",
            ],
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        (
            &["--discovery-token=x"],
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            &["--auto-compaction-mode=foo"],
            "unknown auto-compaction-mode \"foo\"",
        ),
        (
            &["--log-format=foo"],
            "unknown log format: foo, supported values json, console",
        ),
        (
            &["--log-outputs=stdout,default"],
            "multi logoutput for \"default\" is not supported yet",
        ),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (&["--logger=foo"], "unknown logger option \"foo\""),
        (
            &["--tls-min-version=TLS1.9"],
            "unexpected TLS version \"TLS1.9\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            &[
                "--listen-client-urls=https://127.0.0.1:1",
                "--advertise-client-urls=https://127.0.0.1:1",
            ],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            &["--listen-metrics-urls=https://127.0.0.1:1"],
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
    ];
    for (args, error) in cases {
        assert_eq!(refused(args), *error);
    }
}

#[test]
fn a_cluster_without_this_member_or_with_other_urls_is_refused_at_bootstrap() {
    let error = |args: &[&str]| config(args).initial_members().unwrap_err();
    assert_eq!(
        error(&["--initial-cluster=a=http://127.0.0.1:2380"]),
        "couldn't find local name \"default\" in the initial cluster configuration"
    );
    assert_eq!(
        error(&["--initial-cluster=default=http://127.0.0.1:22380"]),
        "--initial-cluster has default=http://127.0.0.1:22380 but missing from \
         --initial-advertise-peer-urls=http://localhost:2380"
    );
    assert_eq!(
        error(&["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"]),
        "initial cluster default=http://localhost:2380,b=http://localhost:2380 has duplicate url"
    );
    assert!(
        error(&["--discovery-srv=example.org"]).contains("--discovery-srv is not supported yet")
    );
}

#[test]
fn threads_are_a_word_or_a_number() {
    assert_eq!(config(&["--threads=inline"]).threads, Threads::Inline);
    assert_eq!(config(&["--threads=4"]).threads, Threads::Network(4));
    assert!(refused(&["--threads=0"]).starts_with("--threads must be"));
}
