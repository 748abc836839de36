//! One child process: spawned from a thread of its own, ended with its whole group.

use std::any::Any;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::os::process::{Signal, signal_group};
use crate::os::spawn::{self, Reaper};

/// How much of a child's stderr is remembered, in bytes.
const STDERR_TAIL: usize = 2048;

/// How long a child may take to end after a signal before the next, stronger one.
const GRACE: Duration = Duration::from_millis(500);

/// What to run. The environment is exactly `env`: nothing is inherited.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program, by path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Arc<[(OsString, OsString)]>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// That directory held open: entered whatever `cwd` leads to by now.
    pub held: Option<Arc<OwnedFd>>,
    /// What the process uses, kept until it is reaped.
    pub uses: Option<Arc<dyn Any + Send + Sync>>,
}

type Job = (Command, oneshot::Sender<io::Result<Child>>);

/// Starts children from a few threads that live as long as the process.
///
/// Threads of its own for two reasons: the parent-death signal is tied to the life of the thread
/// that clones, and clone and exec would block the runtime.
#[derive(Clone, Debug)]
pub struct Spawner {
    jobs: mpsc::Sender<Job>,
}

impl Spawner {
    /// Starts the threads. Call it inside the runtime: the children's pipes belong to it.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start() -> io::Result<Spawner> {
        let (jobs, queue) = mpsc::channel::<Job>(64);
        let queue = Arc::new(Mutex::new(queue));
        // One thread can start no more than one child at a time; more than this gains nothing.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        for _ in 0..threads {
            let (queue, runtime) = (Arc::clone(&queue), tokio::runtime::Handle::current());
            std::thread::Builder::new().name("spawner".into()).spawn(move || {
                let _inside = runtime.enter();
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                while let Some((command, answer)) = next() {
                    // Whoever asked may be gone; then the child is dropped, which ends it.
                    let _ = answer.send(Child::spawn(&command));
                }
            })?;
        }
        Ok(Spawner { jobs })
    }

    /// Starts a child.
    ///
    /// # Errors
    /// What fork or exec said: not found, not executable, no such directory, too many processes.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, result) = oneshot::channel();
        let ended = || io::Error::other("the spawner threads have ended");
        self.jobs.send((command, answer)).await.map_err(|_| ended())?;
        result.await.map_err(|_| ended())?
    }

    /// Runs a short command to its end with no input and collects its output.
    ///
    /// # Errors
    /// As [`Spawner::spawn`], or `TimedOut` after `limit`.
    pub async fn output(
        &self,
        command: Command,
        limit: Duration,
    ) -> io::Result<(ExitStatus, Vec<u8>, String)> {
        let mut child = self.spawn(command).await?;
        drop(child.stdin.take());
        let mut stdout = Vec::new();
        let read = async {
            if let Some(pipe) = child.stdout.take() {
                pipe.take(32 << 20).read_to_end(&mut stdout).await?;
            }
            io::Result::Ok(())
        };
        match tokio::time::timeout(limit, read).await {
            Ok(result) => result?,
            Err(_) => {
                child.stop().await;
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no end after {limit:?}")));
            }
        }
        let (status, stderr) = child.finish(GRACE).await?;
        Ok((status, stdout, stderr))
    }
}

/// A running child that leads its own process group. Dropping it kills the group.
#[derive(Debug)]
pub struct Child {
    /// Its standard input, until taken.
    pub stdin: Option<pipe::Sender>,
    /// Its standard output, until taken.
    pub stdout: Option<pipe::Receiver>,
    pid: u32,
    reaper: Reaper,
    stderr: StderrTail,
    reaped: bool,
    /// Dropped with it.
    _uses: Option<Arc<dyn Any + Send + Sync>>,
}

impl Child {
    fn spawn(command: &Command) -> io::Result<Child> {
        let held = command.held.as_ref().map(|held| held.as_fd());
        let child = spawn::spawn(&command.program, &command.args, &command.env, &command.cwd, held)?;
        // From here on dropping it ends the group.
        let mut started = Child {
            stdin: None,
            stdout: None,
            pid: child.pid,
            reaper: child.reaper,
            stderr: StderrTail::default(),
            reaped: false,
            _uses: command.uses.clone(),
        };
        started.stdin = Some(pipe::Sender::from_owned_fd(child.stdin)?);
        started.stdout = Some(pipe::Receiver::from_owned_fd(child.stdout)?);
        started.stderr = StderrTail::read(pipe::Receiver::from_owned_fd(child.stderr)?);
        Ok(started)
    }

