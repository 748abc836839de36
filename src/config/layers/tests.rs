use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tempfile::TempDir;

use super::*;
use crate::config::{Key, Secret};

/// A machine of its own: `/etc`, a home and a working directory.
struct World {
    dir: TempDir,
    sources: Sources,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            dir.path().join(name)
        };
        let sources = Sources {
            etc_dir: Some(at("etc")),
            user_dir: Some(at("user")),
            home: Some(at("home")),
            cwd: at("cwd"),
            uid: dir.path().metadata().unwrap().uid(),
            ..Sources::default()
        };
        World { sources, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
        self.mode(name, 0o600);
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn env(&mut self, name: &str, value: &str) {
        self.sources.env.push((name.into(), value.into()));
    }

    fn flag(&mut self, key: &'static str, value: &str) {
        self.sources.flags.push((key, vec![value.into()]));
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap()
    }

    /// The error lines, the world's folder written as `@`.
    fn errors(&self) -> Vec<String> {
        let errors = load(&self.sources).unwrap_err();
        errors.lines.iter().map(|line| line.replace(self.dir.path().to_str().unwrap(), "@")).collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.load().warnings.iter().map(|line| line.replace(self.dir.path().to_str().unwrap(), "@")).collect()
    }
}

#[test]
fn later_layers_win() {
    let mut world = World::new();
    let port = |world: &World| {
        let loaded = world.load();
        (loaded.config.port, loaded.origins["port"].clone())
    };
    assert_eq!(port(&world), (8765, Origin::Default));
    for (at, name) in [
        "etc/config.toml",
        "etc/config.d/10.toml",
        "etc/config.d/20.toml",
        "user/config.toml",
        "user/config.d/1.toml",
    ]
    .into_iter()
    .enumerate()
    {
        world.file(name, &format!("port = {at}"));
        assert_eq!(port(&world), (at as u16, Origin::File(world.path(name))));
    }
    world.file("named.toml", "port = 10");
    world.env("CODEX_PROXY_CONFIG", world.path("named.toml").to_str().unwrap());
    assert_eq!(port(&world), (10, Origin::File(world.path("named.toml"))));
    world.file("cwd/other.toml", "port = 11");
    world.sources.config_file = Some("other.toml".into());
    assert_eq!(port(&world), (11, Origin::File(world.path("cwd/other.toml"))));
    world.env("CODEX_PROXY_PORT", "12");
    assert_eq!(port(&world), (12, Origin::Environment("CODEX_PROXY_PORT".into())));
    world.flag("port", "13");
    assert_eq!(port(&world), (13, Origin::Flag("--port".into())));

    let read: Vec<_> = world
        .load()
        .files
        .into_iter()
        .map(|(path, exists)| (path.file_name().unwrap().to_owned(), exists))
        .collect();
    let expect = ["config.toml", "10.toml", "20.toml", "config.toml", "1.toml", "other.toml"];
    assert_eq!(read, expect.map(|name| (OsString::from(name), true)));
}

fn named(keys: &[(&str, &str)]) -> Vec<Key> {
    keys.iter().map(|(name, key)| Key { name: (*name).into(), secret: Secret::new(*key) }).collect()
}

#[test]
fn a_key_is_taken_as_written_without_what_an_editor_adds() {
    for (text, key, warning) in [
        ("\u{feff}secret", "secret", None),
        (
            "'secret'",
            "'secret'",
            Some("the quotes are taken as a part of the key; callers must send them, too"),
        ),
        (
            "KEY=secret",
            "KEY=secret",
            Some("`NAME=` is taken as a part of the key; callers must send it, too"),
        ),
    ] {
        let mut world = World::new();
        world.env("CODEX_PROXY_API_KEY", text);
        assert_eq!(world.load().config.keys, named(&[("key-1", key)]), "{text}");
        let warning = warning.map(|why| format!("environment CODEX_PROXY_API_KEY: api_key: {why}"));
        assert_eq!(world.warnings(), Vec::from_iter(warning), "{text}");
    }
}

