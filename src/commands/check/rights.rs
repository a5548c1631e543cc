//! Who may do what with the file, and whether two users of it would lock each other out.
//!
//! SQLite gives `-wal` and `-shm` the mode of the database, whatever the umask, and the owner and group of the process
//! that creates them (the directory's group where that is setgid; run by root, the database's own). Whoever comes second
//! and may not write them gets "attempt to write a readonly database".

use std::path::Path;

use rustix::fs::Access;

use super::DatabasePlace;
use super::report::{Mark, Report, quoted};
use crate::config::{Config, JournalMode};
use crate::os::users::{Owned, User, group_name, may};

const LABEL: &str = "rights";

/// Reports the rights on file, directory and sidecars. `wal`: the file is in WAL mode, where that is known.
pub(super) fn look(config: &Config, place: &DatabasePlace, wal: Option<bool>, report: &mut Report) {
    let me = User::current();
    let Ok(directory) = std::fs::metadata(&place.directory).map(|meta| Owned::of(&meta)) else {
        return;
    };
    let owned = |path: &Path| std::fs::metadata(path).map(|meta| Owned::of(&meta)).ok();
    let file = owned(&place.real);
    let sidecars: Vec<(&'static str, Owned)> = ["-wal", "-shm"]
        .into_iter()
        .filter_map(|name| Some((name, owned(&place.companion(name))?)))
        .collect();
    report.note(LABEL, shown(place, &me, directory, file, &sidecars));

    // A rollback journal that stays one asks less: readers create nothing.
    let needs_all = wal != Some(false) || config.journal_mode == JournalMode::Wal;
    let creates = config.feeds.iter().any(|feed| feed.create);
    let mut findings = own_rights(place, needs_all, creates);
    let scene = Scene {
        me: &me,
        directory,
        file,
        sidecars: &sidecars,
        needs_all,
    };
    let writer = file.and_then(|file| User::of(file.uid));
    findings.extend(scene.lockouts(writer.as_ref()));
    let steps = mending(place, &me, directory, writer.as_ref());
    let sound = findings.is_empty();
    for (index, (mark, text)) in findings.iter().enumerate() {
        let last = index + 1 == findings.len();
        report.add(*mark, LABEL, text, if last { &steps } else { &[] });
    }
    if sound {
        report.ok(
            LABEL,
            format!(
                "{} can read, write, and create -wal and -shm beside it",
                me.name
            ),
        );
    }
    if me.uid == 0 {
        report.note(LABEL, "root may do everything; to see what the daemon's own user may: sudo -u USER walcast check …");
    }
}

fn shown(
    place: &DatabasePlace,
    me: &User,
    directory: Owned,
    file: Option<Owned>,
    sidecars: &[(&str, Owned)],
) -> String {
    let mut parts = vec![format!("directory {}", directory.shown())];
    parts.extend(file.map(|file| format!("file {}", file.shown())));
    parts.extend(
        sidecars
            .iter()
            .map(|(name, owned)| format!("{name} {}", owned.shown())),
    );
    format!(
        "{}: {}; looked at as {}",
        place.directory.display(),
        parts.join(", "),
        me.name
    )
}

/// What this user may not do itself, as the system answers it.
fn own_rights(place: &DatabasePlace, needs_all: bool, creates: bool) -> Vec<(Mark, String)> {
    let mut findings = Vec::new();
    let grave = if needs_all {
        Mark::Problem
    } else {
        Mark::Warning
    };
    let mut missing = |mark, what: String| findings.push((mark, what));
    let directory = place.directory.display();
    if !may(&place.directory, Access::WRITE_OK | Access::EXEC_OK) {
        match place.exists {
            true => missing(
                grave,
                format!("this user can't create -wal and -shm in {directory}"),
            ),
            false if creates => missing(
                Mark::Problem,
                format!("this user can't create the database in {directory}"),
            ),
            false => missing(
                grave,
                format!("this user will not be able to create -wal and -shm in {directory}"),
            ),
        }
    }
    if place.exists {
        if !may(&place.real, Access::READ_OK) {
            missing(
                Mark::Problem,
                "this user can't read the database".to_owned(),
            );
        } else if !may(&place.real, Access::WRITE_OK) {
            missing(
                grave,
                "this user can't write the database, so it can't take part in its WAL mode"
                    .to_owned(),
            );
        }
    }
    findings
}

/// Everything that decides whether sidecars lock somebody out.
struct Scene<'a> {
    me: &'a User,
    directory: Owned,
    file: Option<Owned>,
    sidecars: &'a [(&'static str, Owned)],
    needs_all: bool,
}

