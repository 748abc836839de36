//! Writing settings files: the user's own, and the one that `start` keeps. Comments stay.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use figment::value::Value;
use toml_edit::{DocumentMut, Item};

use super::files;
use super::layers::{did_you_mean, nearest};
use super::schema::{Base, Setting, Shape, to_toml};
use super::shape::printable;

/// The setting of that key.
///
/// # Errors
/// A line that names the key and its nearest neighbour.
pub fn known(key: &str) -> Result<&'static Setting, String> {
    let near = || did_you_mean(nearest(key).map(|near| near.key.to_owned()));
    Setting::find(key).ok_or_else(|| format!("unknown setting `{}`{}", printable(key), near()))
}

/// Sets one key in the text of a settings file.
///
/// Several `values` are the entries of a list. A path that is relative to `base` becomes absolute,
/// since in the file it would be relative to the file; one that begins with `~` stays as it is.
///
/// # Errors
/// A line that names the key and what its value must be.
pub fn set(text: &str, key: &str, values: &[String], base: &Base) -> Result<String, String> {
    let setting = known(key)?;
    let is_list = matches!(setting.shape, Shape::List(..) | Shape::Pairs);
    if !is_list && values.len() != 1 {
        return Err(format!("{key} takes one value, not {}", values.len()));
    }
    // One text may hold a whole list, as a variable does; several are its entries.
    let value = match values {
        [only] => setting.shape.read_text(only, base),
        _ => setting.read_flags(values, base),
    };
    let value = value.map_err(|bad| setting.explain(&bad))?;
    let toml = match (&setting.shape, values) {
        (Shape::Path | Shape::Program, [only]) if only.starts_with('~') => only.as_str().into(),
        _ => to_toml(&value),
    };
    place(text, key, toml)
}

/// Puts a value, below its commented line of the example if it is new.
///
/// # Errors
/// If the text is not TOML.
pub(super) fn place(text: &str, key: &str, value: toml_edit::Value) -> Result<String, String> {
    let mut document = parse(text)?;
    if document.get(key).is_none()
        && let Some(text) = below_example(text, key, &value)
    {
        return Ok(text);
    }
    put(&mut document, key, value);
    Ok(document.to_string())
}

/// Puts a new key below its commented line of the example, where a reader looks for it.
fn below_example(text: &str, key: &str, value: &toml_edit::Value) -> Option<String> {
    let commented = format!("# {key} = ");
    let start = if text.starts_with(&commented) { 0 } else { text.find(&format!("\n{commented}"))? + 1 };
    let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let edited = format!("{}\n{key} = {value}{}", &text[..end], &text[end..]);
    // Below the header of a table, or within a long text, the line would mean something else.
    parse(&edited).ok()?.get(key)?.is_value().then_some(edited)
}

/// Removes one key from the text of a settings file; `None` if it is not there.
///
/// # Errors
/// A line that names the key.
pub fn unset(text: &str, key: &str) -> Result<Option<String>, String> {
    known(key)?;
    let mut document = parse(text)?;
    let found = toml_edit::Document::parse(text).ok();
    let span = found.as_ref().and_then(|found| {
        let (key, item) = found.as_table().get_key_value(key)?;
        Some(key.span()?.start..item.as_value()?.span()?.end)
    });
    if let Some(span) = span {
        // toml_edit would take the comments above the key away with it.
        let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at + 1);
        return Ok(Some(format!("{}{}", &text[..start], &text[end..])));
    }
    let Some(item) = document.remove(key) else { return Ok(None) };
    // A table with its header: what stood above it moves to the end of the file.
    let above =
        item.as_table().and_then(|table| table.decor().prefix()?.as_str()).unwrap_or_default().to_owned();
    if above.contains('#') {
        let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing(format!("{trailing}{above}"));
    }
    Ok(Some(document.to_string()))
}

