//! The default engine: one `codex exec --json` process per turn.
//!
//! ```text
//! run -> installation ready -> files, argv -> spawn -> prompt to stdin -> lines to events -> reaped
//!                                               \____ client gone, time-out: group ended ____/
//! ```
//!
//! The slot is held until the process is reaped, on every way out.

mod answer;
mod files;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::ZonedDateTime;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::codex::rollout::{Rollout, Session};
use crate::codex::{Codex, Continuation, Installation, args, folders, surroundings};
use crate::config::{Config, Live};
use crate::engine::app_server::ask_plan;
use crate::engine::not_started;
use crate::engine::plan::Plan;
use crate::process::{Child, Lines, lines};
use crate::turn::pace::apart;
use crate::turn::{
    At, CallKind, Event, Events, Failure, Gone, Identity, Item, Outcome, Output, Part, Phase, Sink, Slot,
    ToolKind, Turn, events, prompt,
};

use answer::{Answer, Step};
use files::TurnFiles;

/// How long Codex may take to end once it has told the end of the turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much of a prompt is made at a time, in bytes: what a pipe takes.
const PIPE: usize = 64 << 10;

/// Runs turns by `codex exec`.
#[derive(Debug)]
pub struct Exec {
    live: Live,
    codex: Codex,
    plan: Plan,
    /// Those who ask for the plan, and their end.
    asks: TaskTracker,
    closing: CancellationToken,
}

impl Exec {
    /// An engine over the installed CLI.
    pub fn start(live: Live, codex: Codex, plan: Plan) -> Exec {
        let tmp = live.get().state_dir.join("tmp");
        tokio::task::spawn_blocking(move || files::sweep(&tmp));
        Exec { live, codex, plan, asks: TaskTracker::new(), closing: CancellationToken::new() }
    }

    /// Runs a turn; see [`crate::engine::Engine::run`].
    pub fn run(&self, turn: Turn, slot: Slot) -> Events {
        let (sink, events) = events();
        let run =
            Run { config: self.live.get(), codex: self.codex.clone(), turn, sink, granted: Instant::now() };
        tokio::spawn(run.complete(slot));
        events
    }
}

impl Exec {
    /// Somebody looks at the account's plan. `codex exec` tells nothing of it: an app-server is asked that
    /// is started for it, if that is due.
    pub fn look_at_plan(&self) {
        let usable = self.codex.survey().and_then(|survey| survey.usable.clone().ok());
        let Some(installation) = usable.filter(|_| !self.closing.is_cancelled()) else { return };
        if let Some(asking) = self.plan.look(&installation) {
            self.asks.spawn(ask_plan(self.codex.clone(), installation, asking, self.closing.clone()));
        }
    }

    /// Ends what does not end with the events of a turn.
    pub async fn shutdown(&self) {
        self.closing.cancel();
        self.asks.close();
        self.asks.wait().await;
    }
}

/// What one turn needs before its process is started.
struct Prepared {
    files: Option<TurnFiles>,
    /// The session under which it is to reach the upstream.
    rollout: Option<Rollout>,
}

/// What a process left behind.
struct Ended {
    /// What is left to tell.
    items: Vec<Outcome>,
    /// Whether it got so far as to tell anything, or was ended by somebody.
    began: bool,
}

/// What is said of it.
const NEED: &str =
    "need the app-server engine: set engine = \"app-server\" (agents best with profile = \"model\").";

/// What of a turn one prompt text cannot carry.
///
/// # Errors
/// [`Failure::Unsupported`] with the first part of that kind.
pub fn check(turn: &Turn) -> Result<(), Failure> {
    let refuse = |at, what: &str| {
        let message = format!("{what} {NEED}");
        Err(Failure::Unsupported { at, message })
    };
    if let Some(tool) = turn.tools.first() {
        return refuse(
            At::Tools,
            match tool.kind {
                ToolKind::Function { .. } => "Function tools",
                ToolKind::Custom { .. } => "Custom tools",
            },
        );
    }
    for (index, item) in turn.conversation.iter().enumerate() {
        let what = match item {
            Item::Reasoning { .. } => "Reasoning items",
            Item::ToolCall(call) if call.kind == CallKind::Custom => "Calls of custom tools",
            Item::ToolResult { content, .. } if content.iter().any(|part| matches!(part, Part::Image(_))) => {
                "Images in tool results"
            }
            Item::ToolCall(_) | Item::ToolResult { .. } | Item::Message { .. } => continue,
        };
        return refuse(At::Item(index), what);
    }
    Ok(())
}

