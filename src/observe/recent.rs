//! The requests that were finished last.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::turn::Usage;

use super::Status;

/// How many are kept.
const KEPT: usize = 20;

/// A finished request.
#[derive(Clone, Debug, PartialEq)]
pub struct Recent {
    /// When, in Unix seconds.
    pub at: f64,
    /// What the caller is called, if anybody knows.
    pub caller: Option<Arc<str>>,
    /// The model as the client sent it; empty if it did not get that far.
    pub model: String,
    /// How it ended.
    pub status: Status,
    /// The status sent, or that the failure would have had.
    pub http_status: u16,
    /// Which failure.
    pub error_type: Option<String>,
    /// Whether it was to be streamed.
    pub stream: bool,
    /// To the first of the answer, in milliseconds.
    pub first_content_ms: Option<f64>,
    /// To its end.
    pub total_ms: f64,
    /// What it cost, if told.
    pub usage: Option<Usage>,
    /// The `x-request-id` of its answer.
    pub request_id: String,
}

/// The last of them, the newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Last(VecDeque<Recent>);

impl Last {
    pub(super) fn add(&mut self, request: Recent) {
        self.0.truncate(KEPT - 1);
        self.0.push_front(request);
    }

    pub(super) fn all(&self) -> Vec<Recent> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_are_kept_the_newest_first() {
        let mut last = Last::default();
        let request = |number: usize| Recent {
            at: 0.0,
            caller: None,
            model: String::new(),
            status: Status::Ok,
            http_status: 200,
            error_type: None,
            stream: false,
            first_content_ms: None,
            total_ms: 1.0,
            usage: None,
            request_id: number.to_string(),
        };
        (0..KEPT).for_each(|number| last.add(request(number)));
        assert_eq!(last.all().len(), KEPT);
        assert_eq!(last.all().pop().unwrap().request_id, "0");
        last.add(request(KEPT));
        let all = last.all();
        assert_eq!(
            (all.len(), all[0].request_id.as_str(), all[KEPT - 1].request_id.as_str()),
            (KEPT, "20", "1")
        );
    }
}