    /// The process id, for logs.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves when the leader has ended, reaped or not. Never resolves where the kernel cannot
    /// tell; then the end of its output does.
    pub async fn ended(&self) {
        self.reaper.ended().await;
    }

    /// Kills what is left of the group, for a leader that has ended while its descendants hold
    /// the pipes open.
    pub fn kill_group(&self) {
        if !self.reaped {
            signal_group(self.pid, Signal::Kill);
        }
    }

    /// Waits for the end of a child that closed its output, then reaps it and drains stderr.
    /// After `patience` it is ended like [`Child::stop`] does.
    ///
    /// # Errors
    /// What wait(2) said.
    pub async fn finish(mut self, patience: Duration) -> io::Result<(ExitStatus, String)> {
        drop(self.stdin.take());
        drop(self.stdout.take());
        let status = self.end_within(patience).await?;
        Ok((status, self.stderr.finish().await))
    }

    /// Ends the group: stdin closed and TERM, then KILL; always reaped. Returns stderr's tail.
    pub async fn stop(mut self) -> String {
        drop(self.stdin.take());
        drop(self.stdout.take());
        if !self.reaped {
            signal_group(self.pid, Signal::Terminate);
        }
        if let Err(error) = self.end_within(GRACE).await {
            tracing::warn!(pid = self.pid, %error, "cannot reap a codex process");
        }
        self.stderr.finish().await
    }

    /// Waits for the leader's end, then kills whatever of its group still runs, and reaps it.
    async fn end_within(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        #[cfg(target_os = "linux")]
        let _ = tokio::time::timeout(patience, self.reaper.ended()).await;
        #[cfg(not(target_os = "linux"))]
        if let Ok(status) = tokio::time::timeout(patience, self.reaper.reap()).await {
            // Nothing else to go by here: the group's id is free from now on, but a process that
            // took it within these microseconds is not to be expected.
            self.kill_group();
            self.reaped = true;
            return status;
        }
        // The leader, ended or not, still holds the group's id.
        self.kill_group();
        let status = self.reaper.reap().await?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The reaper sees to the killed leader in the background.
        self.kill_group();
    }
}

/// Reads stderr to its end, remembering the tail.
///
/// Read even when unused: a full pipe stalls the child in the middle of its work.
#[derive(Debug, Default)]
struct StderrTail {
    tail: Arc<Mutex<Vec<u8>>>,
    task: Option<JoinHandle<()>>,
}

