//! The server's private keys on the disk: in clear, under a passphrase, and what a thief of each copy reads.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::{Musterd, eventually, fail, musterd, succeed};

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Files in which a private key or the server's secret stands as it is.
fn in_clear(paths: &[PathBuf]) -> Vec<String> {
    let marks: [&[u8]; 2] = [b"-----BEGIN PRIVATE KEY", b"-----BEGIN MUSTER SERVER SECRET"];
    let has = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    let mut found: Vec<String> = paths
        .iter()
        .filter(|path| path.is_file())
        .filter(|path| {
            let bytes = std::fs::read(path).unwrap();
            marks.iter().any(|mark| has(&bytes, mark))
        })
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

/// A file that its owner alone can read.
fn write_private(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn identity(data: &Path, words: &[&str]) -> Command {
    let mut command = musterd(&[&["identity"], words].concat());
    command.arg("--data").arg(data);
    command
}

struct Place {
    directory: tempfile::TempDir,
    data: PathBuf,
    passphrase: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, passphrase) = (directory.path().join("data"), directory.path().join("passphrase"));
        write_private(&passphrase, "correct horse\n");
        Self { directory, data, passphrase }
    }

    fn configured(&self) -> String {
        format!("[identity]\npassphrase_file = \"{}\"\n", self.passphrase.display())
    }

    fn start(&self, configuration: &str) -> Musterd {
        Musterd::start(self.directory.path(), configuration)
    }

    /// The line with which a server ends that was started so.
    fn refused(&self, configuration: &str) -> String {
        let file = self.directory.path().join("refused.toml");
        std::fs::write(&file, configuration).unwrap();
        let mut command = musterd(&["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
        fail(command.arg("--config").arg(&file).arg("--data").arg(&self.data))
    }
}

#[test]
fn keys_that_were_in_clear_go_under_the_passphrase_with_the_next_start_and_devices_notice_nothing() {
    let place = Place::new();
    let server = place.start("");
    let device = server.enrol("kiosk-17");
    device.connect(&server).sync_inventory(1);
    server.stop();
    let keys = ["ca-key.pem", "server-key.pem", "server-secret.pem"];
    assert_eq!(in_clear(&files(&place.data)), keys);

    let server = place.start(&place.configured());
    assert_eq!(in_clear(&files(&place.data)), [""; 0]);
    device.connect(&server).sync_inventory(1);
    let backup = place.directory.path().join("backup.tar");
    let mut command = musterd(&["backup"]);
    succeed(command.arg(&backup).arg("--data").arg(&place.data));
    assert_eq!(in_clear(std::slice::from_ref(&backup)), [""; 0]);
    server.stop();

    let restored = place.directory.path().join("restored");
    succeed(musterd(&["restore"]).arg(&backup).arg("--data").arg(&restored));
    let server = Musterd::start_on(place.directory.path(), &restored, &place.configured());
    device.connect(&server).sync_inventory(1);
}

#[test]
fn without_the_passphrase_or_with_another_nothing_starts_and_each_is_told_what_to_do() {
    let place = Place::new();
    place.start(&place.configured()).stop();
    assert_eq!(in_clear(&files(&place.data)), [""; 0]);
    let error = place.refused("");
    assert!(error.contains("is under a passphrase") && error.contains("passphrase_file"), "{error}");
    std::fs::write(&place.passphrase, "wrong\n").unwrap();
    let error = place.refused(&place.configured());
    assert!(error.contains("is under another passphrase"), "{error}");
    std::fs::remove_file(&place.passphrase).unwrap();
    let error = place.refused(&place.configured());
    assert!(error.contains("can't be read") && error.contains("passphrase"), "{error}");
    std::fs::write(&place.passphrase, "correct horse\n").unwrap();
    let error = place.refused(&place.configured());
    assert!(error.contains("identity.passphrase_file: ") && error.contains("run 'chmod 6"), "{error}");
    let error = place.refused("[identity]\npassphrase_file = \"credential:muster\"\n");
    assert!(error.contains("LoadCredentialEncrypted=muster:FILE"), "{error}");
}

#[test]
fn a_credential_of_the_unit_is_a_passphrase() {
    let place = Place::new();
    let credentials = place.directory.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    write_private(&credentials.join("muster"), "from the TPM");
    let configured = |name: &str| format!("[identity]\npassphrase_file = \"credential:{name}\"\n");
    let server = place.start(&configured("muster"));
    // It is read at the start and never again: a key that comes later is under it as well.
    let path = credentials.join("muster");
    std::fs::rename(&path, credentials.join("other")).unwrap();
    std::fs::write(place.directory.path().join("musterd.toml"), configured("other")).unwrap();
    for reloads in 1..=2 {
        server.hang_up();
        let waits = "wait for a restart: identity.passphrase_file";
        eventually("each reload says so", || server.said().matches(waits).count() == reloads);
    }
    server.ctl(&["certificate", "prepare"]);
    server.stop();
    assert_eq!(in_clear(&files(&place.data)), [""; 0]);
    let path = credentials.join("other");
    let words = ["unprotect", "--passphrase-file", path.to_str().unwrap()];
    succeed(&mut identity(&place.data, &words));
    place.start("").stop();
}

/// systemd 252 lets the main process of a unit read credentials, and no command of `ExecReload`.
#[test]
fn a_credentials_path_is_checked_by_systemd() {
    let place = Place::new();
    let file = place.directory.path().join("musterd.toml");
    let credentials = place.directory.path().join("credentials");
    let settings = [
        "identity.passphrase_file",
        "tls.certificate",
        "tls.key",
        "admin.certificate",
        "admin.key",
        "admin.openid.ca",
        "admin.openid.client_secret_file",
    ];
    let check = |path: &Path| {
        let pair = format!("certificate = {path:?}\nkey = {path:?}\n");
        let openid = "issuer = \"https://a\"\naddress = \"https://b\"\nclient_id = \"c\"\n";
        let text = format!(
            "[identity]\npassphrase_file = {path:?}\n[tls]\n{pair}[admin]\n{pair}\
             [admin.openid]\n{openid}ca = {path:?}\nclient_secret_file = {path:?}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = musterd(&["check-config", "--config", file.to_str().unwrap()]);
        command.env("CREDENTIALS_DIRECTORY", &credentials);
        command
    };
    succeed(&mut check(&credentials.join("muster")));
    for path in [place.directory.path().join("muster"), credentials.with_extension("old").join("muster")] {
        let error = fail(&mut check(&path));
        let unnamed = settings.iter().find(|setting| !error.contains(&format!("{setting}: ")));
        assert_eq!(unnamed, None, "{error}");
    }
    let error = fail(check(&credentials.join("muster")).env_remove("CREDENTIALS_DIRECTORY"));
    assert!(error.contains("passphrase_file: "), "{error}");
    fail(check(&credentials.join("muster")).env("CREDENTIALS_DIRECTORY", ""));
}

#[test]
fn the_passphrase_is_changed_and_taken_away_while_the_server_is_stopped() {
    let place = Place::new();
    let (old, new) = (place.passphrase.to_str().unwrap(), place.directory.path().join("new"));
    write_private(&new, "battery staple\n");
    let new = new.to_str().unwrap();
    let server = place.start("");
    let error = fail(&mut identity(&place.data, &["protect", "--passphrase-file", old]));
    assert!(error.contains("another") || error.contains("in use"), "a server runs there: {error}");
    server.stop();
    succeed(&mut identity(&place.data, &["protect", "--passphrase-file", old]));
    assert_eq!(in_clear(&files(&place.data)), [""; 0]);
    let error = fail(&mut identity(&place.data, &["protect", "--passphrase-file", new]));
    assert!(error.contains("is under a passphrase"), "{error}");
    let words = ["protect", "--old-passphrase-file", old, "--passphrase-file", new];
    succeed(&mut identity(&place.data, &words));
    let error = fail(&mut identity(&place.data, &["unprotect", "--passphrase-file", old]));
    assert!(error.contains("another passphrase"), "{error}");
    succeed(&mut identity(&place.data, &["unprotect", "--passphrase-file", new]));
    place.start("").stop();
}