#[test]
fn the_credential_stands_between_environment_and_flags() {
    let mut world = World::new();
    world.sources.credentials_dir = Some(world.path("credentials"));
    world.env("CODEX_PROXY_API_KEY", "from-env");
    assert_eq!(world.load().config.keys, named(&[("key-1", "from-env")]));
    world.file("credentials/api-key", "12345\n");
    assert_eq!(world.load().config.keys, named(&[("key-1", "12345")]));
    assert_eq!(world.load().origins["api_key"], Origin::Credential(world.path("credentials/api-key")));
    world.file("credentials/api-key", "\u{feff}alice KEY=1\n");
    assert_eq!(world.load().config.keys, named(&[("alice", "KEY=1")]));
    let assigned = "`NAME=` is taken as a part of the key; callers must send it, too";
    assert_eq!(world.warnings(), [format!("@/credentials/api-key line 1: {assigned}")]);
    world.flag("api_key", "from-flag");
    assert_eq!(world.load().config.keys, named(&[("key-1", "from-flag")]));
    world.file("credentials/api-key", "\n");
    assert_eq!(world.errors(), ["@/credentials/api-key holds no key"]);
    world.file("credentials/api-key", "a\nb\n");
    assert_eq!(world.errors(), ["@/credentials/api-key must hold one key; api_key_file takes several"]);
}

#[test]
fn lists_replace_lists_and_empty_variables_are_unset() {
    let mut world = World::new();
    world.file(
        "etc/config.toml",
        "codex_configs = [\"a=1\", \"b=2\"]\nmodel_aliases = { a = \"b\" }\nmodel = \"m\"",
    );
    world.env("CODEX_PROXY_MODEL", "");
    world.env("CODEX_PROXY_NO_SUCH", "");
    world.env("CODEX_PROXY_CONFIG", "");
    world.env("CODEX_PROXY_MODEL_ALIASES", "c=d;;*=e");
    world.flag("codex_configs", "c=3");
    let config = world.load().config;
    assert_eq!(config.codex_configs, ["c=3"]);
    assert_eq!(config.model.as_deref(), Some("m"));
    assert_eq!(config.model_aliases, [("c".into(), "d".into()), ("*".into(), "e".into())]);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let mut world = World::new();
    world.file("etc/config.toml", "# x\nprot = 1\nport = \"80\"\n\nzzz = 1\nworkers = 0\n");
    world.file("user/config.toml", "port = 1\nhost = = 2\n");
    world.file("user/config.d/1.toml", "api_key = \"hunter 2\"\n[codex]\nbin = \"x\"\n");
    world.env("CODEX_PROXY_PORT", "99999");
    world.env("CODEX_PROXY_API_KEY", "hunter\t3");
    world.sources.env.push(("CODEX_PROXY_HOST".into(), OsString::from_vec(vec![0xff])));
    world.flag("timeout_seconds", "never");
    world.sources.config_file = Some("missing.toml".into());
    let found = world.errors();
    let expect = [
        "@/etc/config.toml:2: unknown setting `prot` (did you mean `port`?)",
        "@/etc/config.toml:3: port must be a whole number from 0 to 65535, not `\"80\"`",
        "@/etc/config.toml:5: unknown setting `zzz`",
        "@/etc/config.toml:6: workers must be a whole number from 1 to 256, not `0`",
        "@/user/config.toml:2:8: ",
        "@/user/config.d/1.toml:1: api_key must be visible ASCII characters without spaces, at least one (the value is not shown)",
        "@/user/config.d/1.toml:2: unknown setting `codex`",
        "@/cwd/missing.toml does not exist (--config or CODEX_PROXY_CONFIG)",
        "CODEX_PROXY_PORT: port must be a whole number from 0 to 65535, not `99999`",
        "CODEX_PROXY_API_KEY: api_key must be visible ASCII characters without spaces, at least one (the value is not shown)",
        "CODEX_PROXY_HOST: is not UTF-8 text",
        "--timeout-seconds: timeout_seconds must be a number of seconds from 0.01 to 31536000, not `never`",
    ];
    assert_eq!(found.len(), expect.len(), "{found:#?}");
    for (found, expect) in found.iter().zip(expect) {
        assert!(found.starts_with(expect), "{found}\n{expect}");
    }
    assert!(!found.iter().any(|line| line.contains("hunter")), "{found:#?}");
}

