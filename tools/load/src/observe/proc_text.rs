//! The texts of `/proc`, understood (proc(5), slabinfo(5)). A value that is not as described there is `None`,
//! never a zero.

/// Microseconds in a second.
const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// The part of `/proc/PID/stat` that matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    /// User and system time together.
    pub(super) cpu_ticks: u64,
    pub(super) threads: u64,
    /// Since the machine started.
    pub(super) started_ticks: u64,
}

impl Stat {
    pub(super) fn cpu_microseconds(&self) -> u64 {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        self.cpu_ticks.saturating_mul(MICROSECONDS_PER_SECOND / ticks_per_second)
    }
}

/// `/proc/PID/stat`.
pub(super) fn stat(text: &str) -> Option<Stat> {
    // The name of the program stands in parentheses, and may have spaces and parentheses of its own.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The manual counts from 1 and the process id; what follows the name is field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let cpu_ticks = field(14)?.saturating_add(field(15)?);
    Some(Stat { cpu_ticks, threads: field(20)?, started_ticks: field(22)? })
}

/// `/proc/PID/task/TID/schedstat`: nanoseconds on a processor.
pub(super) fn schedstat(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace();
    let nanoseconds = fields.next()?.parse().ok()?;
    // Time spent waiting and the number of turns; without them it is another file.
    (fields.count() == 2).then_some(nanoseconds)
}

/// The part of `/proc/PID/smaps_rollup` that matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Memory {
    pub(super) private_bytes: u64,
    pub(super) resident_bytes: u64,
}

/// `/proc/PID/smaps_rollup`.
pub(super) fn smaps_rollup(text: &str) -> Option<Memory> {
    let kibibytes = |name| kibibytes(text, name);
    Some(Memory {
        // The rest is files', most of it the program's own: it comes and goes with what is executed, and
        // costs nobody memory that is needed elsewhere. Nor is `Private_Dirty` what the process has written:
        // pages of a file count as dirty until the system has stored them, for instance those of a program
        // that was built a moment ago.
        private_bytes: kibibytes("Anonymous")?,
        resident_bytes: kibibytes("Rss")?,
    })
}

/// A value of lines like `Rss:  3972 kB`, in bytes.
pub(super) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1_024)
}

/// `/proc/PID/limits`: the open files that are allowed now. `None`: no limit.
pub(super) fn descriptors_max(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The part of `/proc/net/sockstat` that matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SocketStatistics {
    /// TCP sockets of this network namespace, without those that wait for their end.
    pub(super) inuse: u64,
    pub(super) memory_pages: u64,
}

/// `/proc/net/sockstat`.
pub(super) fn sockstat(text: &str) -> Option<SocketStatistics> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let value = |name| named(line, name);
    Some(SocketStatistics { inuse: value("inuse")?, memory_pages: value("mem")? })
}

/// `/proc/net/sockstat6`: TCP sockets in use.
pub(super) fn sockstat6(text: &str) -> Option<u64> {
    named(text.lines().find_map(|line| line.strip_prefix("TCP6:"))?, "inuse")
}

/// The value behind its name in a line like `inuse 1 orphan 0`.
fn named(line: &str, name: &str) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

/// A line of `/proc/slabinfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Slab<'t> {
    pub(super) name: &'t str,
    pub(super) object_bytes: u64,
    pub(super) slabs: u64,
    pub(super) pages_per_slab: u64,
}

/// `/proc/slabinfo` of version 2. `None` when it is something else or a line is damaged.
pub(super) fn slabinfo(text: &str) -> Option<Vec<Slab<'_>>> {
    let mut lines = text.lines();
    lines.next()?.strip_prefix("slabinfo - version: 2.")?;
    lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty()).map(slab).collect()
}

fn slab(line: &str) -> Option<Slab<'_>> {
    let mut parts = line.split(" : ");
    let mut sizes = parts.next()?.split_ascii_whitespace();
    let name = sizes.next()?;
    let sizes: Vec<u64> = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    let [_active, _objects, object_bytes, _objects_per_slab, pages_per_slab] = sizes[..] else {
        return None;
    };
    let figures = parts.find_map(|part| part.trim().strip_prefix("slabdata"))?;
    let figures: Vec<&str> = figures.split_ascii_whitespace().collect();
    let [_active_slabs, slabs, _shared] = figures[..] else {
        return None;
    };
    let slabs = slabs.parse().ok()?;
    Some(Slab { name, object_bytes, slabs, pages_per_slab })
}

/// `/proc/cpuinfo`: the model. ARM's has none; then what it says of the part.
pub(super) fn cpu_model(text: &str) -> Option<String> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let named = ["model name", "Model", "cpu model", "cpu"].iter().find_map(|name| value(name));
    let part = || Some(format!("implementer {} part {}", value("CPU implementer")?, value("CPU part")?));
    named.filter(|model| !model.is_empty()).or_else(part)
}

