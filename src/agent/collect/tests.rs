use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::agent::settings::CollectSettings;
use crate::wire::inventory::Application;

fn application(name: &str, version: &str, publisher: &str) -> Application {
    Application { name: name.into(), version: version.into(), publisher: publisher.into() }
}

const STATUS: &str = "\
Package: dpkg
Status: install ok installed
Maintainer: Dpkg Developers <debian-dpkg@lists.debian.org>
Architecture: amd64
Version: 1.22.6

Package: libc6
Status: install ok installed
Architecture: i386
Multi-Arch: same
Version: 2.39-0
Description: a library
 Package: not a field
 .
 Version: neither

Package: held
Status: hold ok installed
Architecture: all
Version: 1:2~rc1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 7

Package: half
Status: install ok half-configured
Version: 8

Package: broken
Status: install reinstreq installed
Version: 9";

#[test]
fn dpkg_names_what_is_installed() {
    let expected = [
        application("dpkg", "1.22.6", "Dpkg Developers <debian-dpkg@lists.debian.org>"),
        application("libc6:i386", "2.39-0", ""),
        application("held", "1:2~rc1", ""),
        application("half", "8 (half-configured)", ""),
        application("broken", "9 (to be reinstalled)", ""),
    ];
    assert_eq!(dpkg::parse(Cursor::new(STATUS)).unwrap(), expected);
}

#[test]
fn dpkg_names_everything_that_is_there_with_the_state_that_it_is_in() {
    let states = [
        ("install ok unpacked", Some("1 (unpacked)")),
        ("install ok half-configured", Some("1 (half-configured)")),
        ("install reinstreq half-installed", Some("1 (half-installed, to be reinstalled)")),
        ("install ok triggers-awaited", Some("1 (triggers-awaited)")),
        ("install ok triggers-pending", Some("1 (triggers-pending)")),
        ("deinstall ok installed", Some("1")),
        ("deinstall ok config-files", None),
        ("purge ok not-installed", None),
        ("unknown ok not-installed", None),
    ];
    for (status, version) in states {
        let text = format!("Package: a\nStatus: {status}\nVersion: 1\n");
        let found = dpkg::parse(Cursor::new(text)).unwrap();
        let expected: Vec<_> = version.map(|version| application("a", version, "")).into_iter().collect();
        assert_eq!(found, expected, "{status}");
    }
}

/// dpkg was cut off by a power failure: its last steps stand beside the status file.
#[test]
fn what_dpkg_noted_before_it_was_cut_off_counts() {
    let root = tempfile::tempdir().unwrap();
    let settings = CollectSettings { root: root.path().to_owned(), ..CollectSettings::default() };
    let updates = root.path().join(dpkg::UPDATES_DIRECTORY);
    std::fs::create_dir_all(&updates).unwrap();
    std::fs::write(root.path().join(dpkg::STATUS_FILE), STATUS).unwrap();
    let before = inventory::fingerprint(&settings);
    let note = |name: &str, package: &str, status: &str, version: &str| {
        let text = format!(
            "Package: {package}\nStatus: install ok {status}\nArchitecture: all\nVersion: {version}\n"
        );
        std::fs::write(updates.join(name), text).unwrap();
    };
    note("0000", "held", "unpacked", "3");
    note("0001", "held", "half-configured", "3");
    note("0002", "new", "installed", "1");
    note("0003", "new", "not-installed", "1");
    std::fs::write(updates.join("tmp.i"), "Package: unfinished\nStatus: install ok installed\n").unwrap();
    let collected = inventory::collect(&settings, &[]);
    assert_eq!(collected.problems, Vec::<String>::new());
    let named = |name: &str| -> Vec<_> {
        collected.applications.iter().filter(|one| one.name == name).map(|one| one.version.clone()).collect()
    };
    assert_eq!(named("held"), ["3 (half-configured)"]);
    assert_eq!((named("new"), named("unfinished")), (Vec::new(), Vec::new()));
    assert_eq!(named("dpkg"), ["1.22.6"]);
    assert_ne!(inventory::fingerprint(&settings), before);
}

#[test]
fn apk_names_what_is_installed() {
    let text = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nm:Timo <t@example.org>\nF:lib\nR:ld-musl\n\nP:busybox\nV:1.36\n";
    let expected =
        [application("musl", "1.2.5-r0", "Timo <t@example.org>"), application("busybox", "1.36", "")];
    assert_eq!(apk::parse(Cursor::new(text)).unwrap(), expected);
}