#[test]
fn a_syntax_error_does_not_quote_the_line() {
    let world = World::new();
    world.file("etc/config.toml", "api_key = hunter2\n");
    let found = world.errors();
    assert!(found[0].starts_with("@/etc/config.toml:1:11: ") && !found[0].contains("hunter2"), "{found:?}");
    world.file("etc/config.toml", "port = 1\nport = 2\n");
    assert!(world.errors()[0].starts_with("@/etc/config.toml:2:1: "), "{:?}", world.errors());
}

#[test]
fn wrong_flags_alone_are_a_usage_error() {
    let mut world = World::new();
    world.flag("port", "x");
    assert!(load(&world.sources).unwrap_err().only_flags);
    world.env("CODEX_PROXY_PORT", "x");
    assert!(!load(&world.sources).unwrap_err().only_flags);
}

#[test]
fn unknown_variables_warn() {
    let mut world = World::new();
    world.env("CODEX_PROXY_PROT", "1");
    world.env("CODEX_PROXY_port", "1");
    world.env("CODEX_PROXY_SOMETHING_ELSE", "1");
    assert_eq!(
        world.warnings(),
        [
            "CODEX_PROXY_PROT is not a setting and has no effect (did you mean `CODEX_PROXY_PORT`?)",
            "CODEX_PROXY_port is not a setting and has no effect (did you mean `CODEX_PROXY_PORT`?)",
            "CODEX_PROXY_SOMETHING_ELSE is not a setting and has no effect",
        ]
    );
}

#[test]
fn files_that_others_can_write_are_refused() {
    let world = World::new();
    world.file("etc/config.toml", "port = 1");
    world.mode("etc/config.toml", 0o602);
    world.file("user/config.d/1.toml", "port = 2");
    world.mode("user/config.d", 0o777);
    assert_eq!(
        world.errors(),
        [
            "@/etc/config.toml can be written by everybody: refused (chmod o-w)",
            "@/user/config.d can be written by everybody: refused (chmod o-w)",
        ]
    );
}

#[test]
fn loose_modes_warn() {
    let world = World::new();
    world.file("etc/config.toml", "api_key = \"k\"");
    assert_eq!(world.warnings(), Vec::<String>::new());
    world.mode("etc/config.toml", 0o664);
    assert_eq!(
        world.warnings(),
        [
            "@/etc/config.toml can be written by its group (chmod g-w)",
            "@/etc/config.toml holds a secret and has mode 0664: others can read it (chmod go-r)",
        ]
    );
    world.file("etc/config.toml", "port = 1");
    world.mode("etc/config.toml", 0o644);
    assert_eq!(world.warnings(), Vec::<String>::new());
}

