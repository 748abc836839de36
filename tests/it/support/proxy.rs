//! The program under test: the real one, spawned with a home of its own, on a port of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Call;
use super::fake_codex::FakeCodex;
use super::upstream::Upstream;
use super::wait;

/// A folder of this test's own, removed when the test has passed.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `target/it`, or below the user's cache folder where the clone lies under
    /// `/tmp`: there the real CLI refuses to keep its sandbox helpers.
    pub fn new() -> Scratch {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("it");
        let base = if target.starts_with("/tmp") {
            let home = std::env::var_os("HOME").expect("HOME is set");
            PathBuf::from(home).join(".cache/codex-api-proxy-tests")
        } else {
            target
        };
        let path = base.join(format!("{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("make a scratch folder");
        Scratch(path.canonicalize().expect("resolve the scratch folder"))
    }

    /// Its path, absolute and free of links.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A folder below it, made if need be.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).expect("make a folder");
        path
    }

    /// Writes a file below it, with its folders.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        std::fs::write(&path, text).expect("write a file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The native Codex CLI, from `$CODEX_BIN` or where `make test-tools` puts it.
pub fn real_codex() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CODEX_BIN") {
        return Some(PathBuf::from(path));
    }
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/codex-cli/node_modules/@openai");
    let packages = std::fs::read_dir(modules).ok()?;
    let vendors =
        packages.flatten().filter_map(|package| std::fs::read_dir(package.path().join("vendor")).ok());
    let binaries = vendors.flatten().flatten().map(|triple| triple.path().join("bin/codex"));
    binaries.into_iter().find(|path| path.exists())
}

/// The real Codex CLI, or `None` after saying why the test is skipped.
///
/// # Panics
/// With `CI=true`, where nothing may be skipped.
pub fn require_codex() -> Option<PathBuf> {
    let found = real_codex();
    if found.is_none() {
        skipped("no Codex CLI: run `make test-tools`, or set CODEX_BIN");
    }
    found
}

/// Says why a test is skipped; with `CI=true` that is a failure.
pub fn skipped(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
    println!("skipped: {why}");
}

/// How the program is to be started.
pub struct Setup {
    scratch: Scratch,
    codex: PathBuf,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    /// What starts the program; nothing = it is started itself.
    within: Vec<String>,
}

impl Setup {
    /// With that Codex, settings at their defaults but for a free port and a short drain.
    pub fn new(codex: &Path) -> Setup {
        let setup = Setup {
            scratch: Scratch::new(),
            codex: codex.into(),
            flags: vec![],
            env: vec![],
            within: vec![],
        };
        setup.set("drain_seconds", "0.2")
    }