/// One turn on its way.
struct Run {
    config: Arc<Config>,
    codex: Codex,
    turn: Turn,
    sink: Sink,
    granted: Instant,
}

/// Why a turn stopped before Codex told its end.
enum Stop {
    Gone,
    Failed(Failure),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Stop {
        Stop::Gone
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl Run {
    async fn complete(self, slot: Slot) {
        let mut last = match self.answer().await {
            Ok(items) => items,
            Err(Stop::Failed(failure)) => vec![Err(failure)],
            // Nobody is left to tell.
            Err(Stop::Gone) => return,
        };
        if let Some(Err(failure)) = last.pop_if(|item| item.is_err()) {
            let cause = folders::cause(&self.config, failure).await;
            // `/ready` is to know, and to hear when it has passed; the next turn is to find the new login.
            match cause {
                Failure::StateNotWritable { .. } => self.codex.doubt(),
                Failure::LoginChanged => self.codex.look_again(),
                _ => {}
            }
            last.push(Err(cause));
        }
        // Nothing runs any more: a client that reads slowly keeps its answer waiting, not the slot.
        drop(slot);
        for item in last {
            if let Err(Gone) = self.sink.send(item).await {
                return;
            }
        }
    }

    /// Runs `work` unless the client leaves or the turn's time is up first.
    async fn bounded<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let after = self.config.timeout_seconds;
        tokio::select! {
            result = work => Ok(result),
            () = self.sink.closed() => Err(Stop::Gone),
            () = tokio::time::sleep_until((self.granted + after).into()) => Err(Failure::TurnTimedOut { after }.into()),
        }
    }

    async fn phase(&self, phase: Phase, took: Duration) -> Result<(), Gone> {
        self.sink.send(Ok(Event::Phase(phase, took))).await
    }

    /// Runs the turn to its end; returns what is left to tell when the process is reaped.
    async fn answer(&self) -> Result<Vec<Outcome>, Stop> {
        let installation = self.bounded(self.codex.ready()).await??;

        let start = Instant::now();
        let prepared = self.prepare(&installation).await?;
        let mut outcome = self.continued(&installation, &prepared, start).await;
        if let Ok(items) = &mut outcome
            && let Some(Err(failure)) = items.pop_if(|item| item.is_err())
        {
            items.push(Err(installation.why_refused(failure).await));
        }
        if prepared.files.is_some() || prepared.rollout.is_some() {
            tokio::task::spawn_blocking(move || drop(prepared));
        }
        outcome
    }

    /// Asks under the conversation's session. A Codex that ends without a word does not know how to take one: it was
    /// not asked anything yet, and is asked the usual way.
    async fn continued(
        &self,
        installation: &Installation,
        prepared: &Prepared,
        start: Instant,
    ) -> Result<Vec<Outcome>, Stop> {
        let Some(rollout) = &prepared.rollout else {
            return Ok(self.ask(installation, prepared, None, start).await?.items);
        };
        let forked = self.ask(installation, prepared, Some(rollout.id()), start).await?;
        if forked.began {
            return Ok(forked.items);
        }
        let plain = self.ask(installation, prepared, None, Instant::now()).await?;
        if plain.began && installation.refused.set(()).is_ok() {
            tracing::warn!(
                version = %installation.version,
                "this Codex CLI does not take a session id of ours: conversations are not continued"
            );
        }
        Ok(plain.items)
    }

    async fn ask(
        &self,
        installation: &Installation,
        prepared: &Prepared,
        recording: Option<&str>,
        start: Instant,
    ) -> Result<Ended, Stop> {
        let (schema, images) = match &prepared.files {
            Some(files) => (files.schema.as_deref(), files.images.as_slice()),
            None => (None, &[][..]),
        };
        let mut line = args::exec(
            &installation.config,
            installation.version,
            installation.catalog.as_deref(),
            &installation.confinement,
        );
        if recording.is_some() {
            let (cwd, now) = (self.turn.workdir.path(), ZonedDateTime::now());
            line.extend(args::overrides(&surroundings::overrides(
                &installation.config,
                &installation.confinement,
                cwd,
                &now,
            )));
        }
        line.extend(args::exec_turn(&self.turn, schema, images, recording));
        let cwd = self.turn.workdir.path().to_path_buf();
        let (mut command, _) = self.codex.command(installation, line, cwd, false).await?;
        command.held = self.turn.workdir.held();
        self.phase(Phase::CodexCommandBuild, start.elapsed()).await?;

        let start = Instant::now();
        let mut child = match self.bounded(self.codex.spawner().spawn(command)).await? {
            Ok(child) => child,
            Err(error) => {
                self.codex.look_again();
                return Err(not_started(installation, &error).into());
            }
        };
        let running = Instant::now();
        let mut answer = Answer::default();
        // From here on every way out waits until the process is reaped: the slot is held till then.
        let talked = match self.phase(Phase::CodexProcessSpawn, running - start).await {
            Ok(()) => self.talk(&mut child, &mut answer, running).await,
            Err(gone) => Err(gone.into()),
        };
        match talked {
            Ok(()) => Ok(self.finish(child, answer, running).await),
            Err(stop) => {
                child.stop().await;
                Err(stop)
            }
        }
    }

    /// Writes the turn's files, off the runtime: they may be large.
    async fn prepare(&self, installation: &Installation) -> Result<Prepared, Stop> {
        let (turn, tmp) = (self.turn.clone(), self.config.state_dir.join("tmp"));
        let (continuation, home) = (installation.continuation(), installation.home.path.clone());
        let work = tokio::task::spawn_blocking(move || {
            turn.workdir.exists()?;
            let schema = match &turn.output {
                Output::JsonSchema(schema) => Some(schema.as_str()),
                Output::Text | Output::JsonObject | Output::Described(_) => None,
            };
            let files = TurnFiles::write(&tmp, schema, prompt::images(&turn.conversation))?;
            let rollout = match continuation {
                Continuation::Full(key) => record(&turn, &Identity::of(&turn, &key), &home),
                Continuation::Threads { .. } | Continuation::Off { .. } => None,
            };
            Ok(Prepared { files, rollout })
        });
        let result: Result<_, Failure> = work
            .await
            .map_err(|error| Failure::Internal { detail: format!("preparing the turn: {error}") })?;
        Ok(result?)
    }

    /// Gives Codex the prompt and reads its lines until the output ends.
    async fn talk(&self, child: &mut Child, answer: &mut Answer, running: Instant) -> Result<(), Stop> {
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::Internal { detail: "the codex process has no pipes".into() }.into());
        };
        let write = async move {
            // Codex may end without reading; then its output says why, not this.
            let _ = self.write_prompt(&mut stdin).await;
            drop(stdin);
            self.phase(Phase::CodexStdinWrite, running.elapsed()).await.map_err(Stop::from)
        };
        let read = self.read(child, Lines::new(stdout, lines::LONGEST), answer, running);
        let both = async { tokio::try_join!(write, read).map(|_| ()) };
        self.bounded(both).await?
    }

    /// Writes the prompt as fast as it is read: as a whole it would be there beside the conversation.
    async fn write_prompt(&self, pipe: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let mut pieces = prompt::pieces(&self.turn.conversation, &self.turn.output);
        let bytes = usize::try_from(self.turn.bytes()).unwrap_or(usize::MAX);
        let mut portion = String::new();
        loop {
            // A line that is long goes out from where it stands.
            let mut long = None;
            apart(bytes, || {
                portion.clear();
                while portion.len() < PIPE && long.is_none() {
                    match pieces.next() {
                        Some(piece) if piece.len() < PIPE => portion.push_str(&piece),
                        Some(piece) => long = Some(piece),
                        None => break,
                    }
                }
            });
            if portion.is_empty() && long.is_none() {
                return Ok(());
            }
            pipe.write_all(portion.as_bytes()).await?;
            if let Some(piece) = long {
                pipe.write_all(piece.as_bytes()).await?;
            }
        }
    }

    async fn read<R>(
        &self,
        child: &Child,
        mut lines: Lines<R>,
        answer: &mut Answer,
        running: Instant,
    ) -> Result<(), Stop>
    where
        R: tokio::io::AsyncRead + Unpin,
    {
        let silence = self.config.first_event_timeout_seconds;
        let (mut first_line, mut first_message, mut ended) = (true, true, false);
        loop {
            let line = tokio::select! {
                biased;
                line = lines.next() => line,
                // The leader is gone but somebody holds its output open: end them, read the rest.
                () = child.ended(), if !ended => {
                    ended = true;
                    child.kill_group();
                    continue;
                }
                () = tokio::time::sleep(PATIENCE), if ended => return Ok(()),
                // Codex has said all it had to say and lingers.
                () = tokio::time::sleep(PATIENCE), if answer.is_over() => return Ok(()),
                after = silent_for(silence, running), if first_message => {
                    return Err(Failure::FirstEventTimedOut { after }.into());
                }
            };
            let line =
                line.map_err(|error| Failure::codex_failed(format!("reading codex's output: {error}")))?;
            let Some(line) = line else { break };
            if std::mem::take(&mut first_line) {
                self.phase(Phase::CodexFirstStdoutEvent, running.elapsed()).await?;
            }
            let step = answer.line(line);
            match step {
                Step::Quiet | Step::Over => {}
                Step::Message { earlier } => {
                    if std::mem::take(&mut first_message) {
                        self.phase(Phase::CodexFirstAssistantEvent, running.elapsed()).await?;
                    }
                    if let Some(earlier) = earlier {
                        self.sink.send(Ok(Event::Reasoning(earlier))).await?;
                    }
                }
                Step::Reasoning(text) => {
                    first_message = false;
                    self.sink.send(Ok(Event::Reasoning(text))).await?;
                }
            }
        }
        self.phase(Phase::CodexStdoutRead, running.elapsed()).await?;
        Ok(())
    }

    /// Reaps the process; returns the end of the turn.
    async fn finish(&self, child: Child, answer: Answer, running: Instant) -> Ended {
        let eof = Instant::now();
        let parsing = answer.parsing();
        let (exit, stderr, refused) = match child.finish(PATIENCE).await {
            Ok((status, stderr)) => (status.to_string(), stderr, status.code().is_some_and(|code| code != 0)),
            Err(error) => (error.to_string(), String::new(), false),
        };
        let began = answer.heard() || !refused;
        let mut items = vec![
            Ok(Event::Phase(Phase::CodexProcessWait, eof.elapsed())),
            Ok(Event::Phase(Phase::CodexCommunicate, running.elapsed())),
            Ok(Event::Phase(Phase::CodexOutputParse, parsing)),
        ];
        let (text, mut end) = answer.finish(&exit, &stderr);
        if let Err(Failure::NoModel { model }) = &mut end {
            let told = std::mem::take(model);
            *model = self.turn.model.clone().or(self.config.model.clone()).unwrap_or(told);
        }
        items.extend(text.filter(|text| !text.is_empty()).map(|text| Ok(Event::Text(text))));
        items.push(end);
        Ended { items, began }
    }
}

