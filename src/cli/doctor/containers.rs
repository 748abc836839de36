//! Whether containers of this machine can call: where a bridge of Docker or Podman is there, somebody
//! will try.

use std::path::Path;

use super::report::Finding;
use crate::cli::service::Address;
use crate::config::Config;

/// The bridges of Docker and Podman that exist here.
pub(super) fn bridges() -> Vec<String> {
    let interfaces = std::fs::read_dir(Path::new("/sys/class/net")).into_iter().flatten().flatten();
    let mut found: Vec<String> = interfaces
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_bridge(name))
        .collect();
    found.sort();
    found
}

fn is_bridge(name: &str) -> bool {
    let of_network = |id: &str| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    name == "docker0" || is_podmans(name) || name.strip_prefix("br-").is_some_and(of_network)
}

fn is_podmans(name: &str) -> bool {
    let numbered = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    ["podman", "cni-podman"].iter().any(|kind| name.strip_prefix(kind).is_some_and(numbered))
}

/// By which name, and to which address, containers behind these bridges call.
pub(super) fn look(config: &Config, places: &[Address], bridges: &[String]) -> Option<Finding> {
    let (podmans, dockers): (Vec<&String>, Vec<&String>) = bridges.iter().partition(|name| is_podmans(name));
    let names = [(dockers.first(), "host.docker.internal"), (podmans.first(), "host.containers.internal")];
    let names: Vec<&str> = names.iter().filter_map(|(bridge, name)| bridge.map(|_| *name)).collect();
    let name = *names.first()?;
    let port = places.iter().find_map(Address::reachable).map_or(config.port, |address| address.port());
    let allowed = |name: &str| {
        let with_port = format!("{name}:{port}");
        config.allowed_hosts.iter().any(|host| *host == name || *host == with_port)
    };
    let refused: Vec<&str> = names.iter().copied().filter(|name| !allowed(name)).collect();
    let is_loopback = |place: &Address| match place {
        Address::Tcp(address) => address.ip().is_loopback(),
        Address::Unix(_) => true,
    };
    let unreachable = places.iter().all(is_loopback);
    let bridges = bridges.join(", ");
    let mut lacks = vec![];
    if unreachable {
        lacks.push("a server on a loopback address cannot be reached from a bridge".to_owned());
    }
    if !refused.is_empty() {
        lacks.push(format!("requests to {} are refused (403)", refused.join(" and ")));
    }
    let mut finding = match (unreachable, refused.is_empty()) {
        (false, true) => {
            let text = format!("those behind {bridges} reach the service as http://{name}:{port}/v1");
            return Some(Finding::good("containers", text));
        }
        // Nobody seems to want it.
        (true, false) => {
            Finding::good("containers", format!("cannot call from {bridges}: {}", lacks.join("; ")))
        }
        // One of both was set: somebody wants it.
        _ => Finding::mind("containers", format!("cannot call from {bridges}: {}", lacks.join("; "))),
    };
    if !refused.is_empty() {
        let all: Vec<&str> = config.allowed_hosts.iter().map(String::as_str).chain(refused).collect();
        finding = finding
            .fix(format!("to allow the name: codex-api-proxy config set allowed_hosts {}", all.join(" ")));
    }
    if unreachable {
        let key = if config.keys.is_empty() { " --api-key-file FILE" } else { "" };
        finding = finding.fix(format!(
            "to be reached, by all that reach this machine: codex-api-proxy restart --host 0.0.0.0{key}"
        ));
    }
    Some(match names.contains(&"host.docker.internal") {
        true => finding
            .fix("the name is in a container of docker run --add-host=host.docker.internal:host-gateway …"),
        false => finding,
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn bridges_of_docker_and_podman_are_known() {
        for (name, expect) in [
            ("docker0", true),
            ("br-0123456789ab", true),
            ("podman0", true),
            ("podman12", true),
            ("cni-podman0", true),
            ("br-lan", false),
            ("br0", false),
            ("podman", false),
            ("eth0", false),
            ("docker_gwbridge", false),
        ] {
            assert_eq!(is_bridge(name), expect, "{name}");
        }
    }

    #[test]
    fn containers_need_a_name_and_an_address() {
        let (docker, podman) = ("host.docker.internal", "host.containers.internal");
        let unreached = "a server on a loopback address cannot be reached from a bridge";
        for (bridges, hosts, place, expect) in [
            (&[][..], &[][..], "127.0.0.1:1", None),
            (
                &["docker0"],
                &[],
                "127.0.0.1:1",
                Some((Verdict::Good, vec![unreached, "to host.docker.internal are refused (403)"], 3)),
            ),
            (&["docker0"], &[docker], "[::1]:1", Some((Verdict::Mind, vec![unreached], 2))),
            (
                &["podman0"],
                &[docker],
                "0.0.0.0:1",
                Some((Verdict::Mind, vec!["to host.containers.internal are refused (403)"], 1)),
            ),
            (
                &["br-0123456789ab", "podman0"],
                &[],
                "0.0.0.0:1",
                Some((
                    Verdict::Mind,
                    vec!["to host.docker.internal and host.containers.internal are refused"],
                    2,
                )),
            ),
            (
                &["docker0", "podman0"],
                &[docker, podman],
                "172.17.0.1:1",
                Some((
                    Verdict::Good,
                    vec!["docker0, podman0 reach the service as http://host.docker.internal:1/v1"],
                    0,
                )),
            ),
            (
                &["docker0"],
                &["host.docker.internal:1"],
                "172.17.0.1:1",
                Some((Verdict::Good, vec!["reach"], 0)),
            ),
            (
                &["docker0"],
                &["host.docker.internal:2"],
                "172.17.0.1:1",
                Some((Verdict::Mind, vec!["refused"], 2)),
            ),
        ] {
            let config = Config {
                allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
                ..Config::default()
            };
            let bridges: Vec<String> = bridges.iter().map(|name| (*name).to_owned()).collect();
            let found = look(&config, &[Address::parse(place).unwrap()], &bridges);
            let Some((verdict, parts, fixes)) = expect else {
                assert_eq!(found, None);
                continue;
            };
            let found = found.unwrap();
            assert_eq!((found.verdict, found.fixes.len()), (verdict, fixes), "{found:?}");
            assert!(parts.iter().all(|part| found.text.contains(part)), "{found:?}");
        }
    }

    #[test]
    fn what_is_allowed_already_stays_so() {
        let config = Config { allowed_hosts: vec!["proxy.lan".into()], ..Config::default() };
        let found = look(&config, &[Address::parse("127.0.0.1:1").unwrap()], &["docker0".into()]).unwrap();
        assert_eq!(
            found.fixes[..2],
            [
                "to allow the name: codex-api-proxy config set allowed_hosts proxy.lan host.docker.internal",
                "to be reached, by all that reach this machine: codex-api-proxy restart --host 0.0.0.0 \
                 --api-key-file FILE",
            ]
        );
    }
}
