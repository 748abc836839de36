//! The threads of one worker: who listens to each, and which calls are open on it. No I/O.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::answer::Answer;
use super::worker::lock;

/// Threads by id.
#[derive(Debug, Default)]
pub struct Threads(HashMap<String, Thread>);

#[derive(Debug, Default)]
struct Thread {
    /// Nobody listens to a thread that is kept for later.
    answer: Option<Arc<Mutex<Answer>>>,
    /// Calls that Codex waits for.
    open: Vec<OpenCall>,
    /// Results of calls that Codex has not asked for yet: older ones ask for one after the other.
    results: HashMap<String, String>,
    /// Open calls that nobody has been told of.
    late: Vec<LateCall>,
    /// Something happened on it while it was kept.
    spoilt: bool,
}

/// A call that Codex waits for.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenCall {
    /// The model's name for it.
    pub call_id: String,
    /// The id of Codex's request, in JSON.
    pub request: String,
}

/// A call that came when nobody took notice.
#[derive(Debug, PartialEq, Eq)]
pub struct LateCall {
    /// The model's name for it.
    pub call_id: String,
    /// The function, by the name it went out with.
    pub tool: String,
    /// Its arguments, in JSON.
    pub arguments: String,
}

impl Threads {
    /// A new thread, and who listens to it.
    pub fn attach(&mut self, thread: &str, answer: Arc<Mutex<Answer>>) {
        self.0.insert(thread.to_owned(), Thread { answer: Some(answer), ..Thread::default() });
    }

    /// Forgets a thread. Gives the calls that Codex still waits for.
    pub fn detach(&mut self, thread: &str) -> Vec<OpenCall> {
        self.0.remove(thread).map(|thread| thread.open).unwrap_or_default()
    }

    /// Nothing can go on on a thread later. Gives the calls that Codex waits for, to be refused.
    pub fn spoil(&mut self, thread: &str) -> Vec<OpenCall> {
        let Some(thread) = self.0.get_mut(thread) else { return Vec::new() };
        let open = std::mem::take(&mut thread.open);
        thread.spoilt |= !open.is_empty();
        open
    }

    /// Keeps a thread: nobody listens to it until later.
    pub fn park(&mut self, thread: &str) {
        if let Some(thread) = self.0.get_mut(thread) {
            thread.answer = None;
        }
    }

    /// Somebody listens again. False if nothing can go on there any more.
    pub fn resume(&mut self, thread: &str, answer: Arc<Mutex<Answer>>) -> bool {
        let kept = self.0.get_mut(thread).filter(|thread| !thread.spoilt && thread.answer.is_none());
        kept.map(|thread| thread.answer = Some(answer)).is_some()
    }

    /// The calls of a thread that nobody has been told of; from now on somebody is.
    pub fn late(&mut self, thread: &str) -> Vec<LateCall> {
        self.0.get_mut(thread).map(|thread| std::mem::take(&mut thread.late)).unwrap_or_default()
    }

    /// Who listens to a thread. One that is kept is spoilt by what `spoils`.
    pub fn listener(&mut self, thread: &str, spoils: bool) -> Option<Arc<Mutex<Answer>>> {
        let thread = self.0.get_mut(thread)?;
        thread.spoilt |= spoils && thread.answer.is_none();
        thread.answer.clone()
    }

    /// Codex waits for a call. Gives its result if that is there; else whoever listens is told of
    /// the call, now if they take it, or later.
    ///
    /// # Errors
    /// The call, of a thread that nobody knows.
    pub fn called(
        &mut self,
        thread: &str,
        call: OpenCall,
        tool: &str,
        arguments: &str,
    ) -> Result<Option<(OpenCall, String)>, OpenCall> {
        let Some(thread) = self.0.get_mut(thread) else { return Err(call) };
        if let Some(result) = thread.results.remove(&call.call_id) {
            return Ok(Some((call, result)));
        }
        let told =
            thread.answer.as_ref().map(|answer| lock(answer).asked_for(&call.call_id, tool, arguments));
        if told != Some(true) {
            let (tool, arguments) = (tool.to_owned(), arguments.to_owned());
            thread.late.push(LateCall { call_id: call.call_id.clone(), tool, arguments });
        }
        thread.open.push(call);
        Ok(None)
    }

    /// The result of a call. Gives both back if Codex waits for it already.
    pub fn supply(&mut self, thread: &str, call_id: &str, result: String) -> Option<(OpenCall, String)> {
        let thread = self.0.get_mut(thread)?;
        match thread.open.iter().position(|call| call.call_id == call_id) {
            Some(index) => Some((thread.open.remove(index), result)),
            None => {
                thread.results.insert(call_id.to_owned(), result);
                None
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
