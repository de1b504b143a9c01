//! The command line in Go's syntax, and `--help`.
//!
//! Promises: `-name x`, `--name=x`, `--bool`, `--bool=false` mean what they mean to etcd; an unknown flag is refused with the nearest name.
//! Go's rules differ from clap's where a value follows in a word of its own, so [`normalise`] first writes each flag as `--name=value`.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use super::Exit;
use super::flag::{self, Flag, Group, Kind, Status};
use super::settings::{Settings, Source};
use super::table::FLAGS;

/// The two that are not settings.
const CONFIG_FILE: &str = "config-file";
const VERSION: &str = "version";

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct CommandLine {
    pub(super) settings: Settings,
    /// `--config-file`.
    pub(super) config_file: Option<String>,
}

pub(super) fn parse(args: &[String]) -> Result<CommandLine, Exit> {
    let words = normalise(args)?;
    let matches = command()
        .try_get_matches_from(words)
        .map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp => Exit::Print(error.to_string()),
            _ => Exit::Usage(error.to_string()),
        })?;
    if matches
        .get_one::<String>(VERSION)
        .is_some_and(|value| value != "false")
    {
        return Err(Exit::Print(crate::version::text()));
    }
    let mut settings = Settings::default();
    for flag in FLAGS {
        let Some(text) = matches.get_one::<String>(flag.name) else {
            continue;
        };
        settings.set(flag, text, Source::Flag).map_err(|reason| {
            Exit::Usage(format!(
                "invalid value \"{text}\" for flag --{}: {reason}\n",
                flag.name
            ))
        })?;
    }
    Ok(CommandLine {
        settings,
        config_file: matches.get_one::<String>(CONFIG_FILE).cloned(),
    })
}

/// Each flag as one word `--name=value`, after the program's name. Go stops at the first word that is no flag; etcd refuses it.
fn normalise(args: &[String]) -> Result<Vec<String>, Exit> {
    let mut words = vec!["basalt".to_owned()];
    let mut rest = args.iter();
    let mut lone_bool: Option<&str> = None;
    while let Some(word) = rest.next() {
        let Some(body) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            return Err(stray(word, lone_bool));
        };
        if body.is_empty() {
            return match rest.next().filter(|_| word == "--") {
                Some(after) => Err(stray(after, None)),
                None if word == "--" => break,
                None => Err(stray(word, None)),
            };
        }
        lone_bool = None;
        if body == "h" || body == "help" {
            words.push("--help".to_owned());
        } else if body.contains('=') {
            words.push(format!("--{body}"));
        } else if body == VERSION {
            words.push(format!("--{VERSION}=true"));
        } else {
            match (body, flag::find(body).map(|flag| flag.kind)) {
                (_, Some(Kind::Bool)) => {
                    lone_bool = Some(body);
                    words.push(format!("--{body}=true"));
                }
                (_, Some(Kind::Loose)) => words.push(format!("--{body}=")),
                (CONFIG_FILE, _) | (_, Some(_)) => {
                    let value = rest.next().ok_or_else(|| {
                        Exit::Usage(format!("flag needs an argument: --{body}\n"))
                    })?;
                    words.push(format!("--{body}={value}"));
                }
                // Clap refuses it, with the nearest name. What follows may be its value, so nothing is said of that.
                (_, None) => {
                    words.push(format!("--{body}"));
                    return Ok(words);
                }
            }
        }
    }
    Ok(words)
}

fn stray(word: &str, lone_bool: Option<&str>) -> Exit {
    let mut error = format!("\"{word}\" is not a valid flag");
    if let Some(name) = lone_bool.filter(|_| matches!(word, "true" | "false")) {
        error += &format!(" (write --{name}={word})");
    } else if matches!(word, "gateway" | "grpc-proxy") {
        error += " (this sub-command of etcd is not part of basalt yet)";
    }
    Exit::Refused(error)
}

fn command() -> Command {
    let mut command = Command::new("basalt")
        .about("A drop-in replacement for etcd. Each flag --some-name is also the variable ETCD_SOME_NAME.")
        .override_usage("basalt [flags]\n       basalt --config-file <file>\n       basalt restore <snapshot> --data-dir <dir> [flags]\n       basalt inspect wal|checkpoint|revlog|integrity <dir> [--json]\n       basalt doctor <dir> [--json]\n       basalt --version")
        .disable_version_flag(true)
        .args_override_self(true)
        .next_line_help(true)
        .after_help(
            "Flags of etcd 3.4 to 3.6 that are not listed, --experimental-* among them, are accepted too and say what became of them.",
        );
    for flag in FLAGS {
        command = command.arg(
            Arg::new(flag.name)
                .long(flag.name)
                .action(ArgAction::Set)
                .num_args(1)
                .value_name(flag.kind.placeholder())
                .help(help(flag))
                .help_heading(flag.group.heading())
                .hide(flag.group == Group::Legacy),
        );
    }
    for (name, placeholder, help) in [
        (
            CONFIG_FILE,
            "file",
            "YAML or JSON file with flags as keys. With it, all other flags and variables are ignored. [env: ETCD_CONFIG_FILE]",
        ),
        (VERSION, "true|false", "Print versions and exit."),
    ] {
        command = command.arg(
            Arg::new(name)
                .long(name)
                .num_args(1)
                .value_name(placeholder)
                .help(help)
                .help_heading("Start"),
        );
    }
    command
}

