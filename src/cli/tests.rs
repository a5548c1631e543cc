//! What the command line takes and refuses.

use std::time::Duration;

use super::*;
use crate::config::Config;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

#[test]
fn definition_is_sound() {
    Cli::definition().debug_assert();
}

#[test]
fn serve_is_the_default_command() {
    let Ok(Command::Serve(args)) = parse("walcast") else {
        panic!("not serve")
    };
    assert!(args.texts("database").is_empty() && args.texts("listen").is_empty());
    for line in [
        "walcast --db a.db --listen localhost:1,unix:/s",
        "walcast serve --db a.db --listen localhost:1 --listen unix:/s",
    ] {
        let Ok(Command::Serve(args)) = parse(line) else {
            panic!("not serve: {line}")
        };
        assert_eq!(args.texts("database"), ["a.db"]);
        assert_eq!(args.texts("listen"), ["localhost:1", "unix:/s"]);
        assert!(args.names_database());
    }
}

#[test]
fn a_file_may_stand_where_a_command_would() {
    for line in [
        "walcast app.db --listen 8010",
        "walcast serve app.db",
        "walcast --open app.db",
    ] {
        let Ok(Command::Serve(args)) = parse(line) else {
            panic!("not serve: {line}")
        };
        assert_eq!(args.file.as_deref(), Some("app.db"), "{line}");
        assert_eq!(args.texts("database"), ["app.db"], "{line}");
    }
    assert!(
        matches!(parse("walcast feeds http://h:1"), Ok(Command::Feeds(args)) if args.serve.file.as_deref() == Some("http://h:1"))
    );
    assert!(matches!(parse("walcast version"), Ok(Command::Version)));
}

#[test]
fn check_and_config_take_the_same_flags() {
    assert!(
        matches!(parse("walcast check --anonymous --db x"), Ok(Command::Check(args)) if args.serve.texts("auth.anonymous") == ["true"])
    );
    assert!(
        matches!(parse("walcast config --anonymous=false"), Ok(Command::Config(args)) if args.texts("auth.anonymous") == ["false"])
    );
}

/// A key whose flag or variable is looked up under another name would ignore it, or name the wrong source.
#[test]
fn every_flag_and_variable_reaches_its_key() {
    let definition = Cli::definition();
    let taken: Vec<_> = definition
        .get_arguments()
        .filter(|flag| !["config", "file", "open"].contains(&flag.get_id().as_str()))
        .collect();
    assert_eq!(taken.len(), Config::flags().len());
    for taken in taken {
        let name = &taken.get_id().to_string();
        let variable = format!("WALCAST_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(
            taken.get_env().and_then(|name| name.to_str()),
            Some(variable.as_str())
        );
        let flag = format!("--{name}");
        let line = ["walcast".to_owned(), format!("{flag}=")];
        let Command::Serve(args) = Cli::try_parse_from(line).expect(&flag).command else {
            panic!("not serve")
        };
        let error = Config::load(&args)
            .map(|_| ())
            .expect_err(&flag)
            .to_string();
        assert!(error.starts_with(&format!("{flag} : ")), "{flag}: {error}");
        let mut unset = ServeArgs::default();
        let flags = Config::flags();
        let setting = flags.iter().find(|flag| flag.name == name).expect(&flag);
        unset.say_by_variable(setting.key, name, &[""]);
        assert!(
            Config::load(&unset).is_ok(),
            "an empty variable is unset: {name}"
        );
    }
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    for line in [
        "walcast --nonsense",
        "walcast --db a.db check",
        "walcast --journal-mode off",
        "walcast tail",
        "walcast tail ws://h/ws/x --db y",
        "walcast a.db --db b.db",
        "walcast serve a.db b.db",
        "walcast completions cobol",
        "walcast init",
        "walcast tail wxs://h/ws/x",
        "walcast tail --db y --last 10001",
        "walcast tail --db y --since -1",
        "walcast tail --db y --since 1 --last 1",
        "walcast tail --db y --epoch e",
        "walcast tail --db y --filter tenant",
        "walcast tail --db y --filter last=3",
        "walcast emit --db y --interval 1s",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
    assert_eq!(parse("walcast --help").expect_err("help").exit_code(), 0);
}

#[test]
fn tail_follows_a_url_or_a_file() {
    let Ok(Command::Tail(args)) =
        parse("walcast tail http://h:1/ws/x --since 7 --epoch e --filter a=b=c --filter a= --json")
    else {
        panic!("not tail")
    };
    assert_eq!(
        args.source(),
        TailSource::Url("ws://h:1/ws/x".parse().unwrap())
    );
    assert_eq!(
        (args.since, args.epoch.as_deref(), args.json),
        (Some(TailSince::Id(7)), Some("e"), true)
    );
    assert_eq!(
        args.filter,
        [
            ("a".to_owned(), "b=c".to_owned()),
            ("a".to_owned(), String::new())
        ]
    );

    let Ok(Command::Tail(args)) = parse("walcast tail --db f.db --feed orders --last 10") else {
        panic!("not tail")
    };
    assert_eq!(args.source(), TailSource::File("f.db".into()));
    assert_eq!(
        (args.feed.as_deref(), args.last, args.since),
        (Some("orders"), Some(10), None)
    );
}

#[test]
fn emit_writes_one_event_unless_told() {
    let Ok(Command::Emit(args)) = parse("walcast emit --db f.db") else {
        panic!("not emit")
    };
    assert_eq!((args.count(), args.interval), (1, Duration::ZERO));
    let Ok(Command::Emit(args)) = parse("walcast emit --db f.db 20 --interval 50") else {
        panic!("not emit")
    };
    assert_eq!(
        (args.count(), args.interval),
        (20, Duration::from_millis(50))
    );
    for (line, file, count) in [
        ("walcast emit", "./walcast.db", 1),
        ("walcast emit 7", "./walcast.db", 7),
        ("walcast emit a.db", "a.db", 1),
        ("walcast emit a.db 7", "a.db", 7),
        ("walcast emit 7 8", "7", 8),
    ] {
        let Ok(Command::Emit(args)) = parse(line) else {
            panic!("not emit: {line}")
        };
        assert_eq!(
            (args.database(), args.count()),
            (file.into(), count),
            "{line}"
        );
    }
}
