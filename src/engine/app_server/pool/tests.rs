use std::sync::atomic::AtomicUsize;

use serde_json::Value;
use tokio::time::sleep;

use super::super::fake::{Fake, Mishap, Play};
use super::keeper::Pause;
use super::*;
use crate::codex::{Confinement, Functions, Home, Installation, Login, Version};
use crate::config::EngineKind;
use crate::config::choices::ProfileChoice;
use crate::turn::{At, Event, Finish, Item, Part, Role, Tool, Workdir};

mod crossing;

const FAST: Timing = Timing {
    handshake: Duration::from_millis(300),
    rpc: Duration::from_millis(300),
    patience: Duration::from_millis(100),
    vital: Duration::from_millis(100),
    silence: Duration::from_secs(1),
    calls: Duration::from_millis(5),
    end: Duration::from_millis(300),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(20),
    settled: Duration::from_secs(10),
    look: Duration::from_secs(1),
};

struct House {
    pool: Pool,
    fake: Fake,
    live: Live,
    latest: watch::Sender<Option<Arc<Installation>>>,
    logged_out: watch::Sender<Option<Failure>>,
    /// How often a worker was to be started.
    tries: Arc<AtomicUsize>,
    /// What stands in the way of starting a worker.
    obstacle: Arc<Mutex<Option<Failure>>>,
    slots: Arc<AtomicUsize>,
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config { engine: EngineKind::AppServer, turns_per_worker: 8, ..Config::default() };
    change(&mut config);
    config
}

fn installation(config: &Config) -> Arc<Installation> {
    Arc::new(Installation {
        continuation: crate::codex::Continuation::Off { reason: String::new() },
        refused: Arc::default(),
        program: "codex".into(),
        version: Version(0, 169, 0),
        home: Home { path: "/home".into(), login: "/login".into(), has_auth: true },
        login: Login::Codex,
        auth: crate::codex::AuthFile::default(),
        confinement: Confinement::Operator,
        catalog: Some("/catalog.json".into()),
        functions: Functions::AllModels,
        env: Arc::new([]),
        config: Arc::new(config.clone()),
    })
}

fn house(play: Play, config: Config) -> House {
    let installation = installation(&config);
    house_of(play, config, installation)
}

fn house_of(play: Play, config: Config, installation: Arc<Installation>) -> House {
    let fake = Fake::new(play);
    let latest = watch::Sender::new(Some(installation));
    let obstacle: Arc<Mutex<Option<Failure>>> = Arc::default();
    let (launcher, current, stands) = (fake.clone(), latest.clone(), Arc::clone(&obstacle));
    let (logged_out, tries) = (watch::Sender::new(None), Arc::new(AtomicUsize::new(0)));
    let tried = Arc::clone(&tries);
    let source = Source {
        installation: Box::new(move || {
            tried.fetch_add(1, Ordering::SeqCst);
            let result = match lock(&stands).clone() {
                Some(failure) => Err(failure),
                None => Ok(current.borrow().clone().unwrap()),
            };
            Box::pin(async move { result })
        }),
        launch: Box::new(move |_| {
            let link = launcher.launch();
            Box::pin(async move { Ok(link) })
        }),
        latest: latest.subscribe(),
        logged_out: logged_out.subscribe(),
        look_again: Box::new(|| {}),
    };
    let live = Live::new(config);
    let pool = Pool::over(live.clone(), source, FAST, Plan::default());
    House { pool, fake, live, latest, logged_out, tries, obstacle, slots: Arc::default() }
}

struct Counted(Arc<AtomicUsize>);
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn plain() -> Turn {
    let workdir = Workdir::resolve(None, &std::env::temp_dir(), &[]).unwrap();
    Turn::new([Item::message(Role::User, vec![Part::Text("hi".into())])], workdir)
}

