//! The port: free, held by the service, or by whom.

use super::report::Finding;
use crate::cli::probe::Holder;
use crate::cli::readiness::{addresses, addresses_of};
use crate::cli::service::{Service, State};
use crate::config::Config;
use crate::os::listen;

/// How it is with the port, beside that service.
pub(super) fn look(config: &Config, service: Option<&Service>) -> Finding {
    let listening = service.is_some_and(|service| {
        service.socket.listening || matches!(service.state, State::Running | State::Starting)
    });
    if let (true, Some(service)) = (listening, service) {
        let places: Vec<String> = addresses(service, config).iter().map(ToString::to_string).collect();
        return Finding::good("port", format!("the service listens on {}", places.join(", ")));
    }
    let wanted = format!("{} port {}", config.host, config.port);
    let Err(why) = listen::bind(&config.host, config.port) else {
        return Finding::good("port", format!("{wanted} is free"));
    };
    let another = "codex-api-proxy config set port 8766";
    let address = addresses_of(config).into_iter().find_map(|address| address.reachable());
    let Some(address) = address.filter(|_| why.contains("in use")) else {
        return Finding::broken("port", why).fix(another);
    };
    let holder = Holder::of(address);
    if !matches!(holder, Holder::Ours(_)) || holder.is_foreign() {
        return Finding::broken("port", holder.explain(address)).fix(another);
    }
    let text = format!("{address} is held by codex-api-proxy serve{}", holder.whose());
    let starts = service.is_some_and(|service| service.enabled || service.socket.enabled);
    match (starts, holder.how_to_end()) {
        // Whoever has no service, or has it not started, may well mean it.
        (false, _) => Finding::good("port", text),
        (true, end) => {
            let text = format!("{text}; the service, which is started at login, cannot have it");
            let finding = Finding::mind("port", text).fix(another);
            match end {
                Some(end) => finding.fix(format!("or end that one: {end}")),
                None => finding,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn a_port_in_use_names_its_holder() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port_number = listener.local_addr().unwrap().port();
        let config = Config { port: port_number, ..Config::default() };
        // A process that another test just begins holds what is ours, until it runs its program.
        let becomes = |expected: &dyn Fn(&Finding) -> bool| {
            (0..500).any(|_| {
                expected(&look(&config, None)) || {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    false
                }
            })
        };
        let own = std::process::id().to_string();
        assert!(becomes(&|finding| finding.verdict == Verdict::Broken && finding.text.contains(&own)));
        drop(listener);
        assert!(becomes(&|finding| finding.verdict == Verdict::Good));
    }
}
