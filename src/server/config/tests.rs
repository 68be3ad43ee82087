use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("musterd.toml")).map_err(|error| error.to_string())
}

/// The file that ships explains every setting: with its values in force it says what the defaults say.
#[cfg(feature = "console")]
#[test]
fn the_shipped_file_is_allowed_and_names_every_setting() {
    let shipped = include_str!("../../../tools/musterd.toml");
    parse(shipped).unwrap();
    // Settings stand in it commented out, as `#key = value`, with their default.
    let active: String = shipped
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.contains(" = ") && !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = parse(&active).unwrap();
    let expected = Config {
        data_directory: config.data_directory.clone(),
        udp: config.udp,
        links: LinksConfig {
            max_persistent_connections: config.links.max_persistent_connections,
            handshakes_per_second: config.links.handshakes_per_second,
            buffer_bytes: config.links.buffer_bytes,
            ..Config::default().links
        },
        host_names: config.host_names.clone(),
        admin: config.admin.clone(),
        reactors: config.reactors,
        workers: config.workers,
        lease: Some(true),
        backup: BackupConfig {
            directory: config.backup.directory.clone(),
            at: config.backup.at,
            ..BackupConfig::default()
        },
        tls: config.tls.clone(),
        identity: IdentityConfig {
            passphrase_file: config.identity.passphrase_file.clone(),
            ..IdentityConfig::default()
        },
        journal: JournalConfig {
            warnings_bytes: Some(Config::default().journal.warnings_bytes()),
            warnings_age: Some(Config::default().journal.warnings_age()),
            ..Config::default().journal
        },
        ..Config::default()
    };
    assert_eq!(config, expected, "values differ from the defaults");
    let with_all = |config: &Config| {
        !config.host_names.is_empty()
            && config.admin.socket.is_some()
            && config.admin.listen.is_some()
            && config.admin.agents.is_some()
            && config.admin.openid.is_on()
            && config.admin.openid.client_secret_file.is_some()
            && config.reactors.is_some()
            && config.workers.is_some()
            && config.udp.is_some()
            && config.links.max_persistent_connections.is_some()
            && config.links.handshakes_per_second.is_some()
            && config.links.buffer_bytes.is_some()
            && config.backup.directory.is_some()
            && config.backup.at.is_some()
            && config.tls.files().is_some()
            && config.identity.passphrase_file.is_some()
    };
    assert!(with_all(&config), "a setting without default is not shown");
    for key in [
        "listen",
        "max",
        "handshake_deadline",
        "idle_deadline",
        "keep_interval",
        "keep_unreachable",
        "write_deadline",
        "interval",
        "device_certificate_life",
        "segment_size",
        "retention_size",
        "retention_age",
        "warnings_size",
        "warnings_age",
        "device_rate",
        "device_burst",
        "every",
        "keep",
        "level",
        "data_directory",
    ] {
        assert!(active.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is not shown");
    }
}

#[test]
fn nothing_said_is_the_defaults() {
    assert_eq!(parse(""), Ok(Config::default()));
    assert_eq!(parse("[sync]\n[log]\n"), Ok(Config::default()));
    assert_eq!(Config::default().admin_socket(), Path::new("./muster-data/admin.sock"));
}

#[test]
fn every_kind_of_mistake_names_line_key_and_what_is_allowed() {
    for (text, error) in [
        (
            "[sync]\nintervall = \"15m\"",
            "musterd.toml:2: sync.intervall is not known: did you mean sync.interval? allowed here: interval",
        ),
        (
            "[links]\n\ncolour = 1",
            "musterd.toml:3: links.colour is not known: allowed here: max, handshakes_per_second, handshake_deadline, idle_deadline, keep_interval, max_persistent_connections, keep_unreachable, write_deadline, buffer_size",
        ),
        (
            "[synk]",
            "musterd.toml:1: synk is not known: did you mean sync? allowed here: server, admin, links, sync, identity, journal, artifacts, backup, tls, log",
        ),
        (
            "[sync]\ninterval = 15",
            "musterd.toml:2: sync.interval is an integer, it must be a duration from 10s to 1w, such as \"15m\"",
        ),
        (
            "[server]\ndata_directory = \"~/x\"",
            "musterd.toml:2: server.data_directory begins with ~, which only a shell replaces: write the whole path, such as /home/NAME/…",
        ),
        (
            "[identity]\ndevice_certificate_life = \"59s\"",
            "musterd.toml:2: identity.device_certificate_life = \"59s\" is not allowed: a duration from 1m to 521w3d, such as \"15m\"",
        ),
        (
            "[sync]\ninterval = \"8d\"",
            "musterd.toml:2: sync.interval = \"8d\" is not allowed: a duration from 10s to 1w, such as \"15m\"",
        ),
        (
            "[journal]\nsegment_size = \"64MB\"",
            "musterd.toml:2: journal.segment_size = \"64MB\" is not allowed: a size from 1MiB to 1GiB, such as \"64MiB\"",
        ),
        (
            "[journal]\nsegment_size = \"1048577B\"",
            "musterd.toml:2: journal.segment_size is not allowed: it must be a multiple of 4KiB",
        ),
        (
            "[journal]\nretention_size = \"100MiB\"",
            "musterd.toml:2: journal.retention_size is not allowed: retention_size must be at least four times segment_size",
        ),
        (
            "[journal]\nwarnings_size = \"64KiB\"",
            "musterd.toml:2: journal.warnings_size is not allowed: it must be at least 1MiB, or 0B for no journal of warnings",
        ),
        (
            "[server]\nlisten = \"muster.example:13000\"",
            "musterd.toml:2: server.listen is not allowed: 'muster.example:13000' is not an address (IP:PORT, such as 0.0.0.0:13000 or [::]:13000)",
        ),
        (
            "[server]\nreactors = 0",
            "musterd.toml:2: server.reactors = 0 is not allowed: a whole number from 1 to 64",
        ),
        (
            "[server]\nhost_names = \"a\"",
            "musterd.toml:2: server.host_names is a text, it must be a list of texts, such as [\"a\", \"b\"]",
        ),
        (
            "[server]\ndata_directory = \"\"",
            "musterd.toml:2: server.data_directory is empty, it must be a path",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "musterd.toml:2: log.level = \"loud\" is not allowed: off, error, warn, info, debug or trace",
        ),
        (
            "[backup]\ndirectory = \"b\"\nat = \"3 am\"",
            "musterd.toml:3: backup.at = \"3 am\" is not allowed: a time of day, such as \"03:15\"",
        ),
        (
            "[tls]\nkey = \"k\"",
            "musterd.toml:2: tls.key needs its counterpart: set certificate in [tls], too",
        ),
        (
            "[admin]\ncertificate = \"c\"",
            "musterd.toml:2: admin.certificate needs its counterpart: set key in [admin], too",
        ),
        ("[admin.openid]\nclient_id = \"muster\"", "musterd.toml:1: admin.openid needs issuer"),
        (
            "[backup]\nkeep = 3",
            "musterd.toml:2: backup.keep is not allowed without directory: without one no backups are made",
        ),
        ("\nlog = 3", "musterd.toml:2: log is an integer, it must be a table: [log]"),
    ] {
        assert_eq!(parse(text), Err(error.to_owned()));
    }
    let error = parse("[server\nlisten = 1").unwrap_err();
    assert!(error.starts_with("musterd.toml:1: ") && !error.contains('\n'), "{error}");
    let error = parse("[log]\nlevel = \"info\"\nlevel = \"warn\"").unwrap_err();
    assert!(error.starts_with("musterd.toml:3: duplicate key"), "{error}");
}

#[test]
fn mistakes_of_a_provider_are_named_or_that_there_is_no_console_for_it() {
    for (text, error) in [
        (
            "[admin.openid]\nissuer = \"http://id.example\"",
            "musterd.toml:2: admin.openid.issuer is not allowed: an address with https, such as \"https://id.example.org/realm\"",
        ),
        (
            "[admin.openid]\nissuer = \"https://id.example\"\naddress = \"https://muster.example/x\"",
            "musterd.toml:3: admin.openid.address is not allowed: scheme, host and port of the console, such as \"https://muster.example.org:13001\"",
        ),
        (
            "[admin.openid]\nissuer = \"https://id.example\"\naddress = \"https://muster.example\"\nclient_id = \"\"",
            "musterd.toml:4: admin.openid.client_id is not allowed: 1 to 255 bytes, no control or invisible characters",
        ),
        (
            "[admin.openid]\nissuer = \"https://id.example\"\naddress = \"https://muster.example\"\nclient_id = \"a\"\nscopes = [\"email\"]",
            "musterd.toml:5: admin.openid.scopes is not allowed: names without blanks, \"openid\" among them",
        ),
    ] {
        let without = "admin.openid needs the console, which this musterd was built without";
        match parse(text) {
            Err(said) if cfg!(feature = "console") => assert_eq!(said, error),
            said => assert_eq!(said, Err(format!("musterd.toml:1: {without}"))),
        }
    }
}

#[test]
fn warnings_are_kept_for_longer_unless_somebody_says_otherwise() {
    let kept = |text: &str| {
        let journal = parse(text).unwrap().journal;
        (journal.warnings_bytes(), journal.warnings_age().as_secs() / 86_400)
    };
    assert_eq!(kept(""), (1 << 30, 730));
    assert_eq!(kept("[journal]\nsegment_size = \"1MiB\"\nretention_size = \"4MiB\""), (1 << 20, 730));
    assert_eq!(kept("[journal]\nretention_age = \"1000d\""), (1 << 30, 1_000));
    assert_eq!(kept("[journal]\nwarnings_size = \"0B\"\nwarnings_age = \"30d\""), (0, 30));
}

#[test]
fn addresses_with_and_without_port() {
    for (text, address) in [
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("0.0.0.0", "0.0.0.0:13000"),
        ("::", "[::]:13000"),
        ("[::1]", "[::1]:13000"),
        ("[::1]:5", "[::1]:5"),
    ] {
        assert_eq!(parse_address(text, DEFAULT_PORT).unwrap().to_string(), address);
    }
}

#[test]
fn a_reload_says_what_waits_for_a_restart_and_takes_the_rest() {
    let old = Config::default();
    let new = parse("[sync]\ninterval = \"5m\"\n[server]\nlisten = \"0.0.0.0:1\"\n[log]\nlevel = \"warn\"\n[links]\nmax = 5\n[journal]\nsegment_size = \"1MiB\"\nretention_size = \"64MiB\"")
        .unwrap();
    let diff = old.reload_diff(&new);
    assert_eq!(diff.applied, ["links.max", "sync.interval", "journal.retention_size", "log.level"]);
    assert_eq!(diff.needs_restart, ["server.listen", "journal.segment_size"]);
    let merged = old.reloaded(&new);
    assert_eq!(merged.sync, new.sync);
    assert_eq!((merged.listen, merged.links.max), (old.listen, 5));
    assert_eq!(merged.journal.segment_bytes, old.journal.segment_bytes);
    assert_eq!(merged.reload_diff(&new).applied, Vec::<&str>::new(), "what is applied no longer differs");
}

#[test]
fn an_unreadable_file_is_named() {
    let error = Config::load(Path::new("/nowhere/musterd.toml")).unwrap_err().to_string();
    assert_eq!(
        error,
        "can't read the configuration /nowhere/musterd.toml: No such file or directory (os error 2)"
    );
}

proptest! {
    #[test]
    fn any_text_is_judged_without_panic(text in "[\\[\\]a-z_ =\"\n0-9.]{0,80}", junk in "\\PC{0,40}") {
        let _ = parse(&text);
        let _ = parse(&junk);
        let _ = parse(&format!("[links]\nmax = {junk}"));
    }
}