/// Puts values, by key, into the text of a settings file; a list replaces the list there.
///
/// # Errors
/// If the text is not TOML.
pub fn merge(text: &str, values: &BTreeMap<&'static str, Value>) -> Result<String, String> {
    let mut document = parse(text)?;
    for (key, value) in values {
        put(&mut document, key, to_toml(value));
    }
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        format!("the file is not TOML: {} (config check names the line)", error.message())
    })
}

/// Replaces a value and keeps the comment behind it.
fn put(document: &mut DocumentMut, key: &str, mut value: toml_edit::Value) {
    match document.get_mut(key) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        Some(item @ Item::Table(_)) => {
            // `[model_aliases]` has its comment and place; only its entries change.
            let mut table =
                value.as_inline_table().cloned().map(toml_edit::InlineTable::into_table).unwrap_or_default();
            if let Item::Table(old) = item {
                *table.decor_mut() = old.decor().clone();
                table.set_position(old.position());
            }
            *item = Item::Table(table);
        }
        _ => _ = document.insert(key, Item::Value(value)),
    }
}

/// The text of a settings file to edit; `None` if there is none yet.
///
/// # Errors
/// A line that names the file: it is a link, not ours, or cannot be read.
pub fn read(path: &Path, uid: u32) -> Result<Option<String>, String> {
    // Writing replaces the file, which would cut a link off from what it leads to.
    if path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        return Err(format!("{} is a symbolic link: edit the file that it leads to", path.display()));
    }
    let file = files::read(path, uid).map_err(|why| format!("{} {why}", path.display()))?;
    Ok(file.map(|file| file.text))
}

/// Writes a file that only we can read, whole or not at all; makes its folder if need be.
///
/// # Errors
/// A line that names the file and what the system said.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let folder = path.parent().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = folder.join(name);
    let written = fill(&new, text).and_then(|()| std::fs::rename(&new, path)).and_then(|()| {
        // The rename itself is on disk only after its folder is.
        File::open(folder)?.sync_all()
    });
    written.map_err(|error| {
        // It may not exist, and what failed is told already.
        _ = std::fs::remove_file(&new);
        failed(error)
    })
}