impl Scene<'_> {
    /// What would lock the daemon or `writer`, the owner of the database, out.
    fn lockouts(&self, writer: Option<&User>) -> Vec<(Mark, String)> {
        let mut findings = Vec::new();
        for (name, owned) in self.sidecars {
            for user in [
                Some(self.me),
                writer.filter(|writer| writer.uid != self.me.uid),
            ]
            .into_iter()
            .flatten()
            {
                if !owned.lets(user, 6) {
                    let text = format!(
                        "{} can't write the {name} that is there ({})",
                        user.name,
                        owned.shown()
                    );
                    findings.push((Mark::Problem, text));
                }
            }
        }
        match (self.file, writer) {
            (Some(file), Some(writer))
                if writer.uid != self.me.uid && self.needs_all && findings.is_empty() =>
            {
                findings.extend(self.future_lockouts(file, writer));
            }
            (None, _) => findings.extend(self.unclear_beginning()),
            _ => {}
        }
        findings
    }

    fn future_lockouts(&self, file: Owned, writer: &User) -> Vec<(Mark, String)> {
        let mut findings = Vec::new();
        let (mine, theirs) = (
            self.sidecar_by(self.me, file),
            self.sidecar_by(writer, file),
        );
        if self.directory.lets(self.me, 3) && !mine.lets(writer, 6) {
            let text = format!(
                "-wal and -shm created by walcast would be {}: {} could not write any more",
                mine.shown(),
                writer.name
            );
            findings.push((Mark::Problem, text));
        }
        if !theirs.lets(self.me, 6) {
            let text = format!(
                "-wal and -shm created by {} would be {}: closed to {}",
                writer.name,
                theirs.shown(),
                self.me.name
            );
            findings.push((Mark::Problem, text));
        }
        if !self.directory.lets(writer, 3) {
            let text = format!(
                "{}, who owns the database, can't create -wal and -shm in its directory",
                writer.name
            );
            findings.push((Mark::Warning, text));
        }
        findings
    }

    /// The file is not there, and its directory is somebody else's: most likely the writer's.
    fn unclear_beginning(&self) -> Option<(Mark, String)> {
        let owner = User::of(self.directory.uid)
            .filter(|owner| owner.uid != self.me.uid && owner.uid != 0)?;
        let shared = self.directory.is_setgid() && self.me.groups.contains(&self.directory.gid);
        (!shared && self.me.uid != 0).then(|| {
            let text = format!(
                "the directory is {}'s: a database created by one of {} and {} will be closed to the other",
                owner.name, owner.name, self.me.name
            );
            (Mark::Warning, text)
        })
    }

    /// Owner and mode of a sidecar that `user` creates.
    fn sidecar_by(&self, user: &User, file: Owned) -> Owned {
        let mode = file.mode & 0o777;
        match user.uid {
            0 => Owned { mode, ..file },
            uid => Owned {
                uid,
                gid: if self.directory.is_setgid() {
                    self.directory.gid
                } else {
                    user.gid
                },
                mode,
            },
        }
    }
}

