use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::observe::{Observer, RequestInfo, Status, Trace};

#[test]
fn levels() {
    for (text, expect) in [
        ("debug", Ok("codex_api_proxy=debug,info")),
        ("info", Ok("info")),
        ("warning", Ok("warn")),
        ("warn", Ok("warn")),
        ("ERROR", Ok("error")),
        ("off", Ok("off")),
        ("warning, hyper=debug", Ok("hyper=debug,warn")),
        ("info,[turn{id=1}]=debug", Ok("info,[turn{id=1}]=debug")),
        ("", Err("a part of it is empty")),
        ("info,", Err("a part of it is empty")),
        ("verbose", Err("unknown level `verbose`")),
        ("hyper=loud", Err("error parsing level filter")),
    ] {
        match (parse_level(text), expect) {
            (Ok(filter), Ok(expect)) => assert_eq!(filter.to_string(), expect, "{text:?}"),
            (Err(error), Err(expect)) => {
                assert!(error.starts_with("log_level: ") && error.contains(expect), "{text:?}: {error}");
            }
            (got, _) => panic!("{text:?}: {got:?}"),
        }
    }
}

#[test]
fn foreign_text_is_escaped_and_cut_to_its_tail() {
    for (text, expect) in [
        ("", ""),
        ("plain ü 語", "plain ü 語"),
        ("a\r\n\tb\0c\x7f", r"a\r\n\tb\u{0}c\u{7f}"),
        ("\x1b[31mred\u{9b}1m", r"\u{1b}[31mred\u{9b}1m"),
        (
            "\u{2028}\u{202e}\u{2066}\u{2027}\u{2065}\u{206a}",
            "\\u{2028}\\u{202e}\\u{2066}\u{2027}\u{2065}\u{206a}",
        ),
    ] {
        assert_eq!(escape(text), expect);
    }
    let last = "x".repeat(TAIL);
    assert_eq!(escape(&last), last);
    assert_eq!(escape(&format!("a{last}")), last);
    // The cut falls inside the ü: it goes as a whole.
    assert_eq!(escape(&format!("aü{}", &last[1..])), last[1..]);
}

#[test]
fn a_journal_stream_is_told_by_device_and_inode() {
    let (ours, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let meta = ours.metadata().unwrap();
    let stream = format!("{}:{}", meta.dev(), meta.ino());
    assert!(names(&stream, &ours));
    assert!(!names(&stream, &other));
    for wrong in ["", ":", "1", &format!("{stream}0"), &format!("{}:x", meta.dev())] {
        assert!(!names(wrong, &ours), "{wrong:?}");
    }
}

#[test]
fn our_own_job_of_launchd_is_told_by_its_name() {
    for (job, expect) in [
        (Ok("local.codex-api-proxy.agent"), true),
        (Ok("local.codex-api-proxy.daemon"), true),
        (Ok("application.com.apple.Terminal.1152921500311879701"), false),
        (Ok("0"), false),
        (Err(()), false),
    ] {
        assert_eq!(launched(job.map(str::to_owned)), expect, "{job:?}");
    }
}

/// What the log writes is global to a process, so each case runs in one of its own: this same
/// test program, told by the environment to be `child` and which `log_target`, `log_format`,
/// `log_level` and part to take.
fn child(settings: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "observe::log::tests::be_the_child", "--nocapture", "--quiet"]);
    command.env("TEST_OBSERVE_CHILD", settings).env_remove("JOURNAL_STREAM").stdout(Stdio::null());
    command
}

#[test]
fn be_the_child() {
    let Ok(settings) = std::env::var("TEST_OBSERVE_CHILD") else { return };
    let [target, format, level, part] = settings.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{settings}")
    };
    let config = Config {
        log_target: match target {
            "auto" => LogTarget::Auto,
            "journald" => LogTarget::Journald,
            "oslog" => LogTarget::Oslog,
            _ => LogTarget::Stderr,
        },
        log_format: if format == "json" { LogFormat::Json } else { LogFormat::Text },
        log_level: level.into(),
        ..Config::default()
    };
    let log = match start(&config) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("refused: {error}");
            std::process::exit(78);
        }
    };
    match part {
        "say" => say(&log),
        "flood" => (0..20_000).for_each(|i| tracing::info!("line {i} {}", "x".repeat(100))),
        _ => panic!("{part}"),
    }
    drop(log);
    std::process::exit(0);
}

