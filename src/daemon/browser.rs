//! Shows the dashboard in the browser of whoever started the daemon.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Opens the page with the first program that can, without waiting for it. Where none can, the log says so, with the
/// address to go to; the daemon goes on.
pub(super) fn show(url: String) {
    let opening = move || {
        if let Err(why) = show_with_any(&url) {
            tracing::warn!("no browser shows the dashboard: {why}; go to {url}");
        }
    };
    // A program may stay for as long as the browser does; waiting for it leaves no dead process behind.
    let thread = std::thread::Builder::new().name("walcast-browser".into());
    if let Err(e) = thread.spawn(opening) {
        tracing::warn!("no browser shows the dashboard: no thread waits for it ({e})");
    }
}

fn show_with_any(url: &str) -> Result<(), String> {
    let mut why = "there is no program that opens pages (xdg-open, of xdg-utils)".to_owned();
    for mut program in programs(url)? {
        let name = program.get_program().to_string_lossy().into_owned();
        let started = program
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for the daemon alone.
            .process_group(0)
            .spawn();
        match started.and_then(|mut child| child.wait()) {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => why = format!("{name} ended with {status}"),
            Err(e) if e.kind() == ErrorKind::NotFound && !is_named() => {}
            Err(e) => why = format!("{name}: {e}"),
        }
    }
    Err(why)
}

/// The variable that names programs of one's own choice, with colons between them.
const VARIABLE: &str = "BROWSER";

/// Returns whether somebody chose the programs.
fn is_named() -> bool {
    is_set(VARIABLE)
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// The programs to try: those of one's own choice, else the desktop's.
fn programs(url: &str) -> Result<Vec<Command>, String> {
    if is_named() {
        let named = std::env::var(VARIABLE).map_err(|e| format!("{VARIABLE}: {e}"))?;
        return Ok(of_variable(&named, url));
    }
    // Without a display xdg-open would start a browser for terminals, in the daemon's own. WSL shows pages in Windows.
    let displays = ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"];
    if cfg!(not(target_os = "macos")) && !displays.into_iter().any(is_set) {
        return Err(format!(
            "this session has no display, and {VARIABLE} names no program"
        ));
    }
    Ok(open::commands(url))
}

/// `%s` stands for the address, which else is the last argument.
fn of_variable(named: &str, url: &str) -> Vec<Command> {
    let programs = named.split(':').filter_map(|program| {
        let mut words = program.split_whitespace();
        let mut command = Command::new(words.next()?);
        command.args(words.map(|word| word.replace("%s", url)));
        if !program.contains("%s") {
            command.arg(url);
        }
        Some(command)
    });
    programs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_programs_with_their_arguments() {
        let shown = |named: &str| -> Vec<String> {
            let commands = of_variable(named, "http://h:1/");
            commands.iter().map(|one| format!("{one:?}")).collect()
        };
        assert_eq!(
            shown("firefox: my-browser --new --url=%s :"),
            [
                r#""firefox" "http://h:1/""#,
                r#""my-browser" "--new" "--url=http://h:1/""#
            ]
        );
    }
}