/// The layout that works whoever comes first: a shared group, a setgid directory, a file the group may write.
fn mending(
    place: &DatabasePlace,
    me: &User,
    directory: Owned,
    writer: Option<&User>,
) -> Vec<String> {
    let (group, made) = match directory.gid {
        0 => ("walcast".to_owned(), false),
        gid => (group_name(gid), true),
    };
    let mut steps = Vec::new();
    if !made {
        steps.push(format!("groupadd --system --force {group}"));
    }
    let member = |user: &&User| made && user.groups.contains(&directory.gid);
    let users = [Some(me), writer]
        .into_iter()
        .flatten()
        .filter(|user| user.uid != 0);
    let mut named: Vec<&str> = users
        .filter(|user| !member(user))
        .map(|user| user.name.as_str())
        .collect();
    named.dedup();
    steps.extend(
        named
            .iter()
            .map(|name| format!("usermod -aG {group} {name}")),
    );
    let (directory, file) = (quoted(&place.directory), quoted(&place.real));
    steps.push(format!(
        "chgrp {group} {directory} && chmod 2770 {directory}"
    ));
    match place.exists {
        true => {
            steps.push(format!("chgrp {group} {file} && chmod 0660 {file}"));
            if place.companion("-wal").exists() || place.companion("-shm").exists() {
                steps.push(format!(
                    "chgrp {group} {file}-wal {file}-shm && chmod 0660 {file}-wal {file}-shm"
                ));
            }
        }
        false => steps.push(format!("install -m 0660 -g {group} /dev/null {file}")),
    }
    if !named.is_empty() {
        steps.push("then restart the writer and walcast, so that they are in the group".to_owned());
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: u32 = 50;

    fn user(uid: u32, groups: &[u32]) -> User {
        User {
            uid,
            gid: groups[0],
            groups: groups.to_vec(),
            name: format!("u{uid}"),
        }
    }

    fn lockouts(
        me: &User,
        writer: &User,
        directory: Owned,
        file: Owned,
        sidecars: &[(&'static str, Owned)],
    ) -> Vec<Mark> {
        let scene = Scene {
            me,
            directory,
            file: Some(file),
            sidecars,
            needs_all: true,
        };
        scene
            .lockouts(Some(writer))
            .into_iter()
            .map(|(mark, _)| mark)
            .collect()
    }

    #[test]
    fn a_shared_group_with_setgid_works_in_either_order() {
        let (me, writer) = (user(10, &[10, SHARED]), user(20, &[20, SHARED]));
        let directory = Owned {
            uid: 0,
            gid: SHARED,
            mode: 0o2770,
        };
        for owner in [10, 20] {
            let file = Owned {
                uid: owner,
                gid: SHARED,
                mode: 0o660,
            };
            assert_eq!(lockouts(&me, &writer, directory, file, &[]), []);
        }
    }

    #[test]
    fn each_broken_variation_is_found() {
        let (me, writer) = (user(10, &[10, SHARED]), user(20, &[20, SHARED]));
        let good_directory = Owned {
            uid: 0,
            gid: SHARED,
            mode: 0o2770,
        };
        let good_file = Owned {
            uid: 20,
            gid: SHARED,
            mode: 0o660,
        };
        let read_only_to_group = Owned {
            mode: 0o644,
            ..good_file
        };
        let without_setgid = Owned {
            mode: 0o770,
            ..good_directory
        };
        let stranger = user(10, &[10]);
        let closed_directory = Owned {
            mode: 0o2750,
            ..good_directory
        };
        assert!(
            lockouts(&me, &writer, good_directory, read_only_to_group, &[])
                .contains(&Mark::Problem)
        );
        assert!(lockouts(&me, &writer, without_setgid, good_file, &[]).contains(&Mark::Problem));
        assert!(
            lockouts(&stranger, &writer, good_directory, good_file, &[]).contains(&Mark::Problem)
        );
        assert!(lockouts(&me, &writer, closed_directory, good_file, &[]).contains(&Mark::Warning));
        let mine = [(
            "-wal",
            Owned {
                uid: 10,
                gid: 10,
                mode: 0o644,
            },
        )];
        assert_eq!(
            lockouts(&me, &writer, good_directory, good_file, &mine),
            [Mark::Problem]
        );
    }

    #[test]
    fn root_and_a_single_user_lock_nobody_out() {
        let (root, writer) = (user(0, &[0]), user(20, &[20]));
        let directory = Owned {
            uid: 20,
            gid: 20,
            mode: 0o755,
        };
        let file = Owned {
            uid: 20,
            gid: 20,
            mode: 0o644,
        };
        assert_eq!(lockouts(&root, &writer, directory, file, &[]), []);
        assert_eq!(lockouts(&writer, &writer, directory, file, &[]), []);
    }
}
