//! The configuration file: it is understood, or refused in words that say where.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;
use walcast::cli::{Cli, Command, ServeArgs};
use walcast::config::Config;

pub fn configuration(bytes: &[u8]) {
    let Place { file, args, .. } = place();
    std::fs::write(file, bytes).expect("the file can be written");
    match Config::load(args) {
        Ok(config) => {
            assert!(!config.listen.is_empty() && !config.feeds.is_empty());
            let described = Config::describe(args).expect("what can be loaded can be described");
            std::fs::write(file, &described).expect("the file can be written");
            let again = Config::load(args).unwrap_or_else(|e| panic!("{e}\n{described}"));
            assert_eq!(config, again, "{described}");
        }
        Err(error) => {
            let problems = error.problems();
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.is_empty());
                let plain = !problem.contains(char::is_control);
                assert!(plain, "control characters reach the terminal: {problem:?}");
            }
        }
    }
}

/// What `walcast serve` makes of these arguments.
pub fn serve(arguments: &[OsString]) -> ServeArgs {
    let program = ["walcast", "serve"].map(OsString::from);
    match Cli::try_parse_from(program.iter().chain(arguments).cloned()) {
        Ok(Cli {
            command: Command::Serve(args),
        }) => args,
        other => panic!("not to be served: {other:?}"),
    }
}

struct Place {
    file: PathBuf,
    args: ServeArgs,
    _directory: TempDir,
}

fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let file = directory.path().join("walcast.toml");
        Place {
            args: serve(&["--config".into(), file.clone().into()]),
            file,
            _directory: directory,
        }
    })
}