#[test]
fn every_key_of_a_key_file_is_accepted() {
    let mut world = World::new();
    world.file("user/config.toml", "api_key_file = \"keys\"\napi_key = \"two\"");
    assert_eq!(world.errors(), ["api_key_file @/user/keys does not exist"]);
    world.file("user/keys", "# none yet\n");
    assert_eq!(world.errors(), ["api_key_file @/user/keys holds no key"]);
    world.file("user/keys", "one\ntwo\n");
    assert_eq!(world.load().config.keys, named(&[("key-1", "two"), ("key-2", "one")]));
    assert_eq!(world.warnings(), Vec::<String>::new());
    world.file("user/keys", "\u{feff}al two\nbob 'one'\nal three\n");
    assert_eq!(world.load().config.keys, named(&[("al", "two"), ("bob", "'one'"), ("al", "three")]));
    let quotes = "the quotes are taken as a part of the key; callers must send them, too";
    assert_eq!(world.warnings(), [format!("api_key_file @/user/keys line 2: {quotes}")]);
    world.file("user/keys", "alice one\nbob one\na b c\n");
    assert_eq!(world.errors(), ["api_key_file @/user/keys line 3 must be KEY or NAME KEY"]);
    world.file("user/keys", "alice one\nbob one\n");
    assert_eq!(
        world.errors(),
        [
            "api_key_file @/user/keys line 2: the key is that of line 1, which has another name; give each caller a \
             key of its own"
        ]
    );
    world.file("user/keys", "one\ntwo\n");
    world.mode("user/keys", 0o640);
    assert_eq!(world.warnings(), ["api_key_file @/user/keys has mode 0640: others can read it (chmod go-r)"]);
    world.mode("user/keys", 0o602);
    assert_eq!(world.errors(), ["api_key_file @/user/keys can be written by everybody: refused (chmod o-w)"]);
    world.mode("user/keys", 0o600);
    world.flag("api_key", "k");
    assert!(world.warnings()[0].starts_with("--api-key: other users can see the command line"));
}

#[test]
fn paths_start_where_they_stand() {
    let mut world = World::new();
    world.file(
        "etc/config.toml",
        "login_home = \"a\"\ncodex_bin = \"./codex\"\napp_server_codex_home = \"~/home\"",
    );
    world.env("CODEX_PROXY_DEFAULT_CWD", "work");
    let config = world.load().config;
    assert_eq!(config.login_home, Some(world.path("etc/a")));
    assert_eq!(config.codex_bin, world.path("etc/codex").to_str().unwrap());
    assert_eq!(config.app_server_codex_home, world.path("home/home"));
    assert_eq!(config.default_cwd, world.path("cwd/work"));
    assert_eq!(config.allowed_roots, [world.path("cwd/work")]);
}

#[test]
fn the_default_directory_lies_inside_a_root() {
    let mut world = World::new();
    world.flag("allowed_roots", "roots");
    let config = world.load().config;
    assert_eq!(config.default_cwd, world.path("cwd/roots"), "nobody set it: it follows the roots");
    world.flag("default_cwd", "elsewhere");
    assert_eq!(
        world.errors(),
        [
            "flag --default-cwd: default_cwd @/cwd/elsewhere must be inside allowed_roots (@/cwd/roots): add it to \
             these, or set default_cwd to a folder inside one of them"
        ]
    );
    for (cwd, inside) in
        [("roots", true), ("roots/a", true), ("roots-b", false), ("roots/../x", false), ("link", true)]
    {
        fs::create_dir_all(world.path("cwd/roots/real")).unwrap();
        _ = std::os::unix::fs::symlink(world.path("cwd/roots/real"), world.path("cwd/link"));
        world.sources.flags.truncate(1);
        world.flag("default_cwd", cwd);
        assert_eq!(load(&world.sources).is_ok(), inside, "{cwd}");
    }
}

#[test]
fn bytes_in_memory_hold_at_least_one_body() {
    let mut world = World::new();
    world.file("etc/config.toml", "max_buffered_bytes = 100\nmax_body_bytes = 100");
    assert_eq!(world.load().config.max_buffered_bytes, 100);
    world.env("CODEX_PROXY_MAX_BUFFERED_BYTES", "99");
    world.file("etc/config.toml", "max_body_bytes = 100");
    assert_eq!(
        world.errors(),
        [
            "environment CODEX_PROXY_MAX_BUFFERED_BYTES: max_buffered_bytes (99) must be at least max_body_bytes (100)"
        ]
    );
}

#[test]
fn zero_means_off_only_where_it_says_so() {
    let mut world = World::new();
    world.flag("first_event_timeout_seconds", "0");
    world.flag("queue_timeout_seconds", "0");
    let config = world.load().config;
    assert_eq!(config.first_event_timeout_seconds, None);
    assert_eq!(config.queue_timeout(), std::time::Duration::ZERO);
}