/// Records the session of a conversation. Without it the turn costs more and is answered all the same.
fn record(turn: &Turn, id: &Identity, home: &std::path::Path) -> Option<Rollout> {
    let session = Session { id: &id.to_string(), cwd: turn.workdir.path(), tools: &[] };
    match Rollout::write(home, &session) {
        Ok(rollout) => Some(rollout),
        Err(error) => {
            tracing::warn!(home = %home.display(), %error, "cannot record a session; the turn starts a new one");
            None
        }
    }
}

async fn silent_for(limit: Option<Duration>, since: Instant) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep_until((since + limit).into()).await;
            limit
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{Format, Image, Role, Tool, ToolCall, Workdir};

    #[test]
    fn what_a_prompt_text_cannot_carry_is_refused_by_its_place() {
        let said = || Item::message(Role::User, vec![Part::Text("x".into())]);
        let image = || Part::from(Image { media_type: "image/png".into(), base64: "AAAA".into() });
        let turn = |items: Vec<Item>| Turn::new(items, Workdir::unseen(std::path::Path::new("/")));
        let result = |content| Item::ToolResult { call_id: "c".into(), content };
        let offer = |tool| Turn { tools: [tool].into(), ..turn(vec![said()]) };
        for (turn, expect) in [
            (turn(vec![said()]), None),
            (turn(vec![Item::message(Role::User, vec![image()])]), None),
            (
                turn(vec![
                    Item::from(ToolCall::function("c", "f", "{}")),
                    result(vec![Part::Text("x".into())]),
                ]),
                None,
            ),
            (offer(Tool::function("f", "", "{}".into())), Some((At::Tools, "Function tools"))),
            (offer(Tool::custom("f", "", Format::Text)), Some((At::Tools, "Custom tools"))),
            (
                turn(vec![said(), Item::Reasoning { encrypted: "e".into(), summary: [].into() }]),
                Some((At::Item(1), "Reasoning items")),
            ),
            (
                turn(vec![Item::from(ToolCall::custom("c", "f", "x"))]),
                Some((At::Item(0), "Calls of custom tools")),
            ),
            (
                turn(vec![said(), said(), result(vec![Part::Text("x".into()), image()])]),
                Some((At::Item(2), "Images in tool results")),
            ),
        ] {
            let expect =
                expect.map(|(at, what)| Failure::Unsupported { at, message: format!("{what} {NEED}") });
            assert_eq!(check(&turn).err(), expect);
        }
    }
}
