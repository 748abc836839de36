//! The answering side of one connection: a [`Reply`] as server-sent events of the Responses API.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::reply::{End, Reply, Step};
use super::{Shared, next_number, tools_of};

/// The answering side of a connection.
pub(super) struct Wire<'a> {
    pub(super) stream: TcpStream,
    pub(super) shared: &'a Shared,
    /// Which of the recorded requests this is.
    pub(super) index: usize,
    pub(super) streaming: bool,
    /// Header lines of the reply's own.
    pub(super) headers: String,
}

impl Wire<'_> {
    pub(super) fn status(&mut self, code: u16, body: &str) -> io::Result<()> {
        let more = &self.headers;
        write!(
            self.stream,
            "HTTP/1.1 {code} Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n{body}",
            body.len()
        )
    }

    fn event(&mut self, event: &Value) -> io::Result<()> {
        let kind = event["type"].as_str().unwrap_or_default();
        let frame = format!("event: {kind}\ndata: {event}\n\n");
        let head = if self.streaming {
            String::new()
        } else {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n{}\r\n",
                self.headers
            )
        };
        self.streaming = true;
        // One write per event: what Codex reads at once is what was scripted as one delta.
        self.stream.write_all(format!("{head}{:x}\r\n{frame}\r\n", frame.len()).as_bytes())
    }

    /// Passes the time, but notices at once when the client has gone.
    fn idle_until(&mut self, done: impl Fn() -> bool) -> io::Result<()> {
        self.stream.set_read_timeout(Some(Duration::from_millis(2)))?;
        while !done() {
            match self.stream.peek(&mut [0]) {
                Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Ok(_) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&mut self, pause: Duration) -> io::Result<()> {
        if pause.is_zero() {
            return Ok(());
        }
        let (start, shared) = (Instant::now(), self.shared);
        self.idle_until(|| start.elapsed() >= pause || shared.stopped.load(Ordering::SeqCst))
    }

    pub(super) fn play(&mut self, reply: &Reply, body: &Value) -> io::Result<()> {
        let id = format!("resp_{}", next_number());
        let mut output = vec![];
        let created = json!({ "type": "response.created", "response": { "id": id, "status": "in_progress", "output": [] } });
        for step in &reply.steps {
            // A reply that begins by hanging sends not even its head.
            if !self.streaming && !matches!(step, Step::Hang | Step::Wait(_)) {
                self.event(&created)?;
            }
            self.step(step, reply, body, &mut output)?;
        }
        if let End::Status { code, body } = &reply.end {
            return self.status(*code, body);
        }
        if !self.streaming {
            self.event(&created)?;
        }
        let response = |status: &str, extra: Value| {
            let mut response =
                json!({ "id": id, "status": status, "output": output, "usage": reply.usage_json() });
            if let (Some(response), Some(extra)) = (response.as_object_mut(), extra.as_object()) {
                response.extend(extra.clone());
            }
            json!({ "type": format!("response.{status}"), "response": response })
        };
        match &reply.end {
            End::Completed => self.event(&response("completed", json!({})))?,
            End::Incomplete(reason) => {
                self.event(&response("incomplete", json!({ "incomplete_details": { "reason": reason } })))?;
            }
            End::Failed(error) => self.event(&response("failed", json!({ "error": error })))?,
            End::Cut => {
                // The head of a chunk without its body: a broken transfer in any reading of HTTP.
                self.stream.write_all(b"ff\r\nevent: resp")?;
                return self.stream.shutdown(std::net::Shutdown::Both);
            }
            End::Silence | End::Status { .. } => {}
        }
        self.stream.write_all(b"0\r\n\r\n")
    }

    fn step(&mut self, step: &Step, reply: &Reply, body: &Value, output: &mut Vec<Value>) -> io::Result<()> {
        let (shared, index) = (self.shared, output.len());
        let item = match step {
            Step::Wait(pause) => return self.wait(*pause),
            Step::Hang => return self.idle_until(|| shared.released.load(Ordering::SeqCst)),
            Step::Raw(event) => return self.event(event),
            Step::Message { deltas, phase } => {
                let text = deltas.concat();
                let item = self.message(index, deltas, *phase, reply.pace)?;
                with(
                    item,
                    json!({ "status": "completed", "content": [{ "type": "output_text", "text": text, "annotations": [] }] }),
                )
            }
            Step::Partial { deltas } => {
                self.message(index, deltas, None, reply.pace)?;
                return Ok(());
            }
            Step::Reasoning { summary } => {
                let id = format!("rs_{}", next_number());
                let item = json!({ "type": "reasoning", "id": id, "summary": [] });
                self.event(
                    &json!({ "type": "response.output_item.added", "output_index": index, "item": item }),
                )?;
                for (part, text) in summary.iter().enumerate() {
                    self.event(&json!({ "type": "response.reasoning_summary_part.added", "item_id": id, "output_index": index, "summary_index": part, "part": { "type": "summary_text", "text": "" } }))?;
                    self.wait(reply.pace)?;
                    self.event(&json!({ "type": "response.reasoning_summary_text.delta", "item_id": id, "output_index": index, "summary_index": part, "delta": text }))?;
                }
                let parts: Vec<Value> =
                    summary.iter().map(|text| json!({ "type": "summary_text", "text": text })).collect();
                with(item, json!({ "summary": parts }))
            }
            Step::Call { call_id, name, arguments } => {
                let mut item = json!({ "type": "function_call", "id": format!("fc_{}", next_number()), "call_id": call_id, "name": name, "arguments": "" });
                if let Some((Some(space), _)) =
                    tools_of(body).into_iter().find(|(_, offered)| offered == name)
                {
                    item = with(item, json!({ "namespace": space }));
                }
                self.event(
                    &json!({ "type": "response.output_item.added", "output_index": index, "item": item }),
                )?;
                with(item, json!({ "status": "completed", "arguments": arguments }))
            }
            Step::CustomCall { call_id, name, input } => {
                let item = json!({ "type": "custom_tool_call", "id": format!("ctc_{}", next_number()), "call_id": call_id, "name": name, "input": "" });
                self.event(
                    &json!({ "type": "response.output_item.added", "output_index": index, "item": item }),
                )?;
                with(item, json!({ "status": "completed", "input": input }))
            }
        };
        self.event(&json!({ "type": "response.output_item.done", "output_index": index, "item": item }))?;
        output.push(item);
        Ok(())
    }

    fn message(
        &mut self,
        index: usize,
        deltas: &[String],
        phase: Option<&str>,
        pace: Duration,
    ) -> io::Result<Value> {
        let id = format!("msg_{}", next_number());
        let mut item = json!({ "type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": [] });
        if let Some(phase) = phase {
            item = with(item, json!({ "phase": phase }));
        }
        self.event(&json!({ "type": "response.output_item.added", "output_index": index, "item": item }))?;
        for delta in deltas {
            self.wait(pace)?;
            self.event(&json!({ "type": "response.output_text.delta", "item_id": id, "output_index": index, "content_index": 0, "delta": delta }))?;
            self.shared.state().requests[self.index].deltas += 1;
        }
        Ok(item)
    }
}

fn with(mut item: Value, more: Value) -> Value {
    if let (Some(item), Some(more)) = (item.as_object_mut(), more.as_object()) {
        item.extend(more.clone());
    }
    item
}
