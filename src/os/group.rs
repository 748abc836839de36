//! Which programs the processes of a group run: what a wrapper has started or become.

use std::path::PathBuf;

/// A process of the group.
struct Member {
    pid: u32,
    parent: u32,
}

/// The programs that run in the process group of `leader`, each once, those of the furthest descendants
/// first. Processes that have ended run none, nor do those that the system does not show.
///
/// Blocking: asks the system about every process of the group (Linux: of the machine).
pub fn programs(leader: u32) -> Vec<PathBuf> {
    let members = system::members(leader);
    let mut ordered: Vec<(usize, &Member)> =
        members.iter().map(|member| (depth(member, &members), member)).collect();
    ordered.sort_by_key(|(depth, member)| (std::cmp::Reverse(*depth), member.pid));
    let mut found: Vec<PathBuf> = Vec::new();
    for program in ordered.into_iter().filter_map(|(_, member)| system::program(member.pid)) {
        if !found.contains(&program) {
            found.push(program);
        }
    }
    found
}

/// How many of a member's ancestors are members too. The list is no snapshot, so it may even have a ring.
fn depth(member: &Member, members: &[Member]) -> usize {
    let parent = |member: &&Member| members.iter().find(|other| other.pid == member.parent);
    std::iter::successors(Some(member), parent).take(members.len()).count() - 1
}

#[cfg(not(target_os = "macos"))]
mod system {
    use super::{Member, PathBuf};

    /// By `/proc`, see proc(5). Without one there are none.
    pub fn members(leader: u32) -> Vec<Member> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let member = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name before, in parentheses, may hold anything.
            let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
            let (parent, group): (u32, u32) = (rest.next()?.parse().ok()?, rest.next()?.parse().ok()?);
            (group == leader).then_some(Member { pid, parent })
        };
        pids.filter_map(member).collect()
    }

    pub fn program(pid: u32) -> Option<PathBuf> {
        // The link of a program that was removed or replaced names no file.
        std::fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|path| path.exists())
    }
}

#[cfg(target_os = "macos")]
mod system {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::{Member, PathBuf};

    /// More than a wrapper has any use for.
    const MOST: usize = 256;

    /// By libproc, see `proc_listpgrppids` in `libproc.h`.
    pub fn members(leader: u32) -> Vec<Member> {
        let mut pids = [0 as libc::pid_t; MOST];
        let Ok(group) = libc::pid_t::try_from(leader) else { return Vec::new() };
        let bytes = libc::c_int::try_from(size_of_val(&pids)).unwrap_or_default();
        // SAFETY: the buffer has that many bytes.
        #[allow(unsafe_code)]
        let count = unsafe { libc::proc_listpgrppids(group, pids.as_mut_ptr().cast(), bytes) };
        let count = usize::try_from(count).unwrap_or_default().min(MOST);
        pids[..count].iter().filter_map(|&pid| member(pid)).collect()
    }

    fn member(pid: libc::pid_t) -> Option<Member> {
        let mut info = std::mem::MaybeUninit::<libc::proc_bsdinfo>::uninit();
        let size = libc::c_int::try_from(size_of::<libc::proc_bsdinfo>()).ok()?;
        // SAFETY: the buffer has that many bytes, and is read only if all of them were written.
        #[allow(unsafe_code)]
        let parent = unsafe {
            let told = libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, info.as_mut_ptr().cast(), size);
            (told == size).then(|| info.assume_init().pbi_ppid)
        };
        Some(Member { pid: u32::try_from(pid).ok()?, parent: parent? })
    }

    pub fn program(pid: u32) -> Option<PathBuf> {
        let mut path = vec![0; usize::try_from(libc::PROC_PIDPATHINFO_MAXSIZE).ok()?];
        let size = u32::try_from(path.len()).ok()?;
        // SAFETY: the buffer has that many bytes.
        #[allow(unsafe_code)]
        let length =
            unsafe { libc::proc_pidpath(libc::pid_t::try_from(pid).ok()?, path.as_mut_ptr().cast(), size) };
        path.truncate(usize::try_from(length).ok().filter(|length| *length > 0)?);
        Some(PathBuf::from(OsString::from_vec(path))).filter(|path| path.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn what_was_started_last_comes_first() {
        // `cat` runs below a shell below a shell; the trailing commands keep each from being replaced.
        let script = "sh -c 'echo ready; cat; true'; true";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        // What `cat` sends back it has read: it runs.
        std::io::Write::write_all(&mut input, b"back\n").unwrap();
        output.read_line(&mut line).unwrap();
        let found = programs(child.id());
        drop(input);
        child.wait().unwrap();
        let real = |name: &str| {
            let path = ["/bin", "/usr/bin"].map(|folder| PathBuf::from(folder).join(name));
            path.into_iter().find(|path| path.exists()).unwrap().canonicalize().unwrap()
        };
        assert_eq!(line, "ready\nback\n");
        assert_eq!(found, [real("cat"), real("sh")]);
        assert!(programs(child.id()).is_empty(), "nobody is left");
    }

    #[test]
    fn a_ring_in_a_list_that_is_no_snapshot_ends() {
        let members = [Member { pid: 2, parent: 3 }, Member { pid: 3, parent: 2 }];
        assert!(depth(&members[0], &members) < 2);
    }
}
