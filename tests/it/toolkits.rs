//! Libraries and programs above the makers' own clients, started by `connect` with the settings that users
//! are shown, against the real program and the real Codex CLI.
//!
//! The scripts in `tests/sdk` do the asserting; here stands what the model says to each, and what of it
//! was bought.

use std::fs;

use serde_json::json;

use crate::support::programs::{KEY, asked, client, connect, on_path, python, run, script, served};
use crate::support::proxy::Scratch;
use crate::support::{Ended, Reply, Upstream, wait};

const OSLO: &str = r#"{"city": "Oslo", "wet": true}"#;

/// A loop of two calls at once and a question more; ten calls, one after another; each kind of failure; and
/// an answer that never ends.
fn lessons(upstream: &Upstream, loops: &[&str], tens: &[&str]) {
    let weather = |city: &str| json!({ "city": city }).to_string();
    for marker in loops {
        let calls = Reply::nothing().then_reasoning(&["Two cities."]);
        let calls = calls.then_call("weather", &weather("Oslo")).then_call("weather", &weather("Rome"));
        upstream.when(marker, [calls, Reply::text("Rain in both."), Reply::text("Quite.")]);
    }
    for marker in tens {
        let calls = (0..10).map(|step| Reply::call("weather", &weather(&format!("city {step}"))));
        upstream.when(marker, calls.chain([Reply::text("All of them.")]));
    }
    let absent = json!({ "message": "The model does not exist", "code": "model_not_found" });
    upstream.when("mark-no-model", [Reply::status(404, absent)]);
    let quota = json!({ "type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": "plus", "resets_in_seconds": 3600 });
    upstream.when("mark-quota", [Reply::status(429, quota)]);
    upstream.when("mark-broken", [Reply::failed("server_error", "broken")]);
    upstream.when("mark-left", [Reply::nothing().then_partial(&["one ", "two "]).then_hang()]);
}

/// That each of them was bought once, whatever the library's habit is.
fn once(upstream: &Upstream, markers: impl IntoIterator<Item = String>) {
    for marker in markers {
        assert_eq!(asked(upstream, &marker).len(), 1, "{marker}");
    }
}

/// Each kind of failure, in each format, whole and streamed.
fn failures(formats: &[&str]) -> Vec<String> {
    let each = |kind| {
        formats
            .iter()
            .flat_map(move |format| ["whole", "streamed"].map(|how| format!("mark-{kind}-{format}-{how}")))
    };
    ["no-model", "quota", "broken"].into_iter().flat_map(each).collect()
}

/// That each loop was told all that the functions said, in turns of that number.
fn looped(upstream: &Upstream, markers: &[&str], turns: usize) {
    for marker in markers {
        let requests = asked(upstream, marker);
        assert_eq!(requests.len(), turns, "{marker}");
        assert_eq!(requests[1].tool_outputs(), ["rain in Oslo", "rain in Rome"], "{marker}");
    }
}

fn ten(upstream: &Upstream, markers: &[&str]) {
    for marker in markers {
        let requests = asked(upstream, marker);
        let told: Vec<_> = (0..10).map(|step| format!("rain in city {step}")).collect();
        assert_eq!((requests.len(), requests[10].tool_outputs()), (11, told), "{marker}");
    }
}

/// That those who left left their turns too.
fn left(upstream: &Upstream, markers: &[&str]) {
    for marker in markers {
        wait::until("the turn that was left is given up", || {
            let requests = asked(upstream, marker);
            requests.len() == 1 && requests[0].ended.is_some_and(|(ended, _)| ended == Ended::ClientClosed)
        });
    }
}

#[test]
fn litellm_runs_tool_loops_in_both_formats() {
    let Some(python) = python("libraries-python", "litellm") else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let loops = ["mark-chat-whole", "mark-chat-streamed", "mark-anthropic-whole", "mark-anthropic-streamed"];
    let tens = ["mark-ten-chat", "mark-ten-anthropic"];
    lessons(&upstream, &loops, &tens);
    upstream.when("mark-structured", [Reply::text(OSLO)]);
    let mut script = script(&["litellm", "anthropic-python"], &python, "with_litellm.py", &proxy, &scratch);
    // Otherwise it looks for its prices on the network first.
    script.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    run(script, &scratch);
    looped(&upstream, &loops, 3);
    ten(&upstream, &tens);
    once(&upstream, failures(&["chat", "anthropic"]));
    once(&upstream, ["mark-structured-chat", "mark-structured-anthropic"].map(Into::into));
    left(&upstream, &["mark-left-chat", "mark-left-anthropic"]);
}

