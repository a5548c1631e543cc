//! Whose the file of tokens is, whoever makes it and whoever changes it. Only root can be somebody else, so only root runs
//! these.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::fs::{XattrFlags, getxattr, setxattr};
use tempfile::TempDir;

use super::office;
use crate::common::settings::program;
use crate::common::{directory, secrets};

/// Nobody of these numbers is on the machine, which does not matter to the kernel.
const SERVICE: u32 = 64_001;
const GROUP: u32 = 64_002;
const READER: u32 = 64_003;

const GRANT: [&str; 2] = ["--feed", "news"];

/// A directory of this owner and group, and the path of tokens in it; `None` where only root could have them.
fn place(owner: u32, group: u32, mode: u32) -> Option<(TempDir, PathBuf)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files to others");
        return None;
    }
    let directory = directory();
    set(directory.path(), owner, group, mode);
    let tokens = directory.path().join("tokens.toml");
    Some((directory, tokens))
}

fn set(path: &Path, owner: u32, group: u32, mode: u32) {
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn rights(path: &Path) -> (u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

/// Runs `walcast token add` as this user and group, with a umask under which nobody else may do anything.
fn add_as(user: u32, group: u32, tokens: &Path, name: &str) -> Output {
    let mut command = program();
    command
        .args(["token", "add", name])
        .args(GRANT)
        .arg("--tokens")
        .arg(tokens)
        .uid(user)
        .gid(group);
    // SAFETY: umask takes a number, touches no memory and can't fail.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0o077);
            Ok(())
        });
    }
    let output = command.output().expect("walcast can be run");
    secrets::keep_those_in(&String::from_utf8_lossy(&output.stdout));
    output
}

/// As root; it has to work. Returns what it says beside the token.
fn add(tokens: &Path, name: &str) -> String {
    let output = add_as(0, 0, tokens, name);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_file_of_the_service_stays_the_services_when_root_changes_it() {
    let Some((_directory, tokens)) = place(0, 0, 0o755) else {
        return;
    };
    add(&tokens, "first");
    for (owner, group, mode) in [
        (SERVICE, SERVICE, 0o600),
        (SERVICE, GROUP, 0o640),
        (0, GROUP, 0o640),
    ] {
        set(&tokens, owner, group, mode);
        let before = fs::metadata(&tokens).unwrap().ino();
        add(&tokens, &format!("of-{owner}-{mode}"));
        assert_eq!(rights(&tokens), (owner, group, mode));
        assert_ne!(
            fs::metadata(&tokens).unwrap().ino(),
            before,
            "it is another file"
        );
    }
}

#[test]
fn whom_an_access_list_lets_in_is_let_in_afterwards() {
    const NAME: &str = "system.posix_acl_access";
    let Some((_directory, tokens)) = place(0, 0, 0o755) else {
        return;
    };
    add(&tokens, "first");
    // Its owner reads and writes, a reader reads, its group and others do nothing.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (0x01_u16, 6_u16, u32::MAX),
        (0x02, 4, READER),
        (0x04, 0, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    if let Err(e) = setxattr(&tokens, NAME, &list, XattrFlags::empty()) {
        return eprintln!("skipped: no access lists here ({e})");
    }
    add(&tokens, "second");
    let mut kept = vec![0; list.len() + 1];
    let length = getxattr(&tokens, NAME, kept.as_mut_slice()).expect("there is a list");
    assert_eq!(kept[..length], list);
}

#[test]
fn a_new_file_is_for_the_service_to_which_its_directory_belongs() {
    for (owner, group, mode, file) in [
        (SERVICE, SERVICE, 0o700, (SERVICE, SERVICE, 0o600)),
        (SERVICE, GROUP, 0o750, (SERVICE, GROUP, 0o640)),
        (0, GROUP, 0o755, (0, GROUP, 0o640)),
        (0, GROUP, 0o700, (0, GROUP, 0o600)),
        (0, 0, 0o755, (0, 0, 0o600)),
    ] {
        let Some((_directory, tokens)) = place(owner, group, mode) else {
            return;
        };
        let said = add(&tokens, "first");
        assert_eq!(rights(&tokens), file, "in {owner}:{group} {mode:o}");
        let is_roots = file == (0, 0, 0o600) || file == (0, GROUP, 0o600);
        assert_eq!(said.contains("chmod 0640"), is_roots, "{said}");
        assert!(!add(&tokens, "second").contains("is new"));
    }
}

#[test]
fn a_service_reads_what_root_made_in_its_directory() {
    let Some((directory, tokens)) = place(SERVICE, SERVICE, 0o755) else {
        return;
    };
    add(&tokens, "first");
    let daemon = office::settings(directory.path(), "").user(SERVICE).start();
    let before = daemon.log().matches("tokens read again").count();
    add(&tokens, "second");
    crate::common::wait_until("the token is taken", || {
        daemon.log().matches("tokens read again").count() > before
    });
}

#[test]
fn a_file_that_would_change_hands_is_not_changed() {
    let Some((_directory, tokens)) = place(0, SERVICE, 0o775) else {
        return;
    };
    add(&tokens, "first");
    let text = fs::read(&tokens).unwrap();
    for (owner, group, says) in [
        (0, SERVICE, "it belongs to root: do it as root"),
        (SERVICE, GROUP, "its group is 64002: do it as root"),
    ] {
        set(&tokens, owner, group, 0o640);
        let refused = add_as(SERVICE, SERVICE, &tokens, "second");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(says), "{said}");
        assert!(
            refused.stdout.is_empty(),
            "no token that is good for nothing"
        );
        assert_eq!(fs::read(&tokens).unwrap(), text);
        assert_eq!(rights(&tokens), (owner, group, 0o640));
    }
    let beside = fs::read_dir(tokens.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1, "nothing is left behind");
    // Its own it may change, and it stays its own.
    set(&tokens, SERVICE, SERVICE, 0o640);
    assert!(add_as(SERVICE, SERVICE, &tokens, "second").status.success());
    assert_eq!(rights(&tokens), (SERVICE, SERVICE, 0o640));
}

#[test]
fn a_daemon_takes_no_tokens_of_somebody_else() {
    let Some((directory, tokens)) = place(0, 0, 0o755) else {
        return;
    };
    add(&tokens, "first");
    set(&tokens, SERVICE, SERVICE, 0o600);
    let failed = office::settings(directory.path(), "").try_start().err();
    let failed = failed.expect("it must not start");
    assert_eq!(failed.status.code(), Some(2));
    let says = "it belongs to user 64001, who is neither root nor walcast itself (user 0)";
    assert!(failed.stderr.contains(says), "{}", failed.stderr);
}
