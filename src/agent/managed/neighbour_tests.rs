//! Settings files in places where less privileged users, mounts and other names of the file are.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apply::{Step, apply};
#[cfg(target_os = "linux")]
use super::attributes;
use super::tests::Device;
use crate::agent::open;
use crate::wire::settings::{Drift, SettingsState};
use crate::wire::time::WallTime;

/// The user of an application, as far as these tests go.
const NEIGHBOUR: u32 = 12_345;

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        crate::skip::skipped("only root can give a file to another user");
    }
    is_root
}

fn set(device: &mut Device, revision: u64, settings: &str) {
    device.order(revision, settings, Drift::Repair);
    device.work(revision);
}

fn journals(device: &Device) -> Vec<PathBuf> {
    open::list(&device.directory.path().join("orders"), "journal").unwrap()
}

#[test]
fn links_of_other_users_are_not_followed() {
    if !is_root() {
        return;
    }
    let victims = tempfile::tempdir().unwrap();
    let victim = victims.path().join("shop.conf");
    fs::write(&victim, "precious").unwrap();
    // In place of the file.
    let mut device = Device::telling();
    let file = device.directory.path().join("shop.conf");
    symlink(&victim, &file).unwrap();
    lchown(&file, Some(NEIGHBOUR), Some(NEIGHBOUR)).unwrap();
    set(&mut device, 1, "{\"a\":1}");
    device.assert_state(SettingsState::Failed, "shop.conf is a link of user 12345: only links of root");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    // In place of the directory or of one above it, and while the settings are in place already.
    for below in ["", "below"] {
        let victim = victims.path().join(below).join("shop.conf");
        fs::create_dir_all(victim.parent().unwrap()).unwrap();
        fs::write(&victim, "precious").unwrap();
        let inner = device.directory.path().join("inner");
        fs::create_dir_all(inner.join(below)).unwrap();
        device.put_into(&inner.join(below));
        device.look(2);
        device.assert_state(SettingsState::Applied, "");
        fs::remove_dir_all(&inner).unwrap();
        symlink(victims.path(), &inner).unwrap();
        lchown(&inner, Some(NEIGHBOUR), Some(NEIGHBOUR)).unwrap();
        set(&mut device, 3, "{\"a\":2}");
        device.assert_state(SettingsState::Failed, "inner is a link of user 12345");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        // Links of root are followed, wherever they are.
        lchown(&inner, Some(0), Some(0)).unwrap();
        set(&mut device, 4, "{\"a\":3}");
        device.assert_state(SettingsState::Applied, "");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "a=3\n");
        assert!(fs::symlink_metadata(&inner).unwrap().is_symlink());
        fs::remove_file(&inner).unwrap();
    }
}

/// The directory that was found is held open: a link that is put in its place later leads nowhere.
#[test]
fn a_directory_that_is_exchanged_meanwhile_is_the_one_that_was_found() {
    let mut device = Device::telling();
    let at = |name: &str| device.directory.path().join(name);
    let (inner, moved, victims) = (at("inner"), at("moved"), at("victims"));
    let waiting = victims.join(".shop.conf.muster");
    for directory in [&inner, &waiting] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(victims.join("shop.conf"), "precious").unwrap();
    fs::write(waiting.join("shop.conf"), "a=theirs\n").unwrap();
    device.put_into(&inner);
    device.order(1, "{\"a\":1}", Drift::Repair);
    device.managed.defined(std::slice::from_ref(&device.definition), WallTime(1));
    let job = device.apply_job();
    let exchange = |step| {
        if step == Step::Validated {
            fs::rename(&inner, &moved).unwrap();
            symlink(&victims, &inner).unwrap();
        }
        false
    };
    apply(&job, &exchange).unwrap();
    assert_eq!(fs::read_to_string(victims.join("shop.conf")).unwrap(), "precious");
    assert_eq!(fs::read_to_string(moved.join("shop.conf")).unwrap(), "a=1\n");
}

#[test]
fn links_that_lead_in_a_circle_or_nowhere_are_named() {
    let mut device = Device::telling();
    let at = |name: &str| device.directory.path().join(name);
    let (file, other) = (at("shop.conf"), at("other.conf"));
    symlink("other.conf", &file).unwrap();
    symlink("shop.conf", &other).unwrap();
    set(&mut device, 1, "{\"a\":1}");
    device.assert_state(SettingsState::Failed, "more than 40 links");
    // A link to what is not there yet: there the file is made, through `..` and `.` too.
    fs::remove_file(&other).unwrap();
    fs::create_dir(device.directory.path().join("below")).unwrap();
    symlink("below/.././real.conf", &other).unwrap();
    set(&mut device, 2, "{\"a\":2}");
    device.assert_state(SettingsState::Applied, "");
    assert_eq!(device.file("real.conf"), "a=2\n");
}