fn fill(path: &Path, text: &str) -> std::io::Result<()> {
    // A leftover of a process that had our pid and died.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base<'static> {
        Base { home: None, folder: Path::new("/here") }
    }

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn set_keeps_everything_else() {
        let before = "# mine\nport = 1 # why\n\n[model_aliases] # names\na = \"b\"\n";
        for (key, values, expect) in [
            ("port", &["8080"][..], "# mine\nport = 8080 # why\n\n[model_aliases] # names\na = \"b\"\n"),
            (
                "host",
                &["::1"],
                "# mine\nport = 1 # why\nhost = \"::1\"\n\n[model_aliases] # names\na = \"b\"\n",
            ),
            ("model_aliases", &["x=y"], "# mine\nport = 1 # why\n\n[model_aliases] # names\nx = \"y\"\n"),
        ] {
            assert_eq!(set(before, key, &strings(values), &base()).as_deref(), Ok(expect), "{key}");
        }
    }

    #[test]
    fn every_shape_is_written_as_the_file_wants_it() {
        let home = Base { home: Some(Path::new("/home/me")), ..base() };
        for (key, values, expect) in [
            ("timeout_seconds", &["1.5"][..], "timeout_seconds = 1.5\n"),
            ("timeout_seconds", &["60"], "timeout_seconds = 60\n"),
            ("ephemeral", &["no"], "ephemeral = false\n"),
            ("default_cwd", &["work"], "default_cwd = \"/here/work\"\n"),
            ("default_cwd", &["~/work"], "default_cwd = \"~/work\"\n"),
            ("allowed_hosts", &["A,b"], "allowed_hosts = [\"a\", \"b\"]\n"),
            ("allowed_hosts", &["a", "b"], "allowed_hosts = [\"a\", \"b\"]\n"),
            ("codex_configs", &["a=1;;b=2"], "codex_configs = [\"a=1\", \"b=2\"]\n"),
            ("codex_configs", &["a=1", "b=;;"], "codex_configs = [\"a=1\", \"b=;;\"]\n"),
            ("allowed_roots", &["a:b"], "allowed_roots = [\"/here/a\", \"/here/b\"]\n"),
            ("model_aliases", &["a=b;;*=c"], "model_aliases = { a = \"b\", \"*\" = \"c\" }\n"),
            ("api_key", &["12345"], "api_key = \"12345\"\n"),
        ] {
            assert_eq!(set("", key, &strings(values), &home).as_deref(), Ok(expect), "{key}");
        }
    }

    #[test]
    fn bad_keys_and_values_change_nothing() {
        for (key, values, expect) in [
            ("prot", &["1"][..], "unknown setting `prot` (did you mean `port`?)"),
            ("port", &["70000"], "port must be a whole number from 0 to 65535, not `70000`"),
            ("port", &["1", "2"], "port takes one value, not 2"),
            ("port", &[], "port takes one value, not 0"),
        ] {
            assert_eq!(set("", key, &strings(values), &base()), Err(expect.to_owned()), "{key}");
        }
        let error = set("", "api_key", &strings(&["hunter 2"]), &base()).unwrap_err();
        assert!(error.starts_with("api_key must be") && !error.contains("hunter"), "{error}");
        assert!(set("port =", "port", &strings(&["1"]), &base()).is_err());
    }

    #[test]
    fn new_keys_stand_below_their_line_of_the_example() {
        let example = crate::config::render::example();
        let edited = set(&example, "port", &strings(&["80"]), &base()).unwrap();
        assert_eq!(edited, example.replace("# port = 8765\n", "# port = 8765\nport = 80\n"));
        assert_eq!(unset(&edited, "port"), Ok(Some(example)));
        let below_table = "[model_aliases]\n# port = 8765\na = \"b\"\n";
        let edited = set(below_table, "port", &strings(&["80"]), &base()).unwrap();
        assert_eq!(edited, format!("port = 80\n{below_table}"));
    }

    #[test]
    fn unset_removes_one_key() {
        let commented = "# above\nport = 1 # gone\n# below\n";
        assert_eq!(unset(commented, "port"), Ok(Some("# above\n# below\n".into())));
        assert_eq!(unset("port = 1", "port"), Ok(Some(String::new())));
        assert_eq!(unset("pass_env = [\n\"A\",\n]\nport = 1\n", "pass_env"), Ok(Some("port = 1\n".into())));
        let table = "port = 1\n\n# names\n[model_aliases]\na = \"b\"\n";
        assert_eq!(unset(table, "model_aliases"), Ok(Some("port = 1\n\n# names\n".into())));
        assert_eq!(unset("port = 1\nhost = \"a\"\n", "port"), Ok(Some("host = \"a\"\n".into())));
        assert_eq!(unset("host = \"a\"\n", "port"), Ok(None));
        assert!(unset("", "prot").is_err());
    }

    #[test]
    fn merge_replaces_lists() {
        let values = BTreeMap::from([("codex_configs", Value::from(vec!["b=2"])), ("port", 5u64.into())]);
        let merged = merge("codex_configs = [\"a=1\"]\nhost = \"::1\"\n", &values);
        assert_eq!(merged.as_deref(), Ok("codex_configs = [\"b=2\"]\nhost = \"::1\"\nport = 5\n"));
    }

    #[test]
    fn files_are_private_and_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.toml");
        write(&path, "a").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write(&path, "b").unwrap();
        assert_eq!((mode(&path), std::fs::read_to_string(&path).unwrap().as_str()), (0o600, "b"));
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);

        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link, 0).unwrap_err().contains("is a symbolic link"));
        assert!(write(&dir.path().join("new/config.toml/x"), "").is_err());
    }
}
