//! What was found, for people as it is found, for programs as one document.

use std::io::IsTerminal;

use serde_json::{Value as Json, json};

use crate::cli::exit::Exit;
use crate::cli::output::out;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Mind,
    Broken,
}

impl Verdict {
    /// For programs.
    fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Mind => "mind",
            Verdict::Broken => "broken",
        }
    }
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub verdict: Verdict,
    /// A word for what was looked at.
    pub subject: &'static str,
    /// How it is.
    pub text: String,
    /// What to do; a line each.
    pub fixes: Vec<String>,
}

impl Finding {
    pub fn good(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Good, subject, text: text.into(), fixes: vec![] }
    }

    pub fn mind(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Mind, ..Finding::good(subject, text) }
    }

    pub fn broken(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Broken, ..Finding::good(subject, text) }
    }

    pub fn fix(mut self, what: impl Into<String>) -> Finding {
        self.fixes.push(what.into());
        self
    }

    /// The text on one line.
    fn line(&self) -> String {
        self.text.trim_end().replace('\n', "; ")
    }

    fn show(&self, colours: bool) -> String {
        let (word, colour) = match self.verdict {
            Verdict::Good => ("ok", 32),
            Verdict::Mind => ("warn", 33),
            Verdict::Broken => ("FAIL", 31),
        };
        let word = if colours { format!("\x1b[{colour}m{word:<5}\x1b[0m") } else { format!("{word:<5}") };
        let mut shown = format!("{word} {:<11} {}\n", self.subject, self.line());
        for fix in &self.fixes {
            shown += &format!("{:18}-> {fix}\n", "");
        }
        shown
    }

    fn json(&self) -> Json {
        json!({
            "verdict": self.verdict.name(), "subject": self.subject, "text": self.line(), "fixes": self.fixes,
        })
    }
}

/// All findings.
#[derive(Debug)]
pub(super) struct Report {
    findings: Vec<Finding>,
    json: bool,
    colours: bool,
}

impl Report {
    /// An empty one.
    pub fn new(json: bool) -> Report {
        Report { findings: vec![], json, colours: std::io::stdout().is_terminal() }
    }

    /// Adds findings; people see them at once, as the next ones may take a while.
    ///
    /// # Errors
    /// They cannot be printed.
    pub fn add(&mut self, findings: Vec<Finding>) -> Result<(), Exit> {
        if !self.json {
            out(&findings.iter().map(|finding| finding.show(self.colours)).collect::<String>())?;
        }
        self.findings.extend(findings);
        Ok(())
    }

    /// Says what it comes to.
    ///
    /// # Errors
    /// Exit status 1 if anything is broken.
    pub fn end(self) -> Result<(), Exit> {
        let broken = self.broken();
        out(&match broken {
            _ if self.json => format!("{:#}\n", self.document()),
            0 => "\nAll that a turn needs is there.\n".to_owned(),
            1 => "\nOne thing is broken.\n".to_owned(),
            _ => format!("\n{broken} things are broken.\n"),
        })?;
        if broken == 0 { Ok(()) } else { Err(Exit::Code(1)) }
    }

    fn broken(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Broken).count()
    }

    fn document(&self) -> Json {
        let findings: Vec<Json> = self.findings.iter().map(Finding::json).collect();
        json!({ "ok": self.broken() == 0, "findings": findings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_align_and_carry_their_fixes() {
        for (finding, expect) in [
            (Finding::good("codex", "0.169.0"), "ok    codex       0.169.0\n"),
            (
                Finding::mind("linger", "off").fix("do this"),
                "warn  linger      off\n                  -> do this\n",
            ),
            (Finding::broken("port", "held\nby x"), "FAIL  port        held; by x\n"),
        ] {
            assert_eq!(finding.show(false), expect);
        }
        assert!(Finding::good("a", "b").show(true).contains("\x1b[32mok"));
    }

    #[test]
    fn programs_get_one_document() {
        let mut report = Report::new(true);
        assert_eq!(report.document(), json!({ "ok": true, "findings": [] }));
        let found = [Finding::good("a", "b"), Finding::mind("c", "d").fix("e").fix("f")];
        report.add(found.into()).unwrap();
        let good = json!({ "verdict": "good", "subject": "a", "text": "b", "fixes": [] });
        let mind = json!({ "verdict": "mind", "subject": "c", "text": "d", "fixes": ["e", "f"] });
        assert_eq!(report.document(), json!({ "ok": true, "findings": [good, mind] }));
        report.add(vec![Finding::broken("g", "h\ni\n")]).unwrap();
        let broken = json!({ "verdict": "broken", "subject": "g", "text": "h; i", "fixes": [] });
        assert_eq!(report.document(), json!({ "ok": false, "findings": [good, mind, broken] }));
        assert!(matches!(report.end(), Err(Exit::Code(1))));
    }
}
