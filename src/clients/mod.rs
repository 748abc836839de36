//! The clients that are known by name, and the text that points one of them here: the verb `connect`
//! prints it, the page shows it.

mod table;

pub use table::{CLIENTS, Client, Needs, Start, WINDOW};

/// The model's name for clients: what the settings, or Codex, take by default.
pub const MODEL: &str = "codex-local";

/// What stands for the key where none is wanted; clients insist on one.
pub const NO_KEY: &str = "unused";

/// The variable of a person's shell that holds the key, where no file does.
pub const KEY_VARIABLE: &str = "CODEX_PROXY_API_KEY";

/// How a person comes by the key, which is itself never told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWords {
    /// Where it is, for people.
    pub from: String,
    /// Words of a shell that give it, the key itself not among them.
    pub shell: String,
    /// Whether they are the variable's, which the shell must have.
    variable: bool,
}

impl KeyWords {
    /// The first key of a key file.
    pub fn of_file(file: &str) -> KeyWords {
        let shell = format!("\"$(awk '!/^[ \\t]*(#|$)/ {{ print $NF; exit }}' {})\"", quoted(file));
        KeyWords { from: format!("api_key_file {file}"), shell, variable: false }
    }

    /// The key that a person has in the variable.
    pub fn of_variable(from: String) -> KeyWords {
        KeyWords { from, shell: format!("\"${KEY_VARIABLE}\""), variable: true }
    }
}

/// Where a client is pointed.
#[derive(Clone, Debug)]
pub struct Place {
    /// Host and port, as in a URL.
    pub authority: String,
    /// How its key is come by, if it has one.
    pub key: Option<KeyWords>,
    /// The host, if the shell has to be told that no proxy knows it.
    pub unproxied: Option<String>,
}

impl Place {
    /// A template with everything but the key in its place.
    pub fn filled(&self, template: &str) -> String {
        let base = format!("http://{}", self.authority);
        [
            ("@v1@", format!("{base}/v1")),
            ("@base@", base),
            ("@model@", MODEL.into()),
            ("@window@", WINDOW.to_string()),
        ]
        .iter()
        .fold(template.to_owned(), |text, (mark, value)| text.replace(mark, value))
    }
}

/// A word as a shell takes it literally.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

impl Client {
    /// Its settings as it takes them; what is no code stands behind `#`.
    pub fn text(&self, place: &Place) -> String {
        let mut text =
            format!("# {} speaks {} with http://{}\n", self.title, self.speaks().join(", "), place.authority);
        let key = place.key.as_ref().map_or(NO_KEY, |key| &key.shell);
        text += &match &place.key {
            Some(key) if key.variable => {
                format!("# key: {}; this shell must have it in {KEY_VARIABLE}\n", key.from)
            }
            Some(key) => format!("# key: the first of {}\n", key.from),
            None => {
                format!("# key: none is set here; where a client wants one, any word will do: {NO_KEY}\n")
            }
        };
        if !self.window.is_empty() {
            text += &format!("# context window: {}\n", self.window);
        }
        if let Some(host) = &place.unproxied {
            text += &format!(
                "export NO_PROXY=\"${{NO_PROXY:+$NO_PROXY,}}{host}\" no_proxy=\"${{no_proxy:+$no_proxy,}}{host}\"\n"
            );
        }
        if !self.unset.is_empty() {
            text += &format!("unset {}\n", self.unset.join(" "));
        }
        for (name, value) in self.env {
            let value = if *value == "@key@" { key.to_owned() } else { quoted(&place.filled(value)) };
            text += &format!("export {name}={value}\n");
        }
        if let Start::Program(program, fixed) = self.start {
            let words = fixed.iter().map(|word| quoted(&place.filled(word)));
            text += &std::iter::once(program.to_owned()).chain(words).collect::<Vec<_>>().join(" ");
            text += "\n";
        }
        let curl = match &place.key {
            // By a pipe: other users can see the words of a command.
            Some(key) => format!("printf 'Authorization: Bearer %s\\n' {} | curl -H @-", key.shell),
            None => "curl".into(),
        };
        text + &place.filled(self.text).replace("@curl@", &curl)
    }

    /// Why it will not work as it was meant to with these in force, and the command that mends it.
    pub fn unmet(&self, engine: &str, profile: &str, verb: &str) -> Option<String> {
        if self.needs.met(engine, profile) {
            return None;
        }
        let why = match self.needs {
            Needs::Tools => "brings tools of its own",
            Needs::Model | Needs::Nothing => "wants a plain chat model",
        };
        Some(format!(
            "{} {why}, but engine = {engine} and profile = {profile} are in force; to set what it needs: codex-api-proxy {verb} {}",
            self.title,
            self.needs.flags()
        ))
    }
}

#[cfg(test)]
mod tests;