impl House {
    fn run(&self, turn: Turn) -> Events {
        self.slots.fetch_add(1, Ordering::SeqCst);
        self.pool.run(turn, Slot::new(Counted(Arc::clone(&self.slots))))
    }

    async fn ready(&self, workers: usize) {
        until("workers are ready", || self.pool.status().ready == workers).await;
    }

    /// Nothing is left of any turn, and as many workers as wanted are there.
    async fn at_rest(&self) {
        until("slots are back", || self.slots.load(Ordering::SeqCst) == 0).await;
        let total = self.pool.status().total;
        self.ready(total).await;
        until("no process is left over", || *self.fake.running.borrow() == total).await;
        let idle = |seat: &Seat| match seat {
            Seat::Ready(worker) => worker.load.load(Ordering::SeqCst) == 0,
            _ => true,
        };
        assert!(self.pool.shared.parked.len() <= self.live.get().parked_conversations);
        until("every place is given back", || lock(&self.pool.shared.seats).iter().all(idle)).await;
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// Text and outcome of a turn.
async fn end(mut events: Events) -> (String, Result<Finish, Failure>) {
    let mut text = String::new();
    loop {
        match events.next().await.expect("a terminal item") {
            Ok(Event::Text(more)) => text.push_str(&more),
            Ok(Event::ToolCall(call)) => {
                text.push_str(&format!("[{} {} {}]", call.id, call.name, call.arguments))
            }
            Ok(Event::Done { finish, .. }) => return (text, Ok(finish)),
            Ok(_) => {}
            Err(failure) => return (text, Err(failure)),
        }
    }
}

fn answer() -> Play {
    Play::Answer(["he", "l", "lo"].map(String::from).into())
}

#[tokio::test]
async fn a_turn_is_a_thread_of_its_own_and_is_released() {
    let house = house(answer(), config(|_| {}));
    assert_eq!(end(house.run(plain())).await, ("hello".into(), Ok(Finish::Stop)));
    house.at_rest().await;
    until("the thread is released", || house.fake.count("thread/unsubscribe") == 1).await;
    let start = house.fake.last("thread/start");
    assert_eq!(
        start["params"],
        serde_json::json!({"ephemeral": true, "environments": [], "baseInstructions": "", "experimentalRawEvents": false})
    );
    assert_eq!(house.fake.last("turn/start")["params"]["input"], serde_json::json!([]));
    assert_eq!(house.fake.count("turn/interrupt"), 0);
    house.pool.shutdown().await;
    until("every process is gone", || *house.fake.running.borrow() == 0).await;
}

#[tokio::test]
async fn whatever_goes_wrong_anywhere_costs_one_turn_at_most() {
    let before = ["initialize", "getAuthStatus"];
    let during = ["thread/start", "thread/inject_items", "turn/start", "delta", "end"];
    for mishap in
        [Mishap::Dies, Mishap::DiesMidLine, Mishap::Hangs, Mishap::WrongId, Mishap::Refuses, Mishap::Garbage]
    {
        for method in before {
            let house = house(answer(), config(|_| {}));
            house.fake.misbehave(method, mishap);
            house.ready(1).await;
            assert_eq!(
                end(house.run(plain())).await,
                ("hello".into(), Ok(Finish::Stop)),
                "{mishap:?} at {method}"
            );
            house.at_rest().await;
        }
        for method in during {
            // What was never begun is given to another worker, and costs nobody anything.
            let spared = method == "thread/start" && mishap != Mishap::Refuses;
            let after = Duration::from_millis(if spared { 20_000 } else { 400 });
            let quick = |config: &mut Config| config.timeout_seconds = after;
            let house = house(answer(), config(quick));
            house.ready(1).await;
            house.fake.misbehave(method, mishap);
            let (text, outcome) = end(house.run(plain())).await;
            if spared {
                assert_eq!((text.as_str(), outcome), ("hello", Ok(Finish::Stop)), "{mishap:?} at {method}");
                house.at_rest().await;
                continue;
            }
            let failure = outcome.expect_err(method);
            let expected = match mishap {
                Mishap::Dies | Mishap::DiesMidLine | Mishap::Garbage => {
                    matches!(failure, Failure::CodexExited { .. })
                }
                Mishap::Refuses if method.contains('/') => matches!(failure, Failure::CodexFailed { .. }),
                _ if !method.contains('/') => {
                    failure == Failure::TurnTimedOut { after: Duration::from_millis(400) }
                }
                _ => matches!(failure, Failure::CodexFailed { .. } | Failure::TurnTimedOut { .. }),
            };
            assert!(expected, "{mishap:?} at {method}: {failure:?}");
            house.at_rest().await;
            assert_eq!(
                end(house.run(plain())).await,
                ("hello".into(), Ok(Finish::Stop)),
                "after {mishap:?} at {method}"
            );
            house.at_rest().await;
            house.pool.shutdown().await;
        }
    }
}

#[tokio::test]
async fn one_workers_death_fails_its_turns_and_nobody_elses() {
    let house = house(Play::Linger("a"), config(|config| (config.workers, config.turns_per_worker) = (2, 1)));
    house.ready(2).await;
    let (mut first, mut second) = (house.run(plain()), house.run(plain()));
    for events in [&mut first, &mut second] {
        while !matches!(events.next().await, Some(Ok(Event::Text(_)))) {}
    }
    // Die at the next message: the one that asks for a third thread waits for a place until then.
    house.fake.misbehave("turn/interrupt", Mishap::Dies);
    drop(first);
    house.fake.play(answer());
    assert_eq!(end(house.run(plain())).await, ("hello".into(), Ok(Finish::Stop)));
    assert_eq!(house.slots.load(Ordering::SeqCst), 1, "the other turn still runs");
    drop(second);
    house.at_rest().await;
}

#[tokio::test]
async fn many_turns_of_one_worker_do_not_cross() {
    let house = house(answer(), config(|config| config.turns_per_worker = 64));
    for round in 0..4 {
        let turns: Vec<_> = (0..64).map(|_| tokio::spawn(end(house.run(plain())))).collect();
        for turn in turns {
            assert_eq!(turn.await.unwrap(), ("hello".into(), Ok(Finish::Stop)), "round {round}");
        }
    }
    house.at_rest().await;
    until("threads are released", || house.fake.count("thread/unsubscribe") == 256).await;
    assert_eq!(house.fake.started.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_that_leaves_interrupts_its_turn() {
    let house = house(Play::Linger("a"), config(|_| {}));
    let mut events = house.run(plain());
    while !matches!(events.next().await, Some(Ok(Event::Text(_)))) {}
    drop(events);
    house.at_rest().await;
    assert_eq!(house.fake.count("turn/interrupt"), 1);
    let thread = house.fake.last("turn/interrupt")["params"]["threadId"].clone();
    assert_eq!(
        house.fake.last("turn/interrupt")["params"]["turnId"],
        format!("turn-{}", thread.as_str().unwrap())
    );
    until("the thread is released", || house.fake.last("thread/unsubscribe")["params"]["threadId"] == thread)
        .await;
    // Left before anything came of it.
    drop(house.run(plain()));
    house.at_rest().await;
}

#[tokio::test]
async fn time_running_out_interrupts_the_turn() {
    let after = Duration::from_millis(100);
    let overall = house(Play::Linger("a"), config(|config| config.timeout_seconds = after));
    assert_eq!(end(overall.run(plain())).await, ("a".into(), Err(Failure::TurnTimedOut { after })));
    overall.at_rest().await;
    assert_eq!(overall.fake.count("turn/interrupt"), 1);

    let silent = house(Play::Linger(""), config(|config| config.first_event_timeout_seconds = Some(after)));
    assert_eq!(end(silent.run(plain())).await, (String::new(), Err(Failure::FirstEventTimedOut { after })));
    silent.at_rest().await;
    let spoken = Duration::from_millis(300);
    let both = |config: &mut Config| {
        (config.first_event_timeout_seconds, config.timeout_seconds) = (Some(after), spoken);
    };
    let talking = house(Play::Linger("a"), config(both));
    talking.ready(1).await;
    assert_eq!(end(talking.run(plain())).await, ("a".into(), Err(Failure::TurnTimedOut { after: spoken })));
    talking.at_rest().await;
}

#[tokio::test]
async fn a_slow_client_loses_its_turn_and_delays_nobody() {
    let house = house(Play::Flood(400_000), config(|_| {}));
    house.ready(1).await;
    let slow = house.run(plain());
    until("the flood has begun", || house.fake.count("turn/start") == 1).await;
    house.fake.play(answer());
    assert_eq!(end(house.run(plain())).await, ("hello".into(), Ok(Finish::Stop)));
    until("the slow turn is interrupted", || house.fake.count("turn/interrupt") == 1).await;
    house.at_rest().await;
    let (text, outcome) = end(slow).await;
    assert_eq!(outcome, Err(Failure::ClientTooSlow));
    assert!(text.len() <= 64 << 20, "{}", text.len());
}

#[tokio::test]
async fn calls_end_the_turn_and_every_request_is_answered() {
    let house = house(Play::Calls(vec!["f", "client_exec_command", "f"]), config(|_| {}));
    let tool = |name: &str| Tool::function(name, "", "{}".into());
    let turn = Turn { tools: Arc::new([tool("f"), tool("exec_command")]), ..plain() };
    let expect = "[c0 f {\"n\": 1}][c1 exec_command {\"n\": 1}][c2 f {\"n\": 1}]";
    assert_eq!(end(house.run(turn)).await, (expect.into(), Ok(Finish::ToolCalls)));
    house.at_rest().await;
    assert_eq!(house.fake.last("thread/start")["params"]["experimentalRawEvents"], true);
    let answered = || {
        let heard = house.fake.heard.lock().unwrap();
        (1000..1003).all(|id| heard.iter().any(|said| said["id"] == id && said.get("result").is_some()))
    };
    until("calls are answered", answered).await;
    let heard = house.fake.heard.lock().unwrap();
    let at = |wanted: &dyn Fn(&Value) -> bool| heard.iter().position(wanted).unwrap();
    assert!(
        at(&|said| said["id"] == 1000) > at(&|said| said["method"] == "turn/interrupt"),
        "not before all are seen"
    );
}

#[tokio::test]
async fn workers_start_one_at_a_time() {
    let house = house(answer(), config(|config| config.workers = 5));
    house.ready(5).await;
    assert_eq!(house.fake.most_starting.load(Ordering::SeqCst), 1);
    house.pool.shutdown().await;
}

#[tokio::test]
async fn a_new_installation_takes_over_while_the_old_one_finishes() {
    let house = house(Play::Linger("a"), config(|_| {}));
    let mut old = house.run(plain());
    while !matches!(old.next().await, Some(Ok(Event::Text(_)))) {}
    house.fake.play(answer());
    house.latest.send_replace(Some(installation(&house.live.get())));
    until("the new one is there", || house.fake.started.load(Ordering::SeqCst) == 2).await;
    house.ready(1).await;
    assert_eq!(end(house.run(plain())).await, ("hello".into(), Ok(Finish::Stop)));
    assert_eq!(house.slots.load(Ordering::SeqCst), 1, "the old turn is not disturbed");
    assert_eq!(*house.fake.running.borrow(), 2);
    drop(old);
    house.at_rest().await;
}

#[tokio::test]
async fn a_reload_changes_the_number_of_workers() {
    let house = house(answer(), config(|config| config.workers = 1));
    for workers in [3, 1, 2] {
        house.live.set(config(|config| config.workers = workers));
        house.pool.reload();
        until("the number is right", || house.pool.status().ready == workers).await;
        assert_eq!(house.pool.status().total, workers);
        house.at_rest().await;
    }
    house.pool.shutdown().await;
    assert_eq!(*house.fake.running.borrow(), 0);
}

#[tokio::test]
async fn shutdown_ends_everything() {
    let house = house(Play::Linger("a"), config(|_| {}));
    let mut events = house.run(plain());
    while !matches!(events.next().await, Some(Ok(Event::Text(_)))) {}
    house.pool.shutdown().await;
    assert_eq!(end(events).await.1, Err(Failure::Draining));
    assert_eq!(end(house.run(plain())).await.1, Err(Failure::Draining));
    assert_eq!((house.slots.load(Ordering::SeqCst), *house.fake.running.borrow()), (0, 0));
}

fn logged_out() -> Failure {
    Failure::NotLoggedIn { bin: "codex".into(), program: "/usr/bin/codex".into() }
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_and_needs_no_restart() {
    let house = house(answer(), config(|_| {}));
    house.ready(1).await;
    *lock(&house.obstacle) = Some(logged_out());
    house.fake.misbehave("thread/start", Mishap::Dies);
    assert!(end(house.run(plain())).await.1.is_err());
    until("the reason shows", || house.pool.status().reason == Some(logged_out())).await;
    assert_eq!(house.pool.status().ready, 0);
    assert_eq!(end(house.run(plain())).await.1, Err(logged_out()));
    *lock(&house.obstacle) = None;
    house.at_rest().await;
    assert_eq!(house.pool.status().reason, None);
    assert_eq!(end(house.run(plain())).await.1, Ok(Finish::Stop));
}

#[tokio::test]
async fn who_logs_out_is_served_no_more_and_who_logs_in_is() {
    let house = house(Play::Linger("a"), config(|config| config.workers = 2));
    house.ready(2).await;
    let mut under_way = house.run(plain());
    while !matches!(under_way.next().await, Some(Ok(Event::Text(_)))) {}
    *lock(&house.obstacle) = Some(logged_out());
    house.logged_out.send_replace(Some(logged_out()));
    until("no worker takes turns", || house.pool.status().ready == 0).await;
    assert_eq!(house.pool.status().reason, Some(logged_out()));
    assert_eq!(end(house.run(plain())).await.1, Err(logged_out()));
    // What was begun goes on; the idle worker is gone.
    until("one is left for it", || *house.fake.running.borrow() == 1).await;
    drop(under_way);
    until("none is left", || *house.fake.running.borrow() == 0).await;
    *lock(&house.obstacle) = None;
    house.logged_out.send_replace(None);
    house.ready(2).await;
    assert_eq!(house.pool.status().reason, None);
    house.at_rest().await;
}

#[tokio::test]
async fn why_no_worker_starts_is_logged_once_for_all_seats() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let _scope = tracing::subscriber::set_default(subscriber);
    let told = |why: &str| {
        let text = String::from_utf8(lock(&log.0).clone()).unwrap();
        text.matches(&format!("a codex worker did not start: {why}")).count()
    };
    let house = house(answer(), config(|config| config.workers = 4));
    house.ready(4).await;
    for (times, why) in [(1, logged_out()), (1, Failure::LoginNotPortable), (2, logged_out())] {
        let before = house.tries.load(Ordering::SeqCst);
        *lock(&house.obstacle) = Some(why.clone());
        house.logged_out.send_replace(Some(why.clone()));
        until("each seat tried more than once", || house.tries.load(Ordering::SeqCst) >= before + 16).await;
        assert_eq!(told(&why.to_string()), times, "{why}");
    }
    *lock(&house.obstacle) = None;
    house.logged_out.send_replace(None);
    house.at_rest().await;
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Log;

    fn make_writer(&self) -> Log {
        self.clone()
    }
}

#[tokio::test]
async fn threads_started_beforehand_serve_plain_turns_only() {
    let house = house(answer(), config(|config| config.prewarm = 2));
    until("two are there", || house.fake.count("thread/start") == 2).await;
    assert_eq!(end(house.run(plain())).await.1, Ok(Finish::Stop));
    until("it is made up for", || house.fake.count("thread/start") == 3).await;
    let tools = Arc::new([Tool::function("f", "", "{}".into())]);
    assert_eq!(end(house.run(Turn { tools, ..plain() })).await.1, Ok(Finish::Stop));
    assert!(house.fake.last("thread/start")["params"]["dynamicTools"].is_array());
    assert_eq!(house.fake.count("thread/start"), 4);
    house.at_rest().await;
}

#[tokio::test]
async fn what_the_installation_cannot_do_is_refused() {
    let house = house(answer(), config(|_| {}));
    let mut poor = Installation::clone(&installation(&house.live.get()));
    poor.catalog = None;
    poor.functions = Functions::Never { reason: "a test".into() };
    house.latest.send_replace(Some(Arc::new(poor)));
    until("it is known", || house.pool.status().functions.is_some()).await;
    let tools: Arc<[Tool]> = Arc::new([Tool::function("f", "", "{}".into())]);
    let outcome = end(house.run(Turn { tools, ..plain() })).await.1;
    assert!(matches!(outcome, Err(Failure::Unsupported { at: At::Tools, .. })));
    house.at_rest().await;
}

#[tokio::test]
async fn a_worker_that_mixes_the_order_of_requests_gets_one_at_a_time() {
    let house = house(answer(), config(|_| {}));
    house.ready(1).await;
    house.fake.misbehave("thread/inject_items", Mishap::Overtaken);
    let (text, outcome) = end(house.run(plain())).await;
    assert!(text.is_empty() && matches!(outcome, Err(Failure::CodexFailed { .. })), "{text} {outcome:?}");
    house.at_rest().await;
    // The turn was begun all the same, and stopped or over.
    assert_eq!(house.fake.started.load(Ordering::SeqCst), 1);
    assert_eq!(end(house.run(plain())).await, ("hello".into(), Ok(Finish::Stop)));
    let Some(Seat::Ready(worker)) = lock(&house.pool.shared.seats).pop() else { panic!("no worker") };
    assert!(worker.overtakes.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_result_that_an_agent_would_cut_is_refused() {
    let result = |parts: &[usize]| {
        let content = parts.iter().map(|bytes| Part::Text("x".repeat(*bytes).into())).collect();
        Turn { conversation: Arc::new([Item::ToolResult { call_id: "c".into(), content }]), ..plain() }
    };
    let agent = house(answer(), config(|config| config.profile = ProfileChoice::Agent));
    for whole in [&[40_000][..], &[20_000, 20_000]] {
        assert_eq!(end(agent.run(result(whole))).await.1, Ok(Finish::Stop));
    }
    for cut in [&[40_001][..], &[20_000, 20_001]] {
        let outcome = end(agent.run(result(cut))).await.1;
        assert!(matches!(outcome, Err(Failure::BadRequest { at: Some(At::Item(0)), .. })), "{outcome:?}");
    }
    agent.at_rest().await;
    let model = house(answer(), config(|_| {}));
    assert_eq!(end(model.run(result(&[1_000_000]))).await.1, Ok(Finish::Stop));
}

#[test]
fn pauses_double_up_to_the_longest() {
    let timing = Timing::default();
    let mut pause = Pause::new(timing);
    let pauses: Vec<Duration> = (0..40).map(|_| pause.next()).collect();
    for (index, pause) in pauses.iter().enumerate() {
        let middle = timing.first_pause.saturating_mul(1 << index.min(16)).min(timing.longest_pause);
        assert!(*pause >= middle.mul_f64(0.75) && *pause <= middle.mul_f64(1.25), "{index}: {pause:?}");
    }
}
