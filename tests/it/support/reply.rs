//! What a test can have the upstream answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::next_number;

/// What the upstream does with one request: steps in order, then the end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Header lines of its own.
    pub(super) headers: String,
    pub(super) steps: Vec<Step>,
    pub(super) pace: Duration,
    usage: [u64; 4],
    pub(super) end: End,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Message {
        deltas: Vec<String>,
        phase: Option<&'static str>,
    },
    /// A message that is announced and streamed but never finished.
    Partial {
        deltas: Vec<String>,
    },
    Reasoning {
        summary: Vec<String>,
    },
    Call {
        call_id: String,
        name: String,
        arguments: String,
    },
    CustomCall {
        call_id: String,
        name: String,
        input: String,
    },
    Raw(Value),
    Wait(Duration),
    Hang,
}

#[derive(Clone, Debug)]
pub(super) enum End {
    Completed,
    Incomplete(String),
    Failed(Value),
    /// An HTTP status in place of a stream.
    Status {
        code: u16,
        body: String,
    },
    /// The socket is shut in the middle of a chunk.
    Cut,
    /// The stream is properly closed, but without `response.completed`.
    Silence,
}

impl Reply {
    fn of(steps: Vec<Step>, end: End) -> Reply {
        Reply { headers: String::new(), steps, pace: Duration::ZERO, usage: [11, 3, 7, 2], end }
    }

    /// A whole answer in one delta.
    pub fn text(text: impl Into<String>) -> Reply {
        Reply::of(vec![], End::Completed).then_text(&[text.into()])
    }

    /// An answer in several deltas.
    pub fn deltas<S: Into<String> + Clone>(deltas: &[S]) -> Reply {
        Reply::of(vec![], End::Completed).then_text(deltas)
    }

    /// Completes with nothing in it.
    pub fn nothing() -> Reply {
        Reply::of(vec![], End::Completed)
    }

    /// A function call of the model.
    pub fn call(name: &str, arguments: &str) -> Reply {
        Reply::nothing().then_call(name, arguments)
    }

    /// An error status with this `error` object.
    pub fn status(code: u16, error: Value) -> Reply {
        Reply::status_body(code, json!({ "error": error }).to_string())
    }

    /// An error status with any body.
    pub fn status_body(code: u16, body: impl Into<String>) -> Reply {
        Reply::of(vec![], End::Status { code, body: body.into() })
    }

    /// `response.failed` with this error.
    pub fn failed(code: &str, message: &str) -> Reply {
        Reply::of(vec![], End::Failed(json!({ "code": code, "message": message })))
    }

    /// No byte of an answer until [`Upstream::release`].
    pub fn hang() -> Reply {
        Reply::of(vec![Step::Hang], End::Completed)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Then one more message, in these deltas.
    pub fn then_text<S: Into<String> + Clone>(mut self, deltas: &[S]) -> Reply {
        let deltas = deltas.iter().cloned().map(Into::into).collect();
        self.steps.push(Step::Message { deltas, phase: None });
        self
    }

    /// Then a message of that phase (`commentary`, `final_answer`).
    pub fn then_phase(mut self, phase: &'static str, text: &str) -> Reply {
        self.steps.push(Step::Message { deltas: vec![text.into()], phase: Some(phase) });
        self
    }

    /// Then the beginning of a message that never ends.
    pub fn then_partial<S: Into<String> + Clone>(mut self, deltas: &[S]) -> Reply {
        let deltas = deltas.iter().cloned().map(Into::into).collect();
        self.steps.push(Step::Partial { deltas });
        self
    }

    /// Then a reasoning summary of these parts.
    pub fn then_reasoning(mut self, summary: &[&str]) -> Reply {
        self.steps.push(Step::Reasoning { summary: summary.iter().map(|&part| part.into()).collect() });
        self
    }

    /// Then a function call.
    pub fn then_call(mut self, name: &str, arguments: &str) -> Reply {
        let call_id = format!("call_{}", next_number());
        self.steps.push(Step::Call { call_id, name: name.into(), arguments: arguments.into() });
        self
    }

    /// Then a call of a free-form tool, such as the JavaScript `exec` of newer models.
    pub fn then_custom_call(mut self, name: &str, input: &str) -> Reply {
        let call_id = format!("call_{}", next_number());
        self.steps.push(Step::CustomCall { call_id, name: name.into(), input: input.into() });
        self
    }

    /// Then any event, as it is.
    pub fn then_event(mut self, event: Value) -> Reply {
        self.steps.push(Step::Raw(event));
        self
    }

    /// Then a pause.
    pub fn then_wait(mut self, pause: Duration) -> Reply {
        self.steps.push(Step::Wait(pause));
        self
    }

    /// Then nothing until [`Upstream::release`] or the client leaves.
    pub fn then_hang(mut self) -> Reply {
        self.steps.push(Step::Hang);
        self
    }

    /// Then the socket is cut.
    pub fn then_cut(mut self) -> Reply {
        self.end = End::Cut;
        self
    }

    /// Then the stream closes without its closing event.
    pub fn then_silence(mut self) -> Reply {
        self.end = End::Silence;
        self
    }

    /// Then `response.failed`.
    pub fn then_failed(mut self, code: &str, message: &str) -> Reply {
        self.end = End::Failed(json!({ "code": code, "message": message }));
        self
    }

    /// Then `response.incomplete` for this reason (`max_output_tokens`, `content_filter`).
    pub fn then_incomplete(mut self, reason: &str) -> Reply {
        self.end = End::Incomplete(reason.into());
        self
    }

    /// Pauses this long before each delta.
    pub fn pace(mut self, pause: Duration) -> Reply {
        self.pace = pause;
        self
    }

    /// The token counts: input, of that cached, output, of that reasoning.
    pub fn usage(mut self, input: u64, cached: u64, output: u64, reasoning: u64) -> Reply {
        self.usage = [input, cached, output, reasoning];
        self
    }

    pub(super) fn usage_json(&self) -> Value {
        let [input, cached, output, reasoning] = self.usage;
        json!({
            "input_tokens": input, "input_tokens_details": { "cached_tokens": cached },
            "output_tokens": output, "output_tokens_details": { "reasoning_tokens": reasoning },
            "total_tokens": input + output,
        })
    }
}