impl StderrTail {
    fn read(mut pipe: impl AsyncRead + Unpin + Send + 'static) -> StderrTail {
        let mut this = StderrTail::default();
        let tail = Arc::clone(&this.tail);
        this.task = Some(tokio::spawn(async move {
            let mut chunk = [0; 1024];
            while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend_from_slice(&chunk[..read]);
                let excess = tail.len().saturating_sub(STDERR_TAIL);
                tail.drain(..excess);
            }
        }));
        this
    }

    fn text(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail).trim().to_owned()
    }

    async fn finish(&mut self) -> String {
        if let Some(mut task) = self.task.take() {
            // A descendant outside the group may hold the pipe; its chatter is not waited for.
            if tokio::time::timeout(GRACE, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Lines;

    fn sh(script: &str) -> Command {
        Command {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Arc::new([("PATH".into(), "/usr/bin:/bin".into())]),
            cwd: "/".into(),
            held: None,
            uses: None,
        }
    }

    fn alive(pid: u32) -> bool {
        // A zombie has no command line.
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
    }

    async fn until(mut condition: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the condition never came true");
    }

    async fn first_line(child: &mut Child) -> u32 {
        let mut lines = Lines::new(child.stdout.take().unwrap(), 100);
        let line = lines.next().await.unwrap().unwrap().to_vec();
        String::from_utf8(line).unwrap().parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_child_is_the_first_choice_when_memory_runs_out() {
        let own = || std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let before = own();
        let child = Spawner::start().unwrap().spawn(sh("read never")).await.unwrap();
        let path = format!("/proc/{}/oom_score_adj", child.pid());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "1000\n");
        assert_eq!(own(), before, "nobody else is");
    }

    #[tokio::test]
    async fn output_status_and_stderr_are_collected() {
        let spawner = Spawner::start().unwrap();
        let (status, stdout, stderr) =
            spawner.output(sh("echo out; echo err >&2; exit 3"), Duration::from_secs(10)).await.unwrap();
        assert_eq!((status.code(), stdout.as_slice(), stderr.as_str()), (Some(3), &b"out\n"[..], "err"));
    }

    #[tokio::test]
    async fn the_environment_is_only_what_was_given() {
        let spawner = Spawner::start().unwrap();
        let (_, stdout, _) = spawner
            .output(sh("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL="), Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(String::from_utf8(stdout).unwrap(), "PATH=/usr/bin:/bin\n");
    }

    /// The test runs itself as a child, since the limit is the whole process's.
    #[test]
    fn children_get_the_old_limit_and_no_descriptor_of_ours() {
        const NAME: &str = "process::child::tests::children_get_the_old_limit_and_no_descriptor_of_ours";
        const CHILD: &str = "TEST_RAISED_LIMIT";
        if std::env::var_os(CHILD).is_some() {
            crate::os::descriptors::raise().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let told = runtime.block_on(async {
                let spawner = Spawner::start().unwrap();
                // The shell's own: what it reads the folder by.
                let script = "ulimit -Sn; ulimit -Hn; for fd in /proc/$$/fd/*; do echo ${fd##*/}; done";
                spawner.output(sh(script), Duration::from_secs(10)).await.unwrap().1
            });
            let told = String::from_utf8(told).unwrap().replace('\n', " ");
            println!("\nours {} child {told}", crate::os::descriptors::limit().unwrap());
            return;
        }
        let output = std::process::Command::new("bash")
            // Descriptor 9 is one that whoever started us left open.
            .args([
                "-c",
                "ulimit -Sn 300; ulimit -Hn 4000; exec 9</dev/null; exec \"$0\" --exact \"$1\" --nocapture",
            ])
            .arg(std::env::current_exe().unwrap())
            .arg(NAME)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found = text.lines().find(|line| line.starts_with("ours ")).unwrap_or(&text);
        let descriptors = if cfg!(target_os = "linux") { "0 1 2 " } else { "* " };
        assert_eq!(
            found.split_once(" 3 ").map_or(found, |(before, _)| before).trim_end(),
            format!("ours 4000 child 300 4000 {descriptors}").trim_end()
        );
    }

    #[tokio::test]
    async fn a_missing_program_and_a_missing_directory_are_errors() {
        let spawner = Spawner::start().unwrap();
        let mut missing = sh("");
        missing.program = "/nonexistent/program".into();
        assert_eq!(spawner.spawn(missing).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut nowhere = sh("");
        nowhere.cwd = "/nonexistent".into();
        assert_eq!(spawner.spawn(nowhere).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn stop_ends_a_child_that_ignores_term_and_its_children() {
        let spawner = Spawner::start().unwrap();
        let mut child = spawner.spawn(sh("trap '' TERM; sleep 1000 & echo $!; wait")).await.unwrap();
        let (leader, grandchild) = (child.pid(), first_line(&mut child).await);
        child.stop().await;
        until(|| !alive(leader) && !alive(grandchild)).await;
    }

    #[tokio::test]
    async fn dropping_kills_the_group() {
        let spawner = Spawner::start().unwrap();
        let mut child = spawner.spawn(sh("sleep 1000 & echo $!; wait")).await.unwrap();
        let (leader, grandchild) = (child.pid(), first_line(&mut child).await);
        drop(child);
        until(|| !alive(leader) && !alive(grandchild)).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn descendants_that_outlive_the_leader_are_ended() {
        let spawner = Spawner::start().unwrap();
        let mut child = spawner.spawn(sh("sleep 1000 & echo $!")).await.unwrap();
        let grandchild = first_line(&mut child).await;
        child.ended().await;
        let (status, _) = child.finish(GRACE).await.unwrap();
        assert_eq!(status.code(), Some(0));
        until(|| !alive(grandchild)).await;
    }

    #[tokio::test]
    async fn a_flood_on_stderr_neither_stalls_nor_grows() {
        let spawner = Spawner::start().unwrap();
        let script = "i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done >&2; echo last >&2";
        let (status, _, stderr) = spawner.output(sh(script), Duration::from_secs(60)).await.unwrap();
        assert_eq!(status.code(), Some(0));
        assert!(stderr.len() <= STDERR_TAIL && stderr.ends_with("last"), "{} {stderr:?}", stderr.len());
    }
}
