use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the system says of this process. Whatever cannot be read is 0: a container may hide it.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: f64,
    pub(super) virtual_bytes: f64,
    pub(super) threads: f64,
    /// Unix time.
    pub(super) start_seconds: f64,
    pub(super) open_fds: f64,
    pub(super) fds_max: f64,
    pub(super) network_received_bytes: f64,
    pub(super) network_sent_bytes: f64,
}

impl Process {
    pub(super) fn read() -> Process {
        let mut process = Process::default();
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            process.read_stat(&stat);
        }
        process.open_fds = open_fds() as f64;
        let fds = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        process.fds_max = fds.current.unwrap_or(u64::MAX) as f64;
        if let Ok(devices) = fs::read_to_string("/proc/self/net/dev") {
            process.read_network(&devices);
        }
        process
    }

    fn read_stat(&mut self, stat: &str) {
        // The name of the command stands in brackets and may hold anything.
        let Some((_, rest)) = stat.rsplit_once(')') else {
            return;
        };
        let fields: Vec<f64> = rest
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        // Field 4 of proc(5) is the first here.
        let field = |number: usize| fields.get(number - 4).copied().unwrap_or(0.0);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        self.cpu_seconds = (field(14) + field(15)) / ticks;
        self.threads = field(20);
        self.virtual_bytes = field(23);
        self.resident_bytes = field(24) * rustix::param::page_size() as f64;
        self.start_seconds = boot_time() + field(22) / ticks;
    }

    fn read_network(&mut self, devices: &str) {
        for line in devices.lines() {
            let Some((_, counters)) = line.split_once(':') else {
                continue;
            };
            let counters: Vec<f64> = counters
                .split_whitespace()
                .map(|field| field.parse().unwrap_or(0.0))
                .collect();
            self.network_received_bytes += counters.first().copied().unwrap_or(0.0);
            self.network_sent_bytes += counters.get(8).copied().unwrap_or(0.0);
        }
    }
}

/// Newer kernels tell the number as the directory's size; counting 10,000 entries would hold the loop up.
fn open_fds() -> u64 {
    match fs::metadata("/proc/self/fd").map(|directory| directory.len()) {
        Ok(0) | Err(_) => fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        Ok(count) => count,
    }
}

/// Unix time of the system's start.
fn boot_time() -> f64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime
        .split_whitespace()
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64());
    now - uptime
}