#[test]
fn rpm_names_what_is_installed() {
    let output =
        b"bash\t5.2.26-3.fc40\tx86_64\tFedora Project\tFedora\nglibc\t2.39-1\ti686\t(none)\tSomebody\n\
        gpg-pubkey\ta15b79cc\t(none)\t(none)\t(none)\ntzdata\t1:2024a-1\tnoarch\t(none)\t(none)\nno tabs\n";
    let expected = [
        application("bash", "5.2.26-3.fc40", "Fedora Project"),
        application("glibc:i686", "2.39-1", "Somebody"),
        application("tzdata", "1:2024a-1", ""),
    ];
    assert_eq!(rpm::parse(output, "x86_64"), expected);
}

#[test]
fn the_architecture_of_rpm_itself_is_the_systems_own() {
    // AlmaLinux 10 for older processors; Fedora on a 32-bit ARM; a 32-bit userland under a 64-bit kernel.
    for (native, machine, other) in
        [("x86_64_v2", "x86_64", "i686"), ("armv7hl", "armv7l", "noarch2"), ("i686", "x86_64", "x86_64")]
    {
        let output =
            format!("bash\t5.2-1\t{native}\t\t\nglibc\t2.39-1\t{other}\t\t\nrpm\t4.19-1\t{native}\t\t\n");
        let names: Vec<_> =
            rpm::parse(output.as_bytes(), machine).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["bash".to_owned(), format!("glibc:{other}"), "rpm".to_owned()], "{machine}");
    }
}

#[test]
fn pkg_names_what_is_installed() {
    let output = b"curl\t8.9.1_1\tsunpoet@FreeBSD.org\nshop\t1.2,1\t\nno tabs\n\t1\tnameless\n";
    let expected = [application("curl", "8.9.1_1", "sunpoet@FreeBSD.org"), application("shop", "1.2,1", "")];
    assert_eq!(pkg::parse(output), expected);
}

#[test]
fn a_long_line_costs_one_value_and_no_more() {
    let text = format!(
        "Package: a\nStatus: install ok installed\nVersion: {}é\nDepends: {}\n\nPackage: b\nStatus: install ok installed\nVersion: 2\n",
        "9".repeat(254),
        "x".repeat(100_000)
    );
    let found = dpkg::parse(Cursor::new(text)).unwrap();
    assert_eq!(found[0].version, "9".repeat(254), "cut between characters");
    assert_eq!(found[1], application("b", "2", ""));
}

#[test]
fn os_release_is_read_like_a_shell_would() {
    let text = "PRETTY_NAME=\"Debian \\\"GNU\\\"\"\nID=debian\n# comment\nVERSION_ID='12'\nX\n";
    let facts = host::os_release(Cursor::new(text));
    assert_eq!(
        (facts.os_id.as_str(), facts.os_name.as_str(), facts.os_version.as_str()),
        ("debian", "Debian \"GNU\"", "12")
    );
}

