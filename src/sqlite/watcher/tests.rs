use std::os::unix::fs::symlink;
use std::time::Duration;

use super::places::MAX_LINKS;
use super::*;
use crate::config::WatchMode;
use crate::model::wakeup::Waiter;

/// What the system has.
fn backends() -> impl Iterator<Item = Backend> {
    let chosen = [WatchMode::Auto, WatchMode::Notify].map(Backend::of);
    chosen.into_iter().flatten()
}

/// A directory with `db`, a link to `link`, a link to `first`, which is not there yet.
fn linked() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    symlink("link", dir.path().join("db")).unwrap();
    symlink("first", dir.path().join("link")).unwrap();
    let database = dir.path().join("db");
    (dir, database)
}

#[test]
fn every_link_and_what_it_points_to_is_a_place() {
    let (dir, database) = linked();
    let dangling = places(&database);
    let expected = ["db", "link", "first"].map(|name| dir.path().join(name));
    assert_eq!(dangling, expected);
    std::fs::write(dir.path().join("first"), "").unwrap();
    assert_eq!(places(&database)[..3], expected);
}

#[test]
fn a_link_pointed_elsewhere_in_its_directory_is_noticed() {
    for backend in backends() {
        let (dir, database) = linked();
        let watcher = Watcher::start(&database, backend).unwrap();
        assert!(watcher.is_current(&database));
        symlink("second", dir.path().join("new")).unwrap();
        std::fs::rename(dir.path().join("new"), dir.path().join("link")).unwrap();
        assert!(!watcher.is_current(&database));
    }
}

#[test]
fn links_in_a_circle_come_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("db");
    symlink("db", &database).unwrap();
    assert!(places(&database).len() <= MAX_LINKS + 1);
    for backend in backends() {
        assert!(Watcher::start(&database, backend).is_ok());
    }
}

#[test]
fn a_link_into_a_directory_still_to_be_made_is_watched_itself() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db");
        symlink("later/db", &database).unwrap();
        let watcher = Watcher::start(&database, backend).unwrap();
        assert!(watcher.is_current(&database));
        std::fs::create_dir(dir.path().join("later")).unwrap();
        assert!(!watcher.is_current(&database));
    }
}

/// Takes events until there are such ones.
fn hear(watcher: &mut Watcher, wanted: Wakes) {
    let waiter = Waiter::new().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !watcher.take().contains(wanted) {
        waiter.wait_until(deadline, Some(watcher.readable()));
        assert!(Instant::now() < deadline, "{wanted:?} never came");
    }
}

#[test]
fn each_back_end_tells_of_the_same() {
    for backend in backends() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("directory");
        std::fs::create_dir(&directory).unwrap();
        let database = directory.join("db");
        let mut watcher = Watcher::start(&database, backend).unwrap();
        std::fs::write(&database, "a").unwrap();
        hear(&mut watcher, Wakes::REPLACED);
        std::fs::write(directory.join("db-wal"), "a").unwrap();
        hear(&mut watcher, Wakes::REPLACED);
        std::fs::write(directory.join("db-wal"), "b").unwrap();
        hear(&mut watcher, Wakes::FILE);
        std::fs::remove_file(directory.join("db-wal")).unwrap();
        hear(&mut watcher, Wakes::REPLACED);
        std::fs::rename(&directory, parent.path().join("elsewhere")).unwrap();
        hear(&mut watcher, Wakes::REPLACED);
        assert!(!watcher.is_current(&database));
    }
}

#[test]
fn nothing_is_told_while_paused_and_all_again_afterwards() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let (database, wal) = (dir.path().join("db"), dir.path().join("db-wal"));
        std::fs::write(&database, "a").unwrap();
        std::fs::write(&wal, "a").unwrap();
        let mut watcher = Watcher::start(&database, backend).unwrap();
        watcher.pause();
        std::fs::write(&wal, "b").unwrap();
        watcher.resume().unwrap();
        // Events come in their order: one of the time of the pause would be here before this.
        std::fs::write(&database, "b").unwrap();
        let waiter = Waiter::new().unwrap();
        let mut heard = Wakes::default();
        while !heard.contains(Wakes::NEARBY) {
            waiter.wait_until(
                Instant::now() + Duration::from_secs(1),
                Some(watcher.readable()),
            );
            heard = heard | watcher.take();
        }
        assert!(!heard.contains(Wakes::FILE), "{backend:?}: {heard:?}");
        std::fs::write(&wal, "c").unwrap();
        hear(&mut watcher, Wakes::FILE);
    }
}
