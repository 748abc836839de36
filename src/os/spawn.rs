//! Starting a child that leads its own process group and, on Linux, dies with this process.
//!
//! On Linux by clone(2) with a shared address space, as posix_spawn(3) does it: forking a
//! multi-threaded server copies page tables and makes every thread fault afterwards, which costs
//! more than all the rest of a turn's work; and posix_spawn has no parent-death signal.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitStatus;

use super::descriptors;

/// A child that runs, and our ends of its pipes.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id, and that of its group.
    pub pid: u32,
    /// To write to.
    pub stdin: OwnedFd,
    /// To read from.
    pub stdout: OwnedFd,
    /// To read from.
    pub stderr: OwnedFd,
    /// For its end.
    pub reaper: Reaper,
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::ffi::{CString, OsStr};
    use std::os::fd::{FromRawFd, RawFd};
    use std::os::unix::ffi::OsStrExt;
    use std::sync::atomic::{AtomicI32, Ordering};

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// Text for exec(3).
    fn c_string(text: &OsStr) -> io::Result<CString> {
        CString::new(text.as_bytes())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "an argument contains a NUL byte"))
    }

    /// The child's stack until exec; what runs on it is this file's `in_child` and libc wrappers.
    const STACK: usize = 64 << 10;

    /// Everything the child needs, prepared before it exists: it must not allocate.
    struct Plan {
        program: CString,
        argv: Vec<*const libc::c_char>,
        envp: Vec<*const libc::c_char>,
        cwd: CString,
        /// Entered instead of `cwd`; -1 if there is none.
        held: RawFd,
        stdio: [RawFd; 3],
        descriptors: Option<libc::rlimit>,
        parent: libc::pid_t,
        error: AtomicI32,
    }

    /// Starts `program` with exactly this environment in the directory `held`, or in `cwd` if none
    /// is held open. Blocks until it runs.
    ///
    /// Call it from a thread that lives as long as the process: the parent-death signal of
    /// prctl(2) fires when the *thread* that cloned ends. Must run inside the runtime.
    ///
    /// # Errors
    /// What clone, chdir or exec said. Linux before 5.2 has no `CLONE_PIDFD`.
    pub fn spawn(
        program: &Path,
        args: &[OsString],
        env: &[(OsString, OsString)],
        cwd: &Path,
        held: Option<BorrowedFd<'_>>,
    ) -> io::Result<Spawned> {
        let program = c_string(program.as_os_str())?;
        let args = args.iter().map(|arg| c_string(arg)).collect::<io::Result<Vec<_>>>()?;
        let env = env
            .iter()
            .map(|(name, value)| {
                let mut pair = name.clone();
                pair.push("=");
                pair.push(value);
                c_string(&pair)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (stdin_child, stdin) = pipe()?;
        let (stdout, stdout_child) = pipe()?;
        let (stderr, stderr_child) = pipe()?;

        let pointers = |first: Option<&CString>, rest: &[CString]| {
            let all = first.into_iter().chain(rest).map(|text| text.as_ptr());
            all.chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let plan = Plan {
            argv: pointers(Some(&program), &args),
            envp: pointers(None, &env),
            program: program.clone(),
            cwd: c_string(cwd.as_os_str())?,
            held: held.map_or(-1, |held| held.as_raw_fd()),
            stdio: [stdin_child.as_raw_fd(), stdout_child.as_raw_fd(), stderr_child.as_raw_fd()],
            descriptors: descriptors::of_children(),
            parent: own_pid(),
            error: AtomicI32::new(0),
        };
        let mut stack = vec![0_u128; STACK / size_of::<u128>()];
        let mut pidfd: RawFd = -1;
        let blocked = BlockedSignals::all();
        #[allow(unsafe_code)]
        // SAFETY: the child shares our memory but has a stack of its own, and CLONE_VFORK stops
        // this thread until the child has exec'd or exited, so `plan`, its strings and `stack`
        // outlive its use of them. It calls async-signal-safe functions only, with all signals
        // blocked, so no handler of ours runs in it.
        let pid = unsafe {
            let top = stack.as_mut_ptr_range().end.cast();
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
            let plan: *const Plan = &plan;
            libc::clone(in_child, top, flags, plan.cast_mut().cast(), &mut pidfd)
        };
        let clone_error = io::Error::last_os_error();
        drop(blocked);
        if pid < 0 {
            return Err(clone_error);
        }
        #[allow(unsafe_code)]
        // SAFETY: the kernel stored a fresh descriptor that nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        match plan.error.load(Ordering::Relaxed) {
            0 => {
                let reaper = Reaper::new(pid, pidfd).inspect_err(|_| end(pid))?;
                let pid = u32::try_from(pid).map_err(io::Error::other)?;
                first_to_go(pid);
                Ok(Spawned { pid, stdin, stdout, stderr, reaper })
            }
            error => {
                // It has exited already: waiting for it takes no time.
                wait(pid, 0)?;
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// When memory runs out, a turn is lost rather than the service and all its turns: each child is
    /// the first choice of the kernel, see proc_pid_oom_score_adj(5). Raising it is anybody's right;
    /// where /proc is hidden it stays as it was.
    ///
    /// Not done by the child before exec: until then it has our memory, and with it files in `/proc`
    /// that are root's; see [`keep_memory_private`](crate::os::process::keep_memory_private).
    fn first_to_go(pid: u32) {
        let path = format!("/proc/{pid}/oom_score_adj");
        // The kernel lets us go on a few microseconds before it has made the child's files its user's.
        for _ in 0..50 {
            match std::fs::write(&path, "1000") {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    std::thread::sleep(std::time::Duration::from_micros(20));
                }
                _ => return,
            }
        }
    }

    /// What the child does between clone and exec.
    extern "C" fn in_child(plan: *mut libc::c_void) -> libc::c_int {
        #[allow(unsafe_code)]
        // SAFETY: `plan` points to the parent's Plan, which outlives this; see `spawn`. Only
        // async-signal-safe functions are called, nothing allocates or unwinds.
        unsafe {
            let plan = &*plan.cast::<Plan>();
            if !run(plan) {
                plan.error.store(*libc::__errno_location(), Ordering::Relaxed);
            }
            libc::_exit(127)
        }
    }

    #[allow(unsafe_code)]
    /// Returns only on failure, with errno set.
    ///
    /// # Safety
    /// To be called in the child of `spawn` only.
    unsafe fn run(plan: &Plan) -> bool {
        // SAFETY: see `in_child`; the pointers of the plan are NUL-terminated arrays of strings.
        unsafe {
            // Handlers of ours must not run here once signals are unblocked, and ignored signals
            // (SIGPIPE) must not stay ignored in another program. What glibc keeps for itself it
            // refuses to change; exec resets that.
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            if libc::setpgid(0, 0) != 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return false;
            }
            // The parent may have died before the signal was armed.
            if libc::getppid() != plan.parent {
                libc::_exit(127);
            }
            // Before the descriptors 0 to 2 are replaced: it may be one of them.
            let entered = match plan.held {
                -1 => libc::chdir(plan.cwd.as_ptr()),
                held => libc::fchdir(held),
            };
            if entered != 0 {
                return false;
            }
            for (target, source) in plan.stdio.iter().enumerate() {
                if libc::dup2(*source, target as libc::c_int) < 0 {
                    return false;
                }
            }
            // Ours close on exec; what was open before us, nobody means for a child. Linux before
            // 5.11 cannot say it like this.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if let Some(limit) = &plan.descriptors
                && libc::setrlimit(libc::RLIMIT_NOFILE, limit) != 0
            {
                return false;
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            libc::execve(plan.program.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
            false
        }
    }

    fn own_pid() -> libc::pid_t {
        #[allow(unsafe_code)]
        // SAFETY: getpid(2) cannot fail.
        unsafe {
            libc::getpid()
        }
    }

    /// A pipe whose ends close on exec and are not 0, 1 or 2, which the child overwrites.
    fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        Ok((above_stdio(reader.into())?, above_stdio(writer.into())?))
    }

    fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
        if fd.as_raw_fd() > libc::STDERR_FILENO {
            return Ok(fd);
        }
        // Duplicates to the lowest free descriptor from 3 on, closing on exec.
        fd.try_clone()
    }

    /// All signals blocked in this thread, until dropped.
    struct BlockedSignals(libc::sigset_t);

    impl BlockedSignals {
        fn all() -> BlockedSignals {
            #[allow(unsafe_code)]
            // SAFETY: both sets are plain memory of ours, filled by the calls.
            unsafe {
                let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
                libc::sigfillset(&mut all);
                libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
                BlockedSignals(before)
            }
        }
    }

    impl Drop for BlockedSignals {
        fn drop(&mut self) {
            #[allow(unsafe_code)]
            // SAFETY: restores the mask that `all` read.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut());
            }
        }
    }

    /// Kills and reaps a child that cannot be watched.
    fn end(pid: libc::pid_t) {
        #[allow(unsafe_code)]
        // SAFETY: kill(2) has no memory effects; `pid` is a child of ours that was not reaped yet.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
        }
        if let Err(error) = wait(pid, 0) {
            tracing::warn!(%error, pid, "cannot reap a process that could not be watched");
        }
    }

    fn wait(pid: libc::pid_t, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
        use std::os::unix::process::ExitStatusExt;
        let mut status = 0;
        loop {
            #[allow(unsafe_code)]
            // SAFETY: waits for one child of ours, writing to our own integer.
            let done = unsafe { libc::waitpid(pid, &mut status, options) };
            match done {
                0 => return Ok(None),
                1.. => return Ok(Some(ExitStatus::from_raw(status))),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Waits for the child's end and reaps it.
    #[derive(Debug)]
    pub struct Reaper {
        pid: libc::pid_t,
        pidfd: Option<AsyncFd<OwnedFd>>,
    }

    impl Reaper {
        fn new(pid: libc::pid_t, pidfd: OwnedFd) -> io::Result<Reaper> {
            #[allow(unsafe_code)]
            // SAFETY: an `OwnedFd` names one open descriptor until it is dropped.
            let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
            Ok(Reaper { pid, pidfd: Some(registered?) })
        }

        /// Resolves when the child has ended, reaped or not.
        pub async fn ended(&self) {
            if let Some(pidfd) = &self.pidfd {
                // An error means that the runtime is going away, and with it who waits.
                let _ = pidfd.readable().await;
            }
        }

        /// Takes the child's status, once it has ended; its id is free from then on.
        ///
        /// # Errors
        /// What wait(2) said.
        pub async fn reap(&mut self) -> io::Result<ExitStatus> {
            self.ended().await;
            self.pidfd = None;
            wait(self.pid, 0)?.ok_or_else(|| io::Error::other("the child has not ended"))
        }
    }

    impl Drop for Reaper {
        /// Reaps a child that nobody waited for, which whoever drops this has killed.
        fn drop(&mut self) {
            let Some(pidfd) = self.pidfd.take() else { return };
            let pid = self.pid;
            if matches!(wait(pid, libc::WNOHANG), Ok(None))
                && let Ok(runtime) = tokio::runtime::Handle::try_current()
            {
                runtime.spawn(async move {
                    let _ = pidfd.readable().await;
                    let _ = wait(pid, libc::WNOHANG);
                });
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use super::*;
    use std::process::Stdio;

    /// Starts `program` with exactly this environment in the directory `held`, or in `cwd` if none
    /// is held open. Blocks until it runs; must run inside the runtime.
    ///
    /// # Errors
    /// What fork, chdir or exec said.
    pub fn spawn(
        program: &Path,
        args: &[OsString],
        env: &[(OsString, OsString)],
        cwd: &Path,
        held: Option<BorrowedFd<'_>>,
    ) -> io::Result<Spawned> {
        let mut builder = tokio::process::Command::new(program);
        builder.args(args).env_clear().envs(env.iter().cloned()).current_dir(cwd).process_group(0);
        builder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(held) = held {
            // The caller keeps it open until this returns, and the child has a copy.
            let held = held.as_raw_fd();
            #[allow(unsafe_code)]
            // SAFETY: fchdir(2) is async-signal-safe, and the closure does nothing else.
            unsafe {
                builder.pre_exec(move || match libc::fchdir(held) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                });
            }
        }
        if let Some(limit) = descriptors::of_children() {
            #[allow(unsafe_code)]
            // SAFETY: setrlimit(2) reads the closure's own structure; it is called between fork and
            // exec, allocates nothing and takes no lock.
            unsafe {
                builder.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                });
            }
        }
        let mut child = builder.spawn()?;
        let missing = || io::Error::other("the child has no pipes");
        Ok(Spawned {
            pid: child.id().ok_or_else(missing)?,
            stdin: child.stdin.take().ok_or_else(missing)?.into_owned_fd()?,
            stdout: child.stdout.take().ok_or_else(missing)?.into_owned_fd()?,
            stderr: child.stderr.take().ok_or_else(missing)?.into_owned_fd()?,
            reaper: Reaper { child },
        })
    }

    /// Waits for the child's end and reaps it.
    #[derive(Debug)]
    pub struct Reaper {
        child: tokio::process::Child,
    }

    impl Reaper {
        /// Never resolves: nothing here tells of an end without reaping. The end of the child's
        /// output does.
        pub async fn ended(&self) {
            std::future::pending().await
        }

        /// Takes the child's status, once it has ended; its id is free from then on.
        ///
        /// # Errors
        /// What wait(2) said.
        pub async fn reap(&mut self) -> io::Result<ExitStatus> {
            self.child.wait().await
        }
    }
}

#[cfg(target_os = "linux")]
pub use linux::{Reaper, spawn};
#[cfg(not(target_os = "linux"))]
pub use portable::{Reaper, spawn};