#[test]
fn instructor_gets_objects_in_each_mode() {
    let Some(python) = python("libraries-python", "instructor") else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    lessons(&upstream, &[], &[]);
    let (rome, wrong) = (r#"{"city": "Rome", "wet": false}"#, r#"{"city": "Atlantis", "wet": true}"#);
    let call = |text: &str| Reply::call("Report", text);
    upstream.when("mark-both", [call(OSLO).then_call("Report", rome)]);
    let called = ["tools", "responses_tools", "anthropic_tools"];
    // The longer of two names with one beginning comes first.
    let written = ["json_schema", "json", "md_json", "anthropic_json"];
    for mode in called {
        upstream.when(&format!("mark-again-{mode}\""), [call(wrong), call(OSLO)]);
        upstream.when(&format!("mark-whole-{mode}\""), [call(OSLO)]);
        upstream.when(&format!("mark-streamed-{mode}\""), [Reply::call("PartialReport", OSLO)]);
    }
    for mode in written {
        let text = |text: &str| match mode {
            "md_json" => Reply::text(format!("```json\n{text}\n```")),
            _ => Reply::text(text),
        };
        upstream.when(&format!("mark-again-{mode}"), [text(wrong), text(OSLO)]);
        for how in ["whole", "streamed"] {
            upstream.when(&format!("mark-{how}-{mode}"), [text(OSLO)]);
        }
    }
    let names = ["openai-python", "anthropic-python"];
    run(script(&names, &python, "with_instructor.py", &proxy, &scratch), &scratch);
    for (kind, times) in [("whole", 1), ("streamed", 1), ("again", 2), ("quota", 1), ("broken", 1)] {
        let requests = asked(&upstream, &format!("mark-{kind}"));
        assert_eq!(requests.len(), times * (called.len() + written.len()), "{kind}");
    }
    once(&upstream, ["mark-both-parallel_tools".into()]);
}

#[test]
fn llm_runs_tool_loops_in_both_formats() {
    let Some(python) = python("libraries-python", "llm, llm_anthropic") else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let loops = ["mark-chat-whole", "mark-chat-streamed", "mark-anthropic-whole", "mark-anthropic-streamed"];
    let tens = ["mark-ten-chat", "mark-ten-anthropic"];
    lessons(&upstream, &loops, &tens);
    upstream.when("mark-structured", [Reply::text(OSLO)]);
    // As its text has it: the key by its command, the model into its file.
    let shown = connect(&proxy, &scratch, &["llm"]).env("CODEX_PROXY_API_KEY", KEY).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let file = &shown[shown.find("- model_id").unwrap()..];
    scratch.write("user/llm/extra-openai-models.yaml", file);
    let mut keys = client(&python, &scratch);
    keys.args(["-m", "llm", "keys", "set", "codex-local", "--value", KEY]);
    keys.env("LLM_USER_PATH", scratch.path().join("user/llm"));
    run(keys, &scratch);
    let mut script = script(&["anthropic-python"], &python, "with_llm.py", &proxy, &scratch);
    script.arg("anthropic/claude-opus-4-8").env("LLM_USER_PATH", scratch.path().join("user/llm"));
    run(script, &scratch);
    looped(&upstream, &loops, 2);
    ten(&upstream, &tens);
    once(&upstream, failures(&["chat", "anthropic"]));
    once(&upstream, ["mark-structured-chat".into()]);
    left(&upstream, &["mark-left-chat", "mark-left-anthropic"]);
}

#[test]
fn aider_edits_a_file() {
    let Some(python) = python("aider", "aider") else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let file = scratch.write("project/greeting.txt", "Hello, world.\n");
    let edit =
        "greeting.txt\n```\n<<<<<<< SEARCH\nHello, world.\n=======\nHello, Oslo.\n>>>>>>> REPLACE\n```\n";
    upstream.when("mark-whole", [Reply::text(edit)]);
    upstream.when("mark-streamed", [Reply::text(edit)]);
    lessons(&upstream, &[], &[]);
    on_path(&scratch, "aider", &format!("'{}' -m aider", python.display()));
    for (marker, stream) in
        [("mark-whole", "--no-stream"), ("mark-streamed", "--stream"), ("mark-no-model", "--stream")]
    {
        fs::write(&file, "Hello, world.\n").unwrap();
        let message = format!("{marker}: greet Oslo");
        let mut aider =
            connect(&proxy, &scratch, &["aider", "--", "--message", &message, "greeting.txt", stream]);
        aider.args([
            "--yes-always",
            "--no-git",
            "--no-check-update",
            "--analytics-disable",
            "--edit-format",
            "diff",
        ]);
        aider.env("CODEX_PROXY_API_KEY", KEY);
        // Otherwise they are written where the repository begins that this folder lies in.
        for file in ["CHAT_HISTORY", "INPUT_HISTORY"] {
            aider.env(format!("AIDER_{file}_FILE"), scratch.path().join("user").join(file));
        }
        let printed = run(aider, &scratch);
        // It asks again by itself after each failure but those that no second try can mend.
        let fails = marker == "mark-no-model";
        assert_eq!(printed.contains("does not exist or this account may not use it"), fails, "{printed}");
        let greets = if fails { "Hello, world.\n" } else { "Hello, Oslo.\n" };
        assert_eq!(fs::read_to_string(&file).unwrap(), greets, "{marker}: {printed}");
    }
    once(&upstream, ["mark-whole", "mark-streamed", "mark-no-model"].map(Into::into));
}