fn say(log: &LogHandle) {
    tracing::debug!("not yet");
    tracing::warn!(setting = "port", number = 7, "first\nsecond \x1b[31m");
    tracing::info!(target: "hyper::proto", "of a library");
    let info = RequestInfo {
        request_id: "r1".into(),
        stream: false,
        api: "chat_completions",
        engine: "exec",
        model: "m".into(),
        n: 1,
    };
    let at = Instant::now();
    Trace::start(info, Arc::new(Observer::new()), at).finish(
        Status::Ok,
        None,
        200,
        at + Duration::from_millis(2),
    );
    assert!(log.set_level("loud").is_err());
    log.set_level("debug").unwrap();
    tracing::debug!("now");
    log.set_level("error").unwrap();
    tracing::warn!("no more");
}

/// Runs the child to its end; its exit code and what it wrote to stderr.
fn run(settings: &str) -> (ExitStatus, String) {
    let output = child(settings).output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

const LATENCY: &str = r#"codex_api_proxy.latency {"event":"chat_completion_latency","request_id":"r1","status":"ok","error_type":null,"http_status":200,"stream":false,"caller":null,"model":"m","api":"chat_completions","engine":"exec","n":1,"phases_ms":{"total":2.00}}"#;

#[test]
fn text_is_one_plain_line_an_event() {
    let (status, stderr) = run("auto text info say");
    assert!(status.success(), "{stderr}");
    let lines: Vec<_> = stderr
        .lines()
        .map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.ends_with('Z') && time.len() == "2026-11-22T14:39:24.123456Z".len(), "{line}");
            rest
        })
        .collect();
    assert_eq!(
        lines,
        [
            r#"WARN first\nsecond \x1b[31m setting="port" number=7"#,
            "INFO hyper::proto: of a library",
            &format!("INFO {LATENCY}"),
            "DEBUG now",
        ]
    );
}

#[test]
fn text_for_the_journal_has_its_level_in_front_and_no_time() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let meta = file.as_file().metadata().unwrap();
    let status = child("stderr text info say")
        .env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino()))
        .stderr(file.reopen().unwrap())
        .status()
        .unwrap();
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(status.success(), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], r#"<4>first\nsecond \x1b[31m setting="port" number=7"#);
    assert_eq!(lines[2..], [&format!("<6>{LATENCY}"), "<7>now"]);
}

#[test]
fn json_is_one_object_an_event() {
    let (status, stderr) = run("stderr json info say");
    assert!(status.success(), "{stderr}");
    let lines: Vec<serde_json::Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{stderr}");
    assert_eq!((&lines[0]["message"], &lines[0]["number"]), (&"first\nsecond \x1b[31m".into(), &7.into()));
    let latency = &lines[2];
    assert_eq!(
        (&latency["message"], &latency["target"]),
        (&LATENCY.into(), &"codex_api_proxy.latency".into())
    );
    assert_eq!((&latency["request_id"], &latency["total_ms"]), (&"r1".into(), &2.0.into()));
    assert!(latency.get("error_type").is_none());
}

#[test]
fn targets_that_are_not_there_are_refused_by_name() {
    #[cfg(not(target_os = "macos"))]
    {
        let (status, stderr) = run("oslog text info say");
        assert_eq!(
            (status.code(), stderr.as_str()),
            (Some(78), "refused: log_target = oslog exists on macOS only\n")
        );
    }
    let (status, stderr) = run("journald text info say");
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    } else {
        assert_eq!(status.code(), Some(78));
        assert!(stderr.starts_with("refused: log_target = journald: "), "{stderr}");
    }
    let (status, stderr) = run("stderr text loud say");
    assert_eq!(status.code(), Some(78));
    assert!(stderr.starts_with("refused: log_level: `loud` "), "{stderr}");
}

#[test]
fn a_reader_that_left_or_stalls_stops_nobody() {
    // Gone: every write is a broken pipe.
    let mut gone = child("stderr text info flood").stderr(Stdio::piped()).spawn().unwrap();
    drop(gone.stderr.take());
    assert!(gone.wait().unwrap().success());
    // Closed from the start.
    let shell = child("stderr text info flood");
    let status = Command::new("sh")
        .args(["-c", "exec \"$@\" 2>&-", "sh"])
        .arg(shell.get_program())
        .args(shell.get_args())
        .env("TEST_OBSERVE_CHILD", "stderr text info flood")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    // Stalled: 2 MB do not fit into the pipe, and nobody reads until the child has ended.
    let mut stalled = child("stderr text info flood").stderr(Stdio::piped()).spawn().unwrap();
    assert!(stalled.wait().unwrap().success());
}