#[test]
fn what_is_allowed_but_odd_is_said() {
    for (key, value, expect) in [
        ("host", "0.0.0.0", Some("host = 0.0.0.0 without a key")),
        ("host", "example.com", Some("host = example.com without a key")),
        ("host", "::1", None),
        ("host", "127.8.8.8", None),
        ("host", "localhost", None),
        ("workers", "2", Some("workers is unused with engine = exec")),
        ("parked_seconds", "2", Some("parked_seconds is unused with engine = exec")),
        ("max_concurrency", "2", None),
        ("isolation", "shared", Some("isolation = shared")),
        ("agent_reads", "host", Some("agent_reads = host")),
        ("first_event_timeout_seconds", "300", Some("first_event_timeout_seconds has no effect")),
        ("first_event_timeout_seconds", "299", None),
        ("proxy", "http://u:p@h", Some("--proxy: other users")),
        ("proxy", "http://h", None),
    ] {
        let mut world = World::new();
        world.flag(key, value);
        let found = world.warnings();
        assert_eq!(found.len(), usize::from(expect.is_some()), "{key} {value}: {found:?}");
        assert!(expect.is_none_or(|expect| found[0].starts_with(expect)), "{key} {value}: {found:?}");
    }
    let mut world = World::new();
    for (key, value) in
        [("engine", "app-server"), ("max_concurrency", "2"), ("fast", "1"), ("codex_configs", "a=b")]
    {
        world.flag(key, value);
    }
    assert_eq!(
        world.warnings(),
        [
            "max_concurrency is unused with engine = app-server",
            "fast has no effect because codex_configs is set"
        ]
    );
}

#[test]
fn given_is_what_variables_and_flags_say() {
    let mut world = World::new();
    world.file("user/config.toml", "host = \"::1\"\nport = 1");
    world.env("CODEX_PROXY_PORT", "2");
    world.env("CODEX_PROXY_MODEL", "m");
    world.flag("port", "3");
    let (given, _) = given(&world.sources).unwrap();
    let given: Vec<_> =
        given.iter().map(|(key, value)| (*key, super::super::schema::to_toml(value).to_string())).collect();
    assert_eq!(given, [("model", "\"m\"".to_owned()), ("port", "3".to_owned())]);
}

#[test]
fn without_a_home_the_state_must_have_a_place() {
    let sources = Sources { cwd: "/".into(), ..Sources::default() };
    assert!(load(&sources).unwrap_err().to_string().contains("HOME is not set"));
    let sources = Sources { state_directory: Some("/var/lib/x".into()), ..sources };
    let config = load(&sources).unwrap().config;
    assert_eq!((config.default_cwd, config.state_dir), ("/var/lib/x/workspace".into(), "/var/lib/x".into()));
}

#[test]
fn the_defaults_are_those_of_the_original() {
    let config = defaults(Path::new("/h"));
    assert_eq!(
        (config.host.as_str(), config.port, config.workers, config.max_queue_size, config.max_concurrency),
        ("127.0.0.1", 8765, 1, 64, 1)
    );
    assert_eq!((config.codex_bin.as_str(), config.ephemeral, config.fast), ("codex", true, false));
    assert_eq!((config.timeout_seconds.as_secs(), config.queue_timeout().as_secs()), (300, 300));
    assert_eq!(config.default_cwd, Path::new("/h/.codex-api-proxy/workspace"));
    assert_eq!(config.app_server_codex_home, Path::new("/h/.codex-api-proxy/codex-home"));
    assert_eq!(config.allowed_roots, std::slice::from_ref(&config.default_cwd));
    assert_eq!((config.max_body_bytes, config.max_buffered_bytes), (32 << 20, 256 << 20));
    assert!(!config.needs_key() && !config.open_to_strangers());
}
