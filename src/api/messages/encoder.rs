//! What is written when: the events of a stream, or a whole message.

use bytes::Bytes;

use crate::api::dialect::{Encoder, Frames, Heading, Piece, WholeAnswer};
use crate::api::error::ErrorReply;
use crate::turn::{At, Failure, Finish, Usage};

use super::blocks::{Blocks, Step};
use super::content::Origin;
use super::failure;
use super::reply::{self, Content, Reply};
use super::request::{MessagesRequest, Shown};

/// The reply to one request.
pub(super) struct MessagesEncoder {
    reply: Reply,
    shown: Shown,
    origins: Vec<Origin>,
    tool_origins: Vec<usize>,
    /// The field that has the answer's form.
    format: &'static str,
    blocks: Blocks,
    /// The number of the block under way, or of the next.
    index: usize,
}

impl MessagesEncoder {
    pub(super) fn new(asked: &MessagesRequest, heading: Heading) -> MessagesEncoder {
        MessagesEncoder {
            reply: Reply { heading, model: asked.request.model.clone() },
            shown: asked.shown,
            origins: asked.origins.clone(),
            tool_origins: asked.tool_origins.clone(),
            format: asked.format,
            blocks: Blocks::new(asked.shown),
            index: 0,
        }
    }
}

impl Encoder for MessagesEncoder {
    fn open(&mut self, out: &mut Frames) {
        self.reply.start(out);
        reply::ping(out);
    }

    fn piece(&mut self, _: usize, piece: Piece, out: &mut Frames) {
        let index = &mut self.index;
        self.blocks.take(&piece, &mut |step| {
            let over = step == Step::Stop;
            reply::step(*index, step, out);
            *index += usize::from(over);
        });
    }

    fn close(&mut self, usage: Option<Usage>, out: &mut Frames) {
        let finish = self.blocks.finish.unwrap_or(Finish::Stop);
        reply::end(finish, self.blocks.stop_sequence.as_deref(), usage, out);
    }

    fn fail(&mut self, reply: &ErrorReply, out: &mut Frames) {
        let envelope = failure::envelope(reply, &self.reply.heading.request_id);
        out.push([b"event: error\ndata: ", &envelope[..], b"\n\n"].concat().into());
    }

    fn keep_alive(&mut self, out: &mut Frames) {
        reply::ping(out);
    }

    fn whole(&mut self, answers: Vec<WholeAnswer>, usage: Option<Usage>) -> Result<Bytes, Failure> {
        let mut blocks = Blocks::new(self.shown);
        let mut content = Content::default();
        for piece in answers.iter().flatten() {
            blocks.take(piece, &mut |step| content.add(step));
        }
        self.reply.whole(content, blocks.finish, blocks.stop_sequence.as_deref(), usage)
    }

    fn path(&self, at: &At) -> String {
        match at {
            At::Field(path) => path.clone(),
            At::Model => "model".into(),
            At::Conversation => "messages".into(),
            At::Item(item) => match self.origins.get(*item) {
                Some(origin) => origin.to_string(),
                None => "messages".into(),
            },
            At::Tools => "tools".into(),
            At::Tool(tool) => {
                format!("tools[{}].input_schema", self.tool_origins.get(*tool).unwrap_or(tool))
            }
            At::Schema => format!("{}.schema", self.format),
            At::Workdir => "metadata.cwd".into(),
        }
    }
}

#[cfg(test)]
mod tests;