#[test]
fn only_addresses_that_others_can_reach_are_named() {
    let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.2.0\n        /24 link UNICAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 169.254.1.1\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
    assert_eq!(
        addresses::parse_fib_trie(Cursor::new(trie)),
        ["10.1.2.3".parse::<std::net::Ipv4Addr>().unwrap()]
    );
    let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\nfe80000000000000021122fffe334455 02 40 20 80 eth0\n20010db8000000000000000000000007 02 40 00 80 eth0\n";
    assert_eq!(
        addresses::parse_if_inet6(Cursor::new(inet6)),
        ["2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap()]
    );
}

#[test]
fn this_host_says_who_it_is() {
    let facts = host::collect(Path::new("/"));
    assert!(!facts.kernel.is_empty() && !facts.architecture.is_empty());
    assert_eq!(facts.agent_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(facts, host::collect(Path::new("/")), "the same host says the same twice");
}

#[test]
fn the_machine_is_told_by_its_id_and_its_board_and_means_nothing_elsewhere() {
    use crate::wire::id::DeviceId;
    let root = tempfile::tempdir().unwrap();
    let machine = |device| host::machine(root.path(), DeviceId(device));
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    assert_eq!(machine(1), 0);
    write("etc/machine-id", "uninitialized\n");
    assert_eq!(machine(1), 0);
    write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let by_id = machine(1);
    assert!(by_id != 0 && by_id != machine(2) && by_id == machine(1));
    // A copy whose id was not made anew has another board.
    write("sys/class/dmi/id/product_uuid", "4C4C4544-0031-0000-0000-000000000001\n");
    let first = machine(1);
    write("sys/class/dmi/id/product_uuid", "4C4C4544-0031-0000-0000-000000000002\n");
    assert!(first != by_id && machine(1) != first);
    write("sys/class/dmi/id/product_uuid", "4c4c4544-0031-0000-0000-000000000001\n");
    assert_eq!(machine(1), first, "kernels write it in either case");
}

#[test]
fn databases_are_found_under_the_root_and_a_change_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let settings = CollectSettings { root: root.path().to_owned(), ..CollectSettings::default() };
    let empty = inventory::fingerprint(&settings);
    assert!(inventory::collect(&settings, &[]).applications.is_empty());
    let status = root.path().join(dpkg::STATUS_FILE);
    std::fs::create_dir_all(status.parent().unwrap()).unwrap();
    std::fs::write(&status, STATUS).unwrap();
    let collected = inventory::collect(&settings, &[]);
    assert_eq!(collected.applications.len(), 5);
    assert!(collected.applications.is_sorted() && collected.problems.is_empty());
    assert_ne!(inventory::fingerprint(&settings), empty);
}

#[test]
fn a_database_that_cannot_be_read_is_a_problem_and_not_an_empty_list() {
    let root = tempfile::tempdir().unwrap();
    let settings = CollectSettings { root: root.path().to_owned(), ..CollectSettings::default() };
    std::fs::create_dir_all(root.path().join(dpkg::STATUS_FILE)).unwrap();
    assert_eq!(inventory::collect(&settings, &[]).problems.len(), 1);
}

/// This machine's own database, beside what dpkg-query says of it.
#[test]
fn this_machines_packages_are_what_dpkg_query_says() {
    let format = "-f=${Package}\t${Architecture}\t${Version}\t${db:Status-Abbrev}\t${Maintainer}\n";
    let Ok(answer) =
        std::process::Command::new("dpkg-query").args(["-W", format]).env("LC_ALL", "C.UTF-8").output()
    else {
        crate::skip::skipped("needs dpkg-query");
        return;
    };
    let native = std::process::Command::new("dpkg").arg("--print-architecture").output().unwrap();
    let native = String::from_utf8(native.stdout).unwrap().trim().to_owned();
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let expected: BTreeMap<String, (String, String)> = text
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        // Neither 'n' nor 'c': not installed, configuration files alone.
        .filter(|parts| !["n", "c"].contains(&&parts[3][1..2]))
        .map(|parts| {
            let is_native = parts[1] == native || parts[1] == "all";
            let name = if is_native { parts[0].to_owned() } else { format!("{}:{}", parts[0], parts[1]) };
            (name, (parts[2].to_owned(), clipped(parts[4])))
        })
        .collect();
    let file = std::fs::File::open(Path::new("/").join(dpkg::STATUS_FILE)).unwrap();
    let found = dpkg::parse(std::io::BufReader::new(file)).unwrap();
    let count = found.len();
    let found: BTreeMap<_, _> = found.into_iter().map(|a| (a.name, (a.version, a.publisher))).collect();
    assert_eq!(found.len(), count, "no package twice");
    assert!(count > 0);
    assert_eq!(found, expected);
    println!("{count} packages, every version equal");
}

/// A real rpm database, made by rpm itself from a package that rpmbuild made.
#[test]
fn rpm_itself_is_asked() {
    let has = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    if !has("rpm") || !has("rpmbuild") {
        crate::skip::skipped("needs rpm and rpmbuild");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        crate::skip::skipped("needs root (rpm --root)");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let spec = work.path().join("shop.spec");
    std::fs::write(&spec, "Name: shop\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: s\nLicense: MIT\nVendor: Acme\nBuildArch: noarch\n%description\nd\n%files\n").unwrap();
    let top = format!("_topdir {}", work.path().display());
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("rpmbuild", &["-bb", "--define", &top, spec.to_str().unwrap()]);
    let root = work.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let package = work.path().join("RPMS/noarch/shop-1.2-3.noarch.rpm");
    let root_argument = root.to_str().unwrap();
    let database = ["--root", root_argument, "--dbpath", "/var/lib/rpm"];
    run("rpm", &[&database[..], &["-i", "--nodeps", package.to_str().unwrap()]].concat());
    let settings = CollectSettings { root, ..CollectSettings::default() };
    let collected = inventory::collect(&settings, &[]);
    assert_eq!(collected.problems, Vec::<String>::new());
    assert_eq!(collected.applications, [application("shop", "4:1.2-3", "Acme")]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "[PVmSDA:\\n\\t =\"'\\\\a-c.0-9|/-]{0,300}") {
        for input in [bytes.as_slice(), text.as_bytes()] {
            let _ = dpkg::parse(Cursor::new(input));
            let _ = apk::parse(Cursor::new(input));
            let _ = rpm::parse(input, "x86_64");
            let _ = pkg::parse(input);
            let _ = host::os_release(Cursor::new(input));
            let _ = addresses::parse_fib_trie(Cursor::new(input));
            let _ = addresses::parse_if_inet6(Cursor::new(input));
        }
    }

    #[test]
    fn every_value_that_is_read_may_travel(name in "\\PC{1,600}", version in "\\PC{0,600}") {
        let text = format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n");
        for found in dpkg::parse(Cursor::new(text)).unwrap() {
            prop_assert!(found.name.len() <= NAME_BYTES_MAX && found.version.len() <= NAME_BYTES_MAX);
        }
    }
}
