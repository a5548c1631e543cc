//! What the daemon needs of the system beside the file: file events, a state directory, descriptors.

use std::path::Path;

use rustix::fs::Access;

use super::DatabasePlace;
use super::report::{Report, quoted};
use crate::config::Config;
use crate::net::connection_limits::raise_descriptor_limit;
use crate::os::users::may;
use crate::sqlite::watcher::Backend;
use crate::sqlite::watcher::probe::events_arrive;

/// Reports whether writes to the directory are told, and by which file system.
pub(super) fn file_events(config: &Config, place: &DatabasePlace, report: &mut Report) {
    const LABEL: &str = "file events";
    let polled = "rows are noticed by polling (`poll_interval`)";
    let Some(backend) = Backend::of(config.watch) else {
        let watch = config.watch.as_str();
        return report.note(
            LABEL,
            format!("not listened to (watch = {watch:?}): {polled}"),
        );
    };
    let directory = &place.directory;
    let system = file_system(directory);
    let name = system
        .as_ref()
        .map_or_else(String::new, |system| format!(" ({})", system.name));
    if !may(directory, Access::WRITE_OK | Access::EXEC_OK) {
        report.note(
            LABEL,
            format!(
                "not tried, for this user can't create a probe in {}{name}",
                directory.display()
            ),
        );
    } else {
        match events_arrive(directory, backend) {
            Ok(true) => report.ok(LABEL, format!("arrive for {}{name}", directory.display())),
            Ok(false) => report.warn(LABEL, format!("none arrive for {}{name}; {polled}", directory.display()), &[]),
            Err(e) => report.warn(
                LABEL,
                format!("none arrive for {}{name} ({e}); {polled}", directory.display()),
                &["where watches have run out: sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288".to_owned()],
            ),
        }
    }
    match system.map(|system| system.sharing) {
        Some(Sharing::Network) => report.warn(
            LABEL,
            format!("a network file system brings no events of other machines' writes; {polled}. Its locks are often \
                     unreliable, and WAL mode does not work between machines at all"),
            &["run walcast and every writer on one machine, with the file on a local disk".to_owned()],
        ),
        Some(Sharing::Passed) => {
            report.note(LABEL, format!("writes from the other side of this mount may bring no events; then {polled}"));
        }
        _ => {}
    }
}

/// Who may write to a file system besides processes of this machine.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // Nobody can tell there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Local,
    Network,
    /// Passed in from a host or another program.
    Passed,
}

struct FileSystem {
    name: &'static str,
    sharing: Sharing,
}

/// Magic numbers of statfs(2) that matter here, and the most common local ones.
#[cfg(target_os = "linux")]
const FILE_SYSTEMS: [(u32, &str, Sharing); 18] = [
    (0x0000_6969, "NFS", Sharing::Network),
    (0x0000_517b, "SMB", Sharing::Network),
    (0xff53_4d42, "CIFS", Sharing::Network),
    (0xfe53_4d42, "SMB2", Sharing::Network),
    (0x00c3_6400, "Ceph", Sharing::Network),
    (0x0bd0_0bd0, "Lustre", Sharing::Network),
    (0x5346_414f, "AFS", Sharing::Network),
    (0x6573_5546, "FUSE", Sharing::Passed),
    (0x0102_1997, "9p", Sharing::Passed),
    (0x786f_4256, "vboxsf", Sharing::Passed),
    (0x794c_7630, "overlay", Sharing::Local),
    (0x0102_1994, "tmpfs", Sharing::Local),
    (0x0000_ef53, "ext4", Sharing::Local),
    (0x5846_5342, "XFS", Sharing::Local),
    (0x9123_683e, "Btrfs", Sharing::Local),
    (0x2fc1_2fc1, "ZFS", Sharing::Local),
    (0xf2f5_2010, "F2FS", Sharing::Local),
    (0xca45_1a4e, "bcachefs", Sharing::Local),
];

#[cfg(target_os = "linux")]
fn file_system(directory: &Path) -> Option<FileSystem> {
    let magic = rustix::fs::statfs(directory).ok()?.f_type as u32;
    let &(_, name, sharing) = FILE_SYSTEMS.iter().find(|(known, ..)| *known == magic)?;
    Some(FileSystem { name, sharing })
}

/// Elsewhere file systems are named in other ways; the probe tells enough.
#[cfg(not(target_os = "linux"))]
fn file_system(_directory: &Path) -> Option<FileSystem> {
    None
}

/// Reports whether the identity of histories can be kept.
pub(super) fn state_directory(config: &Config, report: &mut Report) {
    const LABEL: &str = "state";
    const COST: &str = "a database restored while walcast is down would go unnoticed";
    let Some(directory) = &config.state_dir else {
        let name = "name a directory with --state-dir or `state_dir`".to_owned();
        return report.warn(
            LABEL,
            format!("there is no state directory: {COST}"),
            &[name],
        );
    };
    let shown = directory.display();
    let existing = directory.ancestors().find(|path| path.exists());
    match existing {
        Some(path)
            if path == directory
                && path.is_dir()
                && may(path, Access::WRITE_OK | Access::EXEC_OK) =>
        {
            report.ok(LABEL, format!("{shown} can be written"));
        }
        Some(path)
            if path != directory
                && path.is_dir()
                && may(path, Access::WRITE_OK | Access::EXEC_OK) =>
        {
            report.ok(LABEL, format!("{shown} is created at start"));
        }
        _ => {
            let directory = quoted(directory);
            let mend = format!(
                "install -d -m 0750 -o USER {directory}, with the daemon's user for USER, or name another with --state-dir"
            );
            report.warn(LABEL, format!("{shown} can't be written: {COST}"), &[mend]);
        }
    }
}

/// Reports how many connections the descriptor limit allows.
pub(super) fn connections(config: &Config, report: &mut Report) {
    const LABEL: &str = "connections";
    let allowed = raise_descriptor_limit();
    match config.limits.max_connections {
        None => report.ok(LABEL, format!("up to {allowed}, as the descriptor limit allows")),
        Some(wanted) if wanted <= allowed => report.ok(LABEL, format!("up to {wanted}; descriptors allow {allowed}")),
        Some(wanted) => report.warn(
            LABEL,
            format!("max_connections is {wanted}, but descriptors allow only {allowed}"),
            &[format!("LimitNOFILE={} in the unit, or ulimit -n before the start; or lower max_connections", wanted + 64)],
        ),
    }
}