    /// With the real Codex against a scripted upstream.
    pub fn real(codex: &Path, upstream: &Upstream) -> Setup {
        let provider = format!(
            r#"model_providers.mock={{name="mock",base_url="{}",wire_api="responses",request_max_retries=0,stream_max_retries=0}}"#,
            upstream.url()
        );
        Setup::new(codex).flag("codex-config", r#"model_provider="mock""#).flag("codex-config", &provider)
    }

    /// With a fake Codex that follows `script`.
    pub fn fake(script: &str) -> (Setup, FakeCodex) {
        let mut setup = Setup::new(Path::new(""));
        let fake = FakeCodex::new(&setup.scratch.dir("bin"), script);
        setup.codex = fake.path().into();
        (setup, fake)
    }

    /// Sets one setting by its key; the last one wins.
    pub fn set(mut self, key: &str, value: impl ToString) -> Setup {
        let flag = format!("--{}", key.replace('_', "-"));
        self.flags.retain(|given| !given.starts_with(&format!("{flag}=")));
        self.flags.push(format!("{flag}={}", value.to_string()));
        self
    }

    /// Adds a flag that may repeat.
    pub fn flag(mut self, name: &str, value: &str) -> Setup {
        self.flags.push(format!("--{name}={value}"));
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts it by `sh -c SCRIPT`, which ends in `exec "$@"`, in a mount namespace of its own. Needs root.
    pub fn in_mounts(self, script: &str) -> Setup {
        self.within(&["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"])
    }

    /// Has another program start it, which becomes it: its command line up to the program's.
    pub fn within(mut self, starter: &[&str]) -> Setup {
        self.within = starter.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The folder of this run; its home is `home` below.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The home of this run.
    pub fn home(&self) -> PathBuf {
        self.scratch.dir("home")
    }

    /// The default workspace of this run.
    pub fn workspace(&self) -> PathBuf {
        self.scratch.dir("home/.codex-api-proxy/workspace")
    }

    /// The flags that `start` would give to `serve`, Codex included.
    pub fn flags(&self) -> Vec<String> {
        let codex = format!("--codex-bin={}", self.codex.display());
        std::iter::once(codex).chain(self.flags.iter().cloned()).collect()
    }

    /// The command, not yet started; `arguments` follow the program's name.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let dir = |name: &str| self.scratch.dir(name);
        let program = env!("CARGO_BIN_EXE_codex-api-proxy");
        let mut line = self.within.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(line.next().unwrap_or(program));
        command.args(line).args(arguments).env_clear();
        for name in ["PATH", "USER", "LOGNAME", "LANG", "SHELL"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command
            .env("HOME", dir("home"))
            .env("XDG_CONFIG_HOME", dir("config"))
            .env("XDG_RUNTIME_DIR", dir("run"))
            .env("TMPDIR", dir("tmp"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(dir("elsewhere"));
        command
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Proxy {
        let proxy = self.start_unready();
        let mut last = String::new();
        wait::until_some("the proxy is ready", || {
            let answer = proxy.get("/ready").send();
            if answer.text() != last {
                last = answer.text();
                eprintln!("/ready: {} {last}", answer.status);
            }
            (answer.status == 200).then_some(())
        });
        proxy
    }

    /// Starts it and waits only until it listens.
    pub fn start_unready(self) -> Proxy {
        let codex = format!("--codex-bin={}", self.codex.display());
        let mut arguments = vec!["serve", "--port=0", &codex];
        if !self.flags.iter().any(|flag| flag.starts_with("--host=")) {
            arguments.push("--host=127.0.0.1");
        }
        arguments.extend(self.flags.iter().map(String::as_str));
        let mut command = self.command(&arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("spawn the program");
        let log = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("its stdout");
        let stderr = child.stderr.take().expect("its stderr");
        collect(BufReader::new(stdout), Arc::clone(&log));
        collect(BufReader::new(stderr), Arc::clone(&log));
        let mut proxy = Proxy { child, address: ([127, 0, 0, 1], 0).into(), log, scratch: self.scratch };
        proxy.address = wait::until_some("the proxy says where it listens", || {
            if let Some(status) = proxy.exited() {
                panic!("the proxy ended at once: {status}\n{}", proxy.log());
            }
            let log = proxy.log();
            let (_, rest) = log.split_once("listening on http://")?;
            rest.split(|c: char| c.is_whitespace() || "\"',;".contains(c))
                .next()?
                .trim_end_matches('/')
                .parse()
                .ok()
        });
        proxy
    }
}

/// Takes a pipe's lines into the log and passes them on to the test's own output.
fn collect(pipe: impl BufRead + Send + 'static, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in pipe.lines().map_while(Result::ok) {
            eprintln!("    {line}");
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// The running program. Dropping it stops it, and checks that nothing of it stays behind.
pub struct Proxy {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    scratch: Scratch,
}

impl Proxy {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without `/v1`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder of this run.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Any request.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.address, method, path)
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    /// A chat completion with this body; `model` is filled in where it is missing.
    pub fn chat(&self, mut body: Value) -> Call {
        if let Some(body) = body.as_object_mut() {
            body.entry("model").or_insert_with(|| json!("codex-local"));
        }
        self.call("POST", "/v1/chat/completions").json(&body)
    }

    /// A chat completion of one user message.
    pub fn ask(&self, text: &str) -> Call {
        self.chat(json!({ "messages": [{ "role": "user", "content": text }] }))
    }

    /// The same, streamed.
    pub fn ask_streamed(&self, text: &str) -> Call {
        self.chat(json!({ "stream": true, "messages": [{ "role": "user", "content": text }] }))
    }

    /// `/metrics` as JSON.
    pub fn metrics(&self) -> Value {
        self.get("/metrics").send().json()
    }

    /// The latency lines so far, parsed.
    pub fn latency_lines(&self) -> Vec<Value> {
        let log = self.log();
        let lines =
            log.lines().filter_map(|line| line.split_once("codex_api_proxy.latency ").map(|(_, rest)| rest));
        lines.filter_map(|rest| serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()).collect()
    }

    /// The one latency line of that event and request, waited for.
    pub fn latency_line(&self, event: &str, request_id: &str) -> Value {
        wait::until_some("the latency line", || {
            self.latency_lines()
                .into_iter()
                .find(|line| line["event"] == event && line["request_id"] == request_id)
        })
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        signal(name, self.pid());
    }

    /// Runs a shell script among the mounts that it sees; see [`Setup::in_mounts`].
    pub fn among_its_mounts(&self, script: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("nsenter").args(["-t", &pid, "-m", "sh", "-ec", script]).status();
        assert!(status.expect("run nsenter").success(), "{script}");
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for the program")
    }

    /// Waits until it has ended by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        wait::until_some("the program ends", || self.exited())
    }

    /// Processes that belong to this run, other than the program itself.
    pub fn descendants(&self) -> Vec<(u32, String)> {
        let mut found = processes_of(self.scratch.path());
        found.retain(|(pid, _)| *pid != self.pid());
        found
    }

    /// Waits until no child of any kind is left.
    pub fn until_childless(&self) {
        wait::until("every child of the proxy is gone", || self.descendants().is_empty());
    }
}

/// Processes that carry that folder in their environment or on their command line. Tools run in sessions of
/// their own, so neither the process group nor the parent's id would find them all.
pub fn processes_of(folder: &Path) -> Vec<(u32, String)> {
    let mark = folder.to_string_lossy().into_owned().into_bytes();
    let carries = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    let mut found = vec![];
    let Ok(processes) = std::fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let read = |name: &str| std::fs::read(process.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        if carries(&command) || carries(&read("environ")) {
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

/// Sends a signal by name: to a process, or to the group of `-ID`.
pub fn signal(name: &str, pid: impl std::fmt::Display) {
    let _ = Command::new("sh").args(["-c", &format!("kill -s {name} -- {pid} 2>/dev/null")]).status();
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let start = Instant::now();
        if self.exited().is_none() {
            self.signal("TERM");
        }
        while self.exited().is_none() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(3));
        }
        let stopped = self.exited().is_some();
        let mut left = self.descendants();
        while !left.is_empty() && start.elapsed() < Duration::from_secs(12) {
            std::thread::sleep(Duration::from_millis(3));
            left = self.descendants();
        }
        if !stopped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for (pid, _) in &left {
            signal("KILL", *pid);
        }
        if !std::thread::panicking() {
            assert!(stopped, "the proxy did not stop on TERM");
            assert!(left.is_empty(), "processes left behind: {left:?}");
        }
    }
}
