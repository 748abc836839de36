//! The CLI's version, and what it takes to be usable.

use crate::config::EngineKind;

/// `0.169.0` as numbers. Pre-release suffixes are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `codex --version`: `codex-cli 0.169.0`.
    pub fn parse(output: &str) -> Option<Version> {
        let text = output.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let core = text.split(['-', '+']).next()?;
        let mut numbers = core.split('.').map(|part| part.parse().ok());
        Some(Version(numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?))
    }

    /// Whether that engine can work with it.
    pub fn serves(self, engine: EngineKind) -> bool {
        Version::parse(engine.capabilities().version_floor).is_some_and(|floor| self >= floor)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_and_compare() {
        for (text, expect) in [
            ("codex-cli 0.169.0\n", Some(Version(0, 169, 0))),
            ("codex 1.2.3-alpha.1", Some(Version(1, 2, 3))),
            ("0.140", Some(Version(0, 140, 0))),
            ("codex-cli", None),
            ("", None),
            ("codex 1", None),
            ("codex 99999999999.1.1", None),
        ] {
            assert_eq!(Version::parse(text), expect, "{text}");
        }
        for (engine, last_refused, first_served) in [
            (EngineKind::Exec, Version(0, 139, 9), Version(0, 140, 0)),
            (EngineKind::AppServer, Version(0, 154, 9), Version(0, 155, 0)),
        ] {
            assert_eq!(
                (last_refused.serves(engine), first_served.serves(engine)),
                (false, true),
                "{engine:?}"
            );
        }
    }
}
