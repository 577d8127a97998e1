//! The seven standard process numbers, from `/proc/self`.

use std::fs;

/// Numbers about this process; absent when `/proc` does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// User and system time, seconds.
    pub cpu_secs: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<f64>,
    /// Virtual memory.
    pub virtual_bytes: Option<f64>,
    /// Open descriptors.
    pub open_fds: Option<f64>,
    /// Limit of descriptors; infinite when unlimited.
    pub max_fds: Option<f64>,
    /// Threads.
    pub threads: Option<f64>,
    /// Start, Unix seconds.
    pub start_unix_secs: Option<f64>,
}

/// Clock ticks a second in `/proc`: 100 on every Linux port (`USER_HZ`).
const TICKS: f64 = 100.0;

impl Process {
    /// Reads the numbers now.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let boot = field(&text("/proc/stat"), "btime");
        let (status, limits) = (text("/proc/self/status"), text("/proc/self/limits"));
        Self {
            // The listing itself holds one descriptor open.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|dir| dir.count().saturating_sub(1) as f64),
            ..Self::parse(&text("/proc/self/stat"), &status, &limits, boot)
        }
    }

    fn parse(stat: &str, status: &str, limits: &str, boot: Option<f64>) -> Self {
        // The command name stands in parentheses and may hold anything: count from the last one.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<f64> = after_name
            .split_ascii_whitespace()
            .map(|f| f.parse().unwrap_or(0.0))
            .collect();
        let at = |i: usize| fields.get(i).copied();
        let kib = |name| field(status, name).map(|v| v * 1024.0);
        Self {
            cpu_secs: at(11)
                .zip(at(12))
                .map(|(user, system)| (user + system) / TICKS),
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            open_fds: None,
            max_fds: limits
                .lines()
                .find_map(|l| l.strip_prefix("Max open files"))
                .and_then(|l| l.split_ascii_whitespace().next())
                .map(|soft| soft.parse().unwrap_or(f64::INFINITY)),
            threads: field(status, "Threads:"),
            start_unix_secs: at(19).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS),
        }
    }
}

/// First number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn proc_texts_are_read() {
        let stat = "42 (odd) name) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 7 0 1200 99 5";
        let status = "VmSize:\t  200 kB\nVmRSS:\t  100 kB\nThreads:\t7\n";
        let limits =
            "Limit  Soft Hard\nMax open files            1024                 4096   files\n";
        let p = Process::parse(stat, status, limits, Some(1000.0));
        assert_eq!(p.cpu_secs, Some(3.0));
        assert_eq!(p.resident_bytes, Some(102_400.0));
        assert_eq!(p.virtual_bytes, Some(204_800.0));
        assert_eq!((p.threads, p.max_fds), (Some(7.0), Some(1024.0)));
        assert_eq!(p.start_unix_secs, Some(1012.0));
        assert_eq!(Process::parse("", "", "", None), Process::default());
    }

    #[test]
    fn this_process_has_numbers() {
        let p = Process::read();
        assert!(p.threads.unwrap() >= 1.0 && p.open_fds.unwrap() >= 3.0);
        assert!(p.resident_bytes.unwrap() > 1e6 && p.virtual_bytes >= p.resident_bytes);
        let now = jiff::Timestamp::now().as_second() as f64;
        let start = p.start_unix_secs.unwrap();
        assert!(
            start <= now + 2.0 && start > now - 36_000.0,
            "{start} {now}"
        );
    }
}
