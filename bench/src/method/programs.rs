//! Which program a server's name stands for, where it is, and how it is started.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::plan::{BASALT, BASALT_AGAIN, ETCD_DEFAULT, ETCD_TUNED};

/// Where the programs are, as flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Paths {
    /// The basalt to measure; without it the one beside this program, then the one on PATH
    #[arg(long, value_name = "PATH")]
    pub basalt: Option<PathBuf>,
    /// The stock etcd to measure; without it the one on PATH
    #[arg(long, value_name = "PATH")]
    pub etcd: Option<PathBuf>,
    /// One more server that speaks etcd's API: a name, and the program with its flags, split at blanks; flags for addresses and data
    /// directory are added. May be given several times
    #[arg(long, value_name = "NAME=COMMAND", value_parser = named_command)]
    pub other: Vec<(String, String)>,
}

/// How to start a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// As in the records.
    pub name: String,
    pub binary: PathBuf,
    /// Besides those for addresses and data directory.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Whether plain HTTP gets an address of its own (`--listen-client-http-urls`), so that gRPC need not share its port.
    pub http_apart: bool,
}

/// A stock server that is not there; basalt can be measured without it.
#[derive(Debug, thiserror::Error)]
#[error("{}", ETCD_MISSING)]
pub(crate) struct EtcdMissing;

impl Paths {
    /// The program behind a name.
    ///
    /// # Errors
    /// [`EtcdMissing`] when stock etcd is not installed; others when a name means nothing or a given path leads nowhere.
    pub(crate) fn find(&self, name: &str) -> Result<Program> {
        let mut program = Program {
            name: name.to_owned(),
            binary: PathBuf::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            http_apart: false,
        };
        if let Some((_, command)) = self.other.iter().find(|(other, _)| other == name) {
            let mut words = command.split_whitespace();
            program.binary = executable(words.next().context("an empty command")?)
                .with_context(|| format!("--other {name}"))?;
            program.arguments = words.map(str::to_owned).collect();
            return Ok(program);
        }
        match name {
            BASALT | BASALT_AGAIN => {
                program.binary = self.find_basalt()?;
                // As tuned etcd's: a minute at full rate writes more than the default quota.
                program.arguments = vec![QUOTA.to_owned()];
            }
            ETCD_DEFAULT => program.binary = self.find_etcd()?,
            ETCD_TUNED => {
                program.binary = self.find_etcd()?;
                program.arguments = TUNED_ARGUMENTS.map(str::to_owned).to_vec();
                program.environment = TUNED_ENVIRONMENT
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .to_vec();
                program.http_apart = true;
            }
            _ => bail!("no server is called {name}: give it with --other {name}=COMMAND"),
        }
        Ok(program)
    }

    fn find_basalt(&self) -> Result<PathBuf> {
        if let Some(path) = &self.basalt {
            return executable(&path.to_string_lossy()).context("--basalt");
        }
        let beside = env::current_exe()
            .ok()
            .map(|own| own.with_file_name(BASALT));
        beside
            .filter(|path| path.is_file())
            .or_else(|| on_path(BASALT))
            .context(BASALT_MISSING)
    }

    fn find_etcd(&self) -> Result<PathBuf> {
        match &self.etcd {
            Some(path) => executable(&path.to_string_lossy()).context("--etcd"),
            None => Ok(on_path("etcd").ok_or(EtcdMissing)?),
        }
    }
}

/// A program by its path, or by its name on PATH.
fn executable(word: &str) -> Result<PathBuf> {
    if word.contains('/') {
        ensure!(Path::new(word).is_file(), "no program {word}");
        return Ok(std::path::absolute(word)?);
    }
    on_path(word).with_context(|| format!("no program {word} on PATH"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn named_command(text: &str) -> Result<(String, String)> {
    let (name, command) = text
        .split_once('=')
        .context("it is NAME=COMMAND, such as old=/tmp/old/basalt")?;
    ensure!(
        crate::plan::is_file_name(name),
        "a name has lower case letters, digits and `-` only"
    );
    ensure!(
        !crate::plan::SERVERS.contains(&name),
        "{name} is taken, choose another name"
    );
    ensure!(!command.trim().is_empty(), "the command is empty");
    Ok((name.to_owned(), command.to_owned()))
}

/// 8 GiB.
const QUOTA: &str = "--quota-backend-bytes=8589934592";

/// What "tuned" means: HTTP on its own port, a garbage collector that is in less of a hurry, room for the data, no logging of slow requests.
const TUNED_ARGUMENTS: [&str; 3] = [QUOTA, "--log-level=error", "--auto-compaction-retention=0"];
const TUNED_ENVIRONMENT: [(&str, &str); 2] = [("GOGC", "400"), ("GOMEMLIMIT", "8GiB")];

const BASALT_MISSING: &str =
    "no basalt beside this program or on PATH: `cargo build --release -p basalt`, or --basalt PATH";

const ETCD_MISSING: &str = "\
no etcd on PATH, so basalt is measured alone. To compare, get stock etcd in one of these ways:
  from the Go module proxy (a plain `go install` fails: its go.mod has replace directives):
    mkdir /tmp/etcd && cd /tmp/etcd && go mod init stock
    go get go.etcd.io/etcd/server/v3@v3.7 && go build -o etcd go.etcd.io/etcd/server/v3
    and then: --etcd /tmp/etcd/etcd
  from the distribution (often an older release):
    apt install etcd-server";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_other_server_is_a_program_and_its_flags() {
        let paths = Paths {
            other: vec![named_command("slow=/bin/sh -c x=1").unwrap()],
            ..Paths::default()
        };
        let program = paths.find("slow").unwrap();
        assert_eq!(program.binary, Path::new("/bin/sh"));
        assert_eq!(program.arguments, ["-c", "x=1"]);
    }

    #[test]
    fn an_other_server_cannot_take_a_known_name() {
        let error = named_command("basalt=/bin/sh").unwrap_err();
        assert_eq!(error.to_string(), "basalt is taken, choose another name");
    }

    #[test]
    fn an_unknown_name_says_how_to_make_it_known() {
        let error = Paths::default().find("old").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no server is called old: give it with --other old=COMMAND"
        );
    }
}
