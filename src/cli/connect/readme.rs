//! The table of clients in the README.

use crate::clients::{CLIENTS, Needs, Start};

/// It, as Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "\n| client | `connect` | speaks | takes URL, key and model by | needs | context window | `--` |\n|---|---|---|---|---|---|---|\n",
    );
    for client in CLIENTS {
        let needs = match client.needs {
            Needs::Nothing => "any engine",
            Needs::Model => "`profile = \"model\"`",
            Needs::Tools => "`engine = \"app-server\"`",
        };
        let starts = match client.start {
            Start::Program(program, _) => format!("`{program}`"),
            Start::Given => "your program".to_owned(),
            Start::Never(_) => "no".to_owned(),
        };
        text += &format!(
            "| {} | `{}` | {} | {} | {needs} | {} | {starts} |\n",
            client.title,
            client.name,
            client.speaks().join(", "),
            client.takes,
            if client.window.is_empty() { "–" } else { client.window },
        );
    }
    text
}