#[test]
fn what_waits_to_be_put_in_place_is_not_written_through_a_link() {
    let mut device = Device::telling();
    let victims = tempfile::tempdir().unwrap();
    fs::write(victims.path().join("shop.conf"), "precious").unwrap();
    symlink(victims.path(), device.directory.path().join(".shop.conf.muster")).unwrap();
    set(&mut device, 1, "{\"a\":1}");
    device.assert_state(SettingsState::Applied, "");
    assert_eq!(fs::read_to_string(victims.path().join("shop.conf")).unwrap(), "precious");
}

#[test]
fn no_settings_file_keeps_bits_that_run_as_somebody_else() {
    let mut device = Device::telling();
    let file = device.directory.path().join("shop.conf");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o6750)).unwrap();
    set(&mut device, 1, "{\"a\":1}");
    device.assert_state(SettingsState::Applied, "");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o750);
}

/// `u::rw-,u:1234:rw-,g::---,m::rw-,o::---` as acl(5) lists are stored (linux/posix_acl_xattr.h).
#[cfg(target_os = "linux")]
fn access_list() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 6, 1234), (4, 0, u32::MAX), (0x10, 6, u32::MAX), (0x20, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[cfg(target_os = "linux")]
#[test]
fn access_lists_and_attributes_stay_with_the_file() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let wanted = [("user.label", b"a label".to_vec()), ("system.posix_acl_access", access_list())];
    let mut device = Device::new("apply = [\"sh\", \"-c\", '! grep -q bad \"$1\"', \"-\", \"{file}\"]");
    let file = device.directory.path().join("shop.conf");
    fs::write(&file, "old").unwrap();
    for (name, value) in &wanted {
        if let Err(error) = setxattr(&file, *name, value, XattrFlags::empty()) {
            return crate::skip::skipped(format_args!(
                "no {name} in {}: {error}",
                device.directory.path().display()
            ));
        }
    }
    let check = || {
        for (name, value) in &wanted {
            let mut found = vec![0; 256];
            let length =
                getxattr(&file, *name, &mut found[..]).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(&found[..length], value, "{name}");
        }
        // The mask of the list, which is nothing that the group may do.
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o660);
    };
    set(&mut device, 1, "{\"a\":1}");
    device.assert_state(SettingsState::Applied, "");
    assert_eq!(device.file("shop.conf"), "a=1\n");
    check();
    // Undone, too.
    set(&mut device, 2, "{\"a\":\"bad\"}");
    device.assert_state(SettingsState::Failed, "");
    assert_eq!(device.file("shop.conf"), "a=1\n");
    check();
}

/// A list that a new file has from its directory is not the list of the file before.
#[cfg(target_os = "linux")]
#[test]
fn a_file_without_an_access_list_gets_none() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let mut device = Device::telling();
    let file = device.directory.path().join("shop.conf");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let of_new_files = "system.posix_acl_default";
    if let Err(error) = setxattr(device.directory.path(), of_new_files, &access_list(), XattrFlags::empty()) {
        let at = device.directory.path().display();
        return crate::skip::skipped(format_args!("no {of_new_files} at {at}: {error}"));
    }
    set(&mut device, 1, "{\"a\":1}");
    device.assert_state(SettingsState::Applied, "");
    let found = getxattr(&file, "system.posix_acl_access", &mut [0; 256][..]);
    assert_eq!(found, Err(rustix::io::Errno::NODATA));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
}

#[cfg(target_os = "linux")]
#[test]
fn an_attribute_that_can_not_be_carried_over_is_a_refusal() {
    use rustix::fs::{XattrFlags, fsetxattr};
    let file = tempfile::tempfile().unwrap();
    if let Err(error) = fsetxattr(&file, "user.label", b"a label", XattrFlags::empty()) {
        return crate::skip::skipped(format_args!("no attributes of files here: {error}"));
    }
    let found = attributes::read(&file).unwrap();
    // Such attributes are of regular files and directories alone (xattr(7)).
    let other = fs::File::options().write(true).open("/dev/null").unwrap();
    let error = attributes::give(&other, &found).unwrap_err().to_string();
    assert!(error.starts_with("its attribute 'user.label' can't be carried over: "), "{error}");
}

#[test]
fn other_names_of_the_file_are_told() {
    let mut device = Device::telling();
    let (file, other) = (device.directory.path().join("shop.conf"), device.directory.path().join("other"));
    fs::write(&file, "old").unwrap();
    fs::hard_link(&file, &other).unwrap();
    set(&mut device, 1, "{\"a\":1}");
    device.assert_state(SettingsState::Applied, "the file before had 2 names (hard links)");
    assert_eq!((device.file("shop.conf").as_str(), device.file("other").as_str()), ("a=1\n", "old"));
    let events = device.managed.take_events();
    assert!(events[0].message.contains("in place; the file before had 2 names"), "{}", events[0].message);
}