/// `/proc/loadavg`: the last minute.
pub(super) fn load_average(text: &str) -> Option<f64> {
    let average: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    average.is_finite().then_some(average)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "8389 (a) (b sh) S 8382 8389 8389 0 -1 4194560 1808 36458 0 5 11 12 24 10 20 0 3 0 4154074 5124096 982 \
                        18446744073709551615 93886828507136 93886829296541 140728705764784 0 0 0 65536 4 1132560123 1 0 0 17 0 0";
    const SMAPS_ROLLUP: &str = "5563bb0d0000-7ffdf4847000 ---p 00000000 00:00 0                          [rollup]\n\
                                Rss:                3972 kB\nPss:                1062 kB\nPrivate_Clean:         8 kB\n\
                                Private_Dirty:       432 kB\nAnonymous:           232 kB\nSwap:                  0 kB\n";
    const SOCKSTAT: &str = "sockets: used 11\nTCP: inuse 7 orphan 0 tw 2 alloc 9 mem 101\nUDP: inuse 0 mem 3\nFRAG: inuse 0 memory 0\n";
    const SLABINFO: &str = "slabinfo - version: 2.1\n\
        # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n\
        TCP                   92    143   2368   13    8 : tunables    0    0    0 : slabdata     11     12      0\n\
        TCPv6                 26     26   2496   13    8 : tunables    0    0    0 : slabdata      2      2      0\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max cpu time              unlimited            unlimited            seconds   \n\
        Max open files            1024                 20000                files     \n";

    #[test]
    fn the_name_of_a_program_does_not_confuse() {
        let stat = stat(STAT).unwrap();
        assert_eq!(stat, Stat { cpu_ticks: 23, threads: 3, started_ticks: 4_154_074 });
        assert_eq!(stat.cpu_microseconds(), 230_000, "Linux shows 100 ticks a second everywhere");
    }

    #[test]
    fn texts_are_understood() {
        assert_eq!(schedstat("22201961 8683277 55\n"), Some(22_201_961));
        let memory = smaps_rollup(SMAPS_ROLLUP).unwrap();
        assert_eq!(memory, Memory { private_bytes: 232 * 1_024, resident_bytes: 3_972 * 1_024 });
        assert_eq!(descriptors_max(LIMITS), Some(1_024));
        assert_eq!(sockstat(SOCKSTAT), Some(SocketStatistics { inuse: 7, memory_pages: 101 }));
        assert_eq!(sockstat6("TCP6: inuse 12\nUDP6: inuse 0\n"), Some(12));
        let slabs = slabinfo(SLABINFO).unwrap();
        assert_eq!(slabs.len(), 2);
        assert_eq!(slabs[0], Slab { name: "TCP", object_bytes: 2_368, slabs: 12, pages_per_slab: 8 });
        assert_eq!(load_average("3.70 1.71 0.86 2/116 9001\n"), Some(3.7));
    }

    #[test]
    fn a_processor_has_a_model() {
        let intel =
            "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R)\n";
        assert_eq!(cpu_model(intel).as_deref(), Some("Intel(R) Xeon(R)"));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu_model(arm).as_deref(), Some("implementer 0x41 part 0xd0c"));
        assert_eq!(cpu_model("processor: 0\n"), None);
    }

    #[test]
    fn what_is_damaged_is_no_zero() {
        assert_eq!(stat("8389 (bash S 8382 8389"), None);
        assert_eq!(stat(&STAT[..60]), None, "cut off");
        assert_eq!(schedstat("0 0"), None);
        assert_eq!(schedstat("x 8683277 55"), None);
        assert_eq!(smaps_rollup(&SMAPS_ROLLUP.replace("Anonymous", "Anonymou")), None);
        assert_eq!(smaps_rollup(&SMAPS_ROLLUP.replace("232 kB", "232 MB")), None);
        assert_eq!(smaps_rollup(&SMAPS_ROLLUP.replace("3972", "18446744073709551615")), None);
        assert_eq!(sockstat("sockets: used 11\nUDP: inuse 0 mem 3\n"), None);
        assert_eq!(sockstat("TCP: inuse"), None);
        assert_eq!(slabinfo(&SLABINFO.replace("2.1", "3.0")), None);
        assert_eq!(slabinfo(&SLABINFO.replace("2496", "-1")), None);
        assert_eq!(slabinfo(&SLABINFO.replace("slabdata     11", "slabdata")), None);
        assert_eq!(descriptors_max(&LIMITS.replace("1024 ", "unlimited ")), None);
        assert_eq!(load_average("inf"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(at in 0_usize..200, with in ".{0,6}", garbage in ".*") {
            for text in [STAT, SMAPS_ROLLUP, SOCKSTAT, SLABINFO, LIMITS, garbage.as_str()] {
                let mut damaged: String = text.chars().take(at).collect();
                damaged.push_str(&with);
                damaged.extend(text.chars().skip(at + 1));
                stat(&damaged);
                schedstat(&damaged);
                smaps_rollup(&damaged);
                sockstat(&damaged);
                sockstat6(&damaged);
                slabinfo(&damaged);
                descriptors_max(&damaged);
                cpu_model(&damaged);
                load_average(&damaged);
            }
        }
    }
}
