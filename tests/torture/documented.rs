//! The tests that the documentation names are there.

use std::fs;
use std::path::Path;

/// The source of all tests.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_is_named_as_a_proof_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let mut tests = String::new();
    sources(&root.join("tests"), &mut tests);
    let named = text.split('`').skip(1).step_by(2);
    let mut proofs = 0;
    for name in named {
        let is_file = name.starts_with("tests/") && !name.contains(' ');
        let is_test = name.matches('_').count() >= 3 && !name.contains([' ', '/']);
        let exists = match (is_file, is_test) {
            (true, _) => root.join(name).exists(),
            (_, true) => tests.contains(&format!("fn {name}()")),
            _ => continue,
        };
        assert!(exists, "there is no {name}");
        proofs += 1;
    }
    assert!(proofs > 30, "{proofs} proofs");
}