#[test]
fn a_hand_edit_is_not_undone_whenever_the_agent_ended() {
    for drift in [Drift::Repair, Drift::Report] {
        for step in [Step::Remembered, Step::Placed, Step::AboutToApply, Step::Told] {
            let mut device = Device::telling();
            device.order(1, "{\"a\":\"old\"}", drift);
            device.work(2);
            device.order(3, "{\"a\":\"new\"}", drift);
            let job = device.apply_job();
            drop(apply(&job, &|at| at == step));
            device.kinds();
            fs::write(device.directory.path().join("shop.conf"), "a=by hand\n").unwrap();
            device.restart();
            assert!(!journals(&device).is_empty());
            device.work(8);
            assert!(journals(&device).is_empty(), "{step:?}");
            let told = device.file("shop.conf.told");
            assert_eq!(told.matches("a=old\n").count(), 1, "{step:?}: it was not told of the old ones again");
            if drift == Drift::Report {
                assert_eq!(device.kinds(), ["settings_drift"], "{step:?}");
                device.assert_state(SettingsState::Drifted, "changed by somebody else");
                assert_eq!(device.file("shop.conf"), "a=by hand\n", "{step:?}");
            } else {
                assert_eq!(device.kinds(), ["settings_drift", "settings_applied"], "{step:?}");
                assert_eq!(device.file("shop.conf"), "a=new\n", "{step:?}");
            }
        }
    }
}

#[test]
fn a_hand_edit_is_not_undone_when_the_application_refuses() {
    let mut device = Device::new(
        "apply = [\"sh\", \"-c\", 'grep -q good \"$1\" || { echo a=by hand > \"$1\"; exit 1; }', \"-\", \"{file}\"]",
    );
    set(&mut device, 1, "{\"a\":\"good\"}");
    device.assert_state(SettingsState::Applied, "");
    device.kinds();
    set(&mut device, 2, "{\"a\":\"bad\"}");
    device.assert_state(SettingsState::Failed, "ended with code 1");
    assert_eq!(device.kinds(), ["settings_drift", "settings_failed"]);
    assert_eq!((device.file("shop.conf").as_str(), journals(&device).len()), ("a=by hand\n", 0));
}

/// A file that is a mount point, as a container's single file is.
struct Mount(PathBuf);

impl Mount {
    fn new(file: &Path, source: &Path) -> Option<Self> {
        fs::write(file, "").unwrap();
        let run = |arguments: &[&str]| {
            let output = Command::new("mount").args(arguments).arg(file).output();
            output.is_ok_and(|output| output.status.success())
        };
        if !run(&["--bind", source.to_str().unwrap()]) {
            crate::skip::skipped("this user may not mount anything here (mount --bind)");
            return None;
        }
        Some(Self(file.to_owned()))
    }

    fn read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&self.0).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

#[test]
fn a_file_that_is_a_mount_point_is_written_over() {
    let mut device = Device::new(
        "apply = [\"sh\", \"-c\", 'cat \"$1\" >> \"$1.told\"; ! grep -q bad \"$1\"', \"-\", \"{file}\"]",
    );
    let (file, source) = (device.directory.path().join("shop.conf"), device.directory.path().join("source"));
    fs::write(&source, "a=the one before, which is longer\n").unwrap();
    let Some(mount) = Mount::new(&file, &source) else { return };
    set(&mut device, 1, "{\"a\":1}");
    device.assert_state(SettingsState::Applied, "can't be replaced (a mount point), so it was written over");
    assert_eq!((device.file("source").as_str(), journals(&device).len()), ("a=1\n", 0));
    set(&mut device, 2, "{\"a\":\"bad\"}");
    device.assert_state(SettingsState::Failed, "ended with code 1");
    assert_eq!((device.file("source").as_str(), journals(&device).len()), ("a=1\n", 0));
    // Ended in the middle of it, with a part of the new content in place.
    device.order(3, "{\"a\":\"good and long\"}", Drift::Repair);
    let job = device.apply_job();
    drop(apply(&job, &|at| at == Step::Placed));
    fs::write(&source, "a=good\0\0").unwrap();
    device.restart();
    device.kinds();
    device.work(4);
    assert_eq!(device.kinds(), ["settings_applied"], "what a crash left is no hand edit");
    assert_eq!(device.file("source"), "a=good and long\n");
    // Another name of it may be somebody else's file: that is not written to.
    let other = device.directory.path().join("other");
    fs::hard_link(&source, &other).unwrap();
    device.order(5, "{\"a\":4}", Drift::Repair);
    device.work(5);
    device.assert_state(SettingsState::Failed, "is not written to because it has 2 names (hard links)");
    assert_eq!((device.file("other").as_str(), journals(&device).len()), ("a=good and long\n", 0));
    fs::remove_file(&other).unwrap();
    // In a place that can't be written to, nothing is left behind, and what somebody writes later stays.
    mount.read_only();
    device.order(6, "{\"a\":5}", Drift::Repair);
    device.work(6);
    device.assert_state(SettingsState::Failed, "Read-only file system");
    assert!(!device.report().detail.contains("put back"), "{:?}", device.report());
    assert!(journals(&device).is_empty());
    fs::write(&source, "a=by hand\n").unwrap();
    device.restart();
    device.work(7);
    assert_eq!(device.file("source"), "a=by hand\n");
}
