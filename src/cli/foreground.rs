//! Servers that the service manager did not start: `serve` by hand, in a terminal or a container.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::probe::{Holder, HttpProbe};
use super::readiness::{addresses_of, why_not};
use super::service::{Address, sockets};
use crate::config::Config;

/// For each part of the answer of one.
const PATIENCE: Duration = Duration::from_secs(2);

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreground {
    /// Its process, if the system tells.
    pub pid: Option<u32>,
    /// Where it listens.
    pub address: Address,
    /// Whether it is ready, or why not. Asked only of what listens where the settings say: any other is
    /// none of our business, and being asked may keep it from going to sleep.
    pub ready: Option<Result<(), String>>,
}

impl Foreground {
    /// Those of this user that listen, but for the process of the service; and whose ever has its place.
    pub fn all(service: Option<u32>, config: &Config) -> Vec<Foreground> {
        let wanted = addresses_of(config).into_iter().find_map(|address| address.reachable());
        let wanted = wanted.filter(|_| service.is_none());
        let others = sockets::processes_of("codex-api-proxy").into_iter().filter(|pid| Some(*pid) != service);
        let mut found: Vec<Foreground> = others
            .filter_map(|pid| {
                let address = sockets::of_process(pid).into_iter().next()?;
                let ours = wanted.is_some() && address.reachable() == wanted;
                Some(Foreground { pid: Some(pid), ready: ours.then(|| is_ready(&address)), address })
            })
            .collect();
        // Where processes cannot be looked at, and where it is another user's.
        if let Some(address) = wanted
            && found.iter().all(|server| server.ready.is_none())
            && let Holder::Ours(listener) = Holder::of(address)
        {
            let pid = listener.process.map(|(pid, _)| pid);
            let address = Address::Tcp(address);
            found.push(Foreground { pid, ready: Some(is_ready(&address)), address });
        }
        // What the settings are about comes first.
        found.sort_by_key(|server| server.ready.is_none());
        found
    }

    /// A sentence that names it and says how to look at it.
    pub fn explain(&self) -> String {
        let process = self.pid.map_or(String::new(), |pid| format!(", process {pid}"));
        let ready = match &self.ready {
            Some(Ok(())) => ", and is ready".to_owned(),
            Some(Err(why)) => format!(", and is not ready ({})", why.trim_end_matches('.')),
            None => String::new(),
        };
        let look = match (&self.address, self.address.reachable()) {
            (_, Some(address)) => format!("curl http://{address}/ready"),
            (Address::Unix(path), None) => {
                format!("curl --unix-socket {} http://localhost/ready", path.display())
            }
            (Address::Tcp(address), None) => format!("curl http://{address}/ready"),
        };
        let end = self.pid.map_or(String::new(), |pid| format!("; to end it: kill {pid}"));
        format!(
            "codex-api-proxy serve runs on {}{process}{ready}. It was not started by the service \
             manager, and its log is where it was started. To look at it: {look}{end}",
            self.address
        )
    }

    /// The same for programs.
    pub fn json(&self) -> Json {
        json!({
            "pid": self.pid,
            "address": self.address.to_string(),
            "ready": self.ready.as_ref().map(Result::is_ok),
            "reason": self.ready.as_ref().and_then(|ready| ready.as_ref().err()),
        })
    }
}

/// Without a key: it may be anybody's.
fn is_ready(address: &Address) -> Result<(), String> {
    match (HttpProbe { path: "/ready", ..HttpProbe::default() }).send(address, PATIENCE) {
        Ok(page) if page.status == 200 => Ok(()),
        Ok(page) => Err(why_not(&page.body)),
        Err(error) => Err(format!("it cannot be reached ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_named_with_how_to_look_at_it() {
        let tcp = |text: &str| Address::parse(text).unwrap();
        for (server, expect) in [
            (
                Foreground { pid: Some(7), address: tcp("0.0.0.0:8765"), ready: Some(Ok(())) },
                "codex-api-proxy serve runs on 0.0.0.0:8765, process 7, and is ready. It was not started by the \
                 service manager, and its log is where it was started. To look at it: curl \
                 http://127.0.0.1:8765/ready; to end it: kill 7",
            ),
            (
                Foreground { pid: None, address: tcp("/run/it.sock"), ready: Some(Err("x.".into())) },
                "codex-api-proxy serve runs on unix:/run/it.sock, and is not ready (x). It was not started by the \
                 service manager, and its log is where it was started. To look at it: curl --unix-socket \
                 /run/it.sock http://localhost/ready",
            ),
            (
                Foreground { pid: Some(8), address: tcp("[::1]:80"), ready: None },
                "codex-api-proxy serve runs on [::1]:80, process 8. It was not started by the service manager, and \
                 its log is where it was started. To look at it: curl http://[::1]:80/ready; to end it: kill 8",
            ),
        ] {
            assert_eq!(server.explain(), expect);
        }
    }
}