fn help(flag: &Flag) -> String {
    let mut help = flag.help.to_owned();
    match flag.status {
        Status::NoEffectYet => help += " (no effect yet)",
        Status::Ignored(reason) => help += &format!(" (ignored: {reason})"),
        Status::Works | Status::Alias(_) | Status::Gate(_) => {}
    }
    if let Kind::Choice(words) = flag.kind {
        help += &format!(" [one of: {}]", words.join(", "));
    }
    if flag.kind == Kind::Duration {
        help += " [unit: ns, us, ms, s, m, h]";
    }
    if !flag.default.is_empty() {
        help += &format!(" [default: {}]", flag.default);
    }
    help + &format!(" [env: {}]", flag.env())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<CommandLine, Exit> {
        parse(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    /// Scripts of every age use all four forms; one misread value starts a member with another's directory.
    #[test]
    fn the_four_forms_of_go_flags_are_read() {
        let line = parse_words(&[
            "-name",
            "a",
            "--data-dir=/x=y",
            "--hardened",
            "-unsafe-no-fsync=false",
            "--cors",
            "--odd",
        ])
        .expect("all forms are legal");
        assert_eq!(line.settings.text("name"), "a");
        assert_eq!(line.settings.text("data-dir"), "/x=y");
        assert!(line.settings.bool("hardened"));
        assert!(!line.settings.bool("unsafe-no-fsync"));
        assert_eq!(line.settings.list("cors"), ["--odd"]);
    }

    #[test]
    fn the_last_of_a_repeated_flag_wins() {
        let line = parse_words(&["--name=a", "--name=b"]).expect("repeating is legal");
        assert_eq!(line.settings.text("name"), "b");
    }

    #[test]
    fn an_unknown_flag_is_a_usage_error_with_the_nearest_name() {
        let Err(Exit::Usage(text)) = parse_words(&["--data-dri=x"]) else {
            panic!("accepted")
        };
        assert!(text.contains("--data-dir"), "{text}");
    }

    #[test]
    fn an_unknown_flag_is_a_usage_error_also_with_its_value_apart() {
        for words in [
            &["--datadir=x"][..],
            &["--datadir", "x"],
            &["-datadir", "x"],
        ] {
            let Err(Exit::Usage(text)) = parse_words(words) else {
                panic!("{words:?} was not a usage error")
            };
            assert!(text.contains("--data-dir"), "{text}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_a_usage_error() {
        let Err(Exit::Usage(text)) = parse_words(&["--heartbeat-interval=abc"]) else {
            panic!("accepted")
        };
        assert!(
            text.contains("invalid value \"abc\" for flag --heartbeat-interval"),
            "{text}"
        );
        assert!(matches!(parse_words(&["--name"]), Err(Exit::Usage(_))));
        assert!(matches!(
            parse_words(&["--v2-deprecation=not-yet"]),
            Err(Exit::Usage(_))
        ));
    }

    #[test]
    fn a_stray_word_is_refused_and_a_split_boolean_is_explained() {
        let refused = |words: &[&str]| match parse_words(words) {
            Err(Exit::Refused(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&["stray"]), "\"stray\" is not a valid flag");
        assert_eq!(
            refused(&["--hardened", "false"]),
            "\"false\" is not a valid flag (write --hardened=false)"
        );
        assert_eq!(refused(&["--", "x"]), "\"x\" is not a valid flag");
    }

    #[test]
    fn help_lists_each_group_and_names_variables_and_units() {
        let Err(Exit::Print(text)) = parse_words(&["-h"]) else {
            panic!("not printed")
        };
        for wanted in [
            "Member:",
            "Clustering:",
            "Logging:",
            "basalt:",
            "ETCD_DATA_DIR",
            "milliseconds",
            "--wal-io",
        ] {
            assert!(text.contains(wanted), "{wanted}");
        }
        assert!(
            !text.contains("experimental-corrupt"),
            "old names are not shown"
        );
    }
}
