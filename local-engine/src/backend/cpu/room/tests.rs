//! What the system says is read, and what is spoken for is not given twice.

use super::*;

#[test]
fn meminfo_is_read_in_bytes() {
    let text = "MemTotal:       24684084 kB\nMemFree:  3 kB\nMemAvailable:   24062888 kB\n";

    assert_eq!(of_meminfo(text), Some(24_062_888 * 1024));
    assert_eq!(of_meminfo("MemTotal: 1 kB\n"), None);
}

#[test]
fn a_room_gives_what_it_has_and_no_more() {
    let room = Room::of(Some(100));
    let shared = room.clone();

    assert!(room.take(60, "a model").is_ok());
    let refused = shared.take(41, "its draft").unwrap_err();
    assert!(matches!(
        refused,
        BackendError::OutOfMemory { what: "its draft", needed_bytes: 41, available_bytes: 40 }
    ));
    assert!(shared.take(40, "its draft").is_ok());
    room.give_back(60);
    assert!(shared.take(60, "another").is_ok() && room.take(1, "more").is_err());
}

/// A folder for each group, with its files.
fn groups(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

#[test]
fn the_narrowest_of_nested_groups_counts() {
    let dir = groups(&[
        ("pod/memory.max", "1000\n"),
        ("pod/memory.current", "900\n"),
        ("pod/memory.stat", "anon 100\ninactive_file 400\n"),
        ("pod/app/memory.max", "700\n"),
        ("pod/app/memory.current", "150\n"),
        ("pod/free/memory.max", "max\n"),
        ("pod/free/memory.current", "150\n"),
    ]);
    let left = |memberships: &str| of_control_groups(memberships, dir.path());

    // Of 900 used bytes 400 could be dropped, so that 500 of the pod's 1000 are left.
    assert_eq!(left("0::/pod/app\n"), Some(500));
    assert_eq!(left("0::/pod/free\n"), Some(500));
    assert_eq!(left("1:cpu:/pod\n0::/elsewhere\n"), None);
    assert_eq!(left("not a membership"), None);
}

#[test]
fn the_first_version_is_read_where_the_container_sees_it() {
    let dir = groups(&[
        ("memory/memory.limit_in_bytes", "5000"),
        ("memory/memory.usage_in_bytes", "6000"),
        ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 3000\n"),
    ]);

    assert_eq!(of_control_groups("4:cpuset,memory:/docker/0f3a\n", dir.path()), Some(2000));
}
