use std::collections::BTreeMap;
use std::sync::Mutex;

use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;
use crate::observe::Gauges;
use crate::turn::{Failure, Finish};

type Fields = BTreeMap<&'static str, String>;

/// Keeps the fields of every latency event of this thread.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<Fields>>>);

impl<S: tracing::Subscriber> Layer<S> for Captured {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        assert_eq!(event.metadata().target(), TARGET);
        assert_eq!(*event.metadata().level(), tracing::Level::INFO);
        let mut fields = Fields::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            fields.insert(field.name(), format!("{value:?}"));
        });
        self.0.lock().unwrap().push(fields);
    }
}

fn capture(run: impl FnOnce()) -> Vec<Fields> {
    let captured = Captured::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(captured.clone()), run);
    captured.0.lock().map(|mut events| std::mem::take(&mut *events)).unwrap()
}

fn info(stream: bool, n: u32) -> RequestInfo {
    RequestInfo {
        request_id: "req-1".into(),
        stream,
        api: "chat_completions",
        engine: "exec",
        model: "codex-local".into(),
        n,
    }
}

enum Step {
    Took(Phase, f64),
    See(Outcome),
    FirstSse,
    FirstContentSse,
    Finish(Status, Option<&'static str>, u16),
}
use Step::*;

fn see(event: Event) -> Step {
    See(Ok(event))
}

fn done(input: u64, output: u64) -> Step {
    let usage = Usage { input, cached_input: input / 2, output, ..Usage::default() };
    see(Event::Done { finish: Finish::Stop, usage: Some(usage) })
}

/// Plays rows of (milliseconds since the request was read, step); compares all lines written.
fn check(info: RequestInfo, rows: Vec<(f64, Step)>, expect: &[&str]) {
    let started = Instant::now();
    let after = |ms: f64| Duration::from_secs_f64(ms / 1e3);
    let events = capture(|| {
        let mut trace = Trace::start(info, Arc::new(Observer::new()), started);
        for (ms, step) in rows {
            let at = started + after(ms);
            match step {
                Took(phase, ms) => trace.phase(phase, after(ms)),
                See(item) => trace.see(&item, at),
                FirstSse => trace.first_sse(at),
                FirstContentSse => trace.first_content_sse(at),
                Finish(status, error_type, http_status) => {
                    trace.finish(status, error_type, http_status, at);
                }
            }
        }
    });
    let lines: Vec<_> = events.iter().map(|event| event["message"].as_str()).collect();
    let expect: Vec<_> = expect.iter().map(|json| format!("codex_api_proxy.latency {json}")).collect();
    assert_eq!(lines, expect);
    for json in lines.iter().map(|line| line.trim_start_matches("codex_api_proxy.latency ")) {
        serde_json::from_str::<serde_json::Value>(json).unwrap();
    }
}

#[test]
fn a_whole_answer() {
    check(
        info(false, 1),
        vec![
            (0.1, Took(Phase::CwdResolve, 0.1)),
            (0.3, Took(Phase::PromptBuild, 0.2)),
            (2.3, Took(Phase::QueueWait, 2.0)),
            (9.0, see(Event::Phase(Phase::CodexProcessSpawn, Duration::from_micros(1234)))),
            (50.0, see(Event::Text("never logged".into()))),
            (52.0, see(Event::Phase(Phase::CodexExec, Duration::from_micros(49_700)))),
            (52.0, done(10, 5)),
            (52.5, Finish(Status::Ok, None, 200)),
        ],
        &[
            r#"{"event":"chat_completion_latency","request_id":"req-1","status":"ok","error_type":null,"http_status":200,"stream":false,"caller":null,"model":"codex-local","api":"chat_completions","engine":"exec","n":1,"phases_ms":{"cwd_resolve":0.10,"prompt_build":0.20,"queue_wait":2.00,"codex_exec":49.70,"codex_process_spawn":1.23,"total":52.50},"proxy_overhead_ms":0.80,"prompt_tokens":10,"cached_tokens":5,"completion_tokens":5}"#,
        ],
    );
}

#[test]
fn a_stream_and_its_marks_once_each() {
    check(
        RequestInfo { engine: "app-server", ..info(true, 1) },
        vec![
            (0.0, Took(Phase::QueueWait, 0.004)),
            (15.0, FirstSse),
            (16.0, FirstSse),
            (20.0, FirstContentSse),
            (21.0, FirstContentSse),
            (30.0, see(Event::Phase(Phase::AppServerExec, Duration::from_millis(29)))),
            (31.006, Finish(Status::Ok, None, 200)),
            (99.0, Finish(Status::Error, Some("late"), 500)),
        ],
        &[
            r#"{"event":"chat_completion_first_sse","request_id":"req-1","stream":true,"model":"codex-local","api":"chat_completions","engine":"app-server","time_to_first_sse_ms":15.00}"#,
            r#"{"event":"chat_completion_first_content_sse","request_id":"req-1","stream":true,"model":"codex-local","api":"chat_completions","engine":"app-server","time_to_first_content_sse_ms":20.00}"#,
            r#"{"event":"chat_completion_latency","request_id":"req-1","status":"ok","error_type":null,"http_status":200,"stream":true,"caller":null,"model":"codex-local","api":"chat_completions","engine":"app-server","n":1,"phases_ms":{"queue_wait":0.00,"app_server_exec":29.00,"total":31.01},"time_to_first_sse_ms":15.00,"time_to_first_content_sse_ms":20.00,"proxy_overhead_ms":2.00}"#,
        ],
    );
}

#[test]
fn several_turns_add_up_and_the_overhead_is_never_negative() {
    let exec = |ms| see(Event::Phase(Phase::CodexExec, Duration::from_millis(ms)));
    check(
        info(false, 2),
        vec![
            (60.0, exec(60)),
            (60.0, done(10, 1)),
            (70.0, exec(70)),
            (70.0, done(10, 2)),
            (71.0, Finish(Status::Ok, None, 200)),
        ],
        &[
            r#"{"event":"chat_completion_latency","request_id":"req-1","status":"ok","error_type":null,"http_status":200,"stream":false,"caller":null,"model":"codex-local","api":"chat_completions","engine":"exec","n":2,"phases_ms":{"codex_exec":130.00,"total":71.00},"proxy_overhead_ms":0.00,"prompt_tokens":20,"cached_tokens":10,"completion_tokens":3}"#,
        ],
    );
}

#[test]
fn refusals_and_failures() {
    let line = |model: &str, error: &str, rest: &str| {
        format!(
            r#"{{"event":"chat_completion_latency","request_id":"req-1","status":"error","error_type":"{error}",{rest},"stream":false,"caller":null,"model":{model},"api":"chat_completions","engine":"exec","n":1,"phases_ms":{{"total":0.05}}}}"#
        )
    };
    // Refused before the body told a model.
    check(
        RequestInfo { model: String::new(), ..info(false, 1) },
        vec![(0.05, Finish(Status::Error, Some("authentication_error"), 401))],
        &[&line("null", "authentication_error", r#""http_status":401"#)],
    );
    // Anything may stand in a model that is refused: no line break, no kilobytes.
    check(
        RequestInfo { model: format!("\"a\n{}", "ü".repeat(1 << 20)), ..info(false, 1) },
        vec![
            (0.0, See(Err(Failure::ContextLength))),
            (0.05, Finish(Status::Error, Some("invalid_request_error"), 400)),
        ],
        &[&line(
            &format!(r#""\"a\n{}""#, "ü".repeat(MODEL_CHARS - 3)),
            "invalid_request_error",
            r#""http_status":400"#,
        )],
    );
}

#[test]
fn who_asked_and_what_nobody_told_are_in_the_line() {
    let events = capture(|| {
        let mut trace = Trace::start(info(false, 3), Arc::new(Observer::new()), Instant::now());
        trace.called_by("al\"ice".into());
        trace.cost_unknown();
        trace.cost_unknown();
        trace.finish(Status::Ok, None, 200, trace.started);
    });
    let (caller, unknown) = (&events[0]["caller"], &events[0]["tokens_unknown"]);
    assert_eq!((caller.as_str(), unknown.as_str()), ("\"al\\\"ice\"", "2"));
    let line = &events[0]["message"];
    assert!(line.contains(r#","caller":"al\"ice","#) && line.ends_with(r#","tokens_unknown":2}"#), "{line}");
}

#[test]
fn dropped_unfinished_it_is_cancelled_once() {
    let observer = Arc::new(Observer::new());
    let events = capture(|| {
        let mut trace = Trace::start(info(true, 1), Arc::clone(&observer), Instant::now());
        trace.decoded(false, "gpt-5", 3);
        assert_eq!(observer.json(&Gauges::default())["requests_in_flight"], 1);
    });
    let [event] = &events[..] else { panic!("{events:?}") };
    let expect = [
        ("status", "\"cancelled\""),
        ("error_type", "\"client_closed_request\""),
        ("http_status", "499"),
        ("stream", "false"),
        ("model", "\"gpt-5\""),
        ("n", "3"),
    ];
    for (field, value) in expect {
        assert_eq!(event[field], value, "{field}");
    }
    let json = observer.json(&Gauges::default());
    assert_eq!((&json["requests_in_flight"], &json["errors_by_status"]["499"]), (&0.into(), &1.into()));
}

#[test]
fn dropped_by_a_panic_it_is_an_error_of_ours() {
    let observer = Arc::new(Observer::new());
    let trace = Trace::start(info(false, 1), Arc::clone(&observer), Instant::now());
    let thread = std::thread::spawn(move || {
        let _trace = trace;
        // Not `panic!`: the hook would print a scare into the test's output.
        std::panic::resume_unwind(Box::new("defect"));
    });
    assert!(thread.join().is_err());
    assert_eq!(observer.json(&Gauges::default())["errors_by_status"]["500"], 1);
}

#[test]
fn every_phase_has_a_field_in_the_journal() {
    let events = capture(|| {
        let mut trace = Trace::start(info(false, 1), Arc::new(Observer::new()), Instant::now());
        for phase in Phase::ALL {
            trace.phase(*phase, Duration::from_micros(1500));
        }
        trace.finish(Status::Ok, None, 200, trace.started + Duration::from_micros(1500));
    });
    for phase in Phase::ALL {
        let field = format!("{}_ms", phase.name().trim_start_matches("codex_"));
        assert_eq!(events[0].get(field.as_str()).map(String::as_str), Some("1.5"), "{field}");
    }
    assert!(!events[0].contains_key("error_type") && !events[0].contains_key("time_to_first_sse_ms"));
}
