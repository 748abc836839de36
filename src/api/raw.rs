//! JSON that is read where it stands: a value is a part of the request's text, and nothing of it is
//! copied until somebody keeps it. So a request in memory is its text and what is made of it, whatever
//! it consists of; and what is handed on is as its author wrote it, keys in their order, numbers digit
//! by digit.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::turn::{Failure, Json};

use super::dialect::Wanted;

/// The most JSON values in one body. A body of tiny values takes many times its size once read, so
/// that its length alone would not bound the memory; no conversation comes near this.
pub(super) const MOST_VALUES: usize = 1_000_000;

/// The text of one value of a JSON text that was [checked](Raw::check).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// Reads a whole text once, keeping nothing: its syntax, its depth, its numbers, how many values it
    /// has. What is read of its parts later cannot be broken.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] on the body as a whole; what `wanted` says.
    pub(super) fn check(text: &'a str, wanted: &Wanted) -> Result<Raw<'a>, Failure> {
        let seen = Cell::new(0);
        let mut reader = serde_json::Deserializer::from_str(text);
        let result = Check { seen: &seen, wanted }.deserialize(&mut reader).and_then(|()| reader.end());
        wanted.check()?;
        let bad = |message| Failure::BadRequest { at: None, message };
        match result {
            Ok(()) => Ok(Raw(text.trim_ascii())),
            Err(_) if seen.get() > MOST_VALUES => {
                Err(bad(format!("The request body has more than {MOST_VALUES} JSON values.")))
            }
            Err(error) => Err(place::explained(text, &error)),
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(self) -> &'static str {
        match self.0.as_bytes().first() {
            Some(b'n') => "null",
            Some(b't' | b'f') => "a boolean",
            Some(b'"') => "a string",
            Some(b'[') => "an array",
            Some(b'{') => "an object",
            _ => "a number",
        }
    }

    /// Whether it is `null`.
    pub(super) fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// A string, copied only if it has escapes.
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        unescaped(inner).map(Cow::Owned)
    }

    /// A boolean.
    pub(super) fn boolean(self) -> Option<bool> {
        serde_json::from_str(self.0).ok()
    }

    /// A number.
    pub(super) fn number(self) -> Option<serde_json::Number> {
        serde_json::from_str(self.0).ok()
    }

    /// The values of an array, one after the other.
    pub(super) fn items(self) -> Option<Items<'a>> {
        Some(Items(self.0.strip_prefix('[')?))
    }

    /// The fields of an object by name, the last if a name is there twice.
    pub(super) fn fields(self) -> Option<Entries<'a>> {
        let mut rest = self.0.strip_prefix('{')?;
        let mut entries = Vec::new();
        while let Some(name) = next(&mut rest) {
            rest = rest.trim_ascii_start().strip_prefix(':')?;
            entries.push((name.string()?, next(&mut rest)?));
        }
        Some(Entries::of(entries))
    }

    /// To be handed on.
    pub(super) fn json(self) -> Json {
        self.0.into()
    }
}

/// What stands between the quotes of a JSON string that was checked. As long a string as it becomes is
/// asked for at once: one that grows is there twice while it does.
fn unescaped(inner: &str) -> Option<String> {
    let mut length = 0;
    segments(inner, |segment| length += segment.len())?;
    let mut text = String::with_capacity(length);
    segments(inner, |segment| text.push_str(segment))?;
    Some(text)
}

/// Tells `each` the pieces that an escaped text stands for.
fn segments(escaped: &str, mut each: impl FnMut(&str)) -> Option<()> {
    let mut rest = escaped;
    while let Some(at) = rest.find('\\') {
        each(&rest[..at]);
        let escape = rest.get(at..)?;
        let (length, character) = match escape.as_bytes().get(1)? {
            b'n' => (2, "\n"),
            b't' => (2, "\t"),
            b'r' => (2, "\r"),
            b'b' => (2, "\u{8}"),
            b'f' => (2, "\u{c}"),
            b'u' => {
                let unit = |at: usize| u16::from_str_radix(escape.get(at..at + 4)?, 16).ok();
                let first = unit(2)?;
                // A character beyond the first 65,536 is two of them.
                let pair = (0xd800..0xdc00).contains(&first);
                let units = [first, if pair { unit(8)? } else { 0 }];
                let units = &units[..if pair { 2 } else { 1 }];
                let character = char::decode_utf16(units.iter().copied()).next()?.ok()?;
                each(character.encode_utf8(&mut [0; 4]));
                (6 * units.len(), "")
            }
            _ => (2, escape.get(1..2)?),
        };
        each(character);
        rest = escape.get(length..)?;
    }
    each(rest);
    Some(())
}

/// The value that follows in an array or object, blanks and a comma skipped.
fn next<'a>(rest: &mut &'a str) -> Option<Raw<'a>> {
    let text = rest.trim_ascii_start();
    let text = text.strip_prefix(',').unwrap_or(text).trim_ascii_start();
    // At a closing bracket there is none.
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let value = values.next()?.ok()?;
    *rest = text.get(values.byte_offset()..)?;
    Some(Raw(value.get()))
}

/// The values of an array that are still to come.
#[derive(Clone, Debug)]
pub(super) struct Items<'a>(&'a str);

impl<'a> Iterator for Items<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        next(&mut self.0)
    }
}

impl Items<'_> {
    /// Whether none is to come.
    pub(super) fn is_empty(&self) -> bool {
        self.clone().next().is_none()
    }
}

/// The fields of an object, sorted by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries<'a>(Vec<(Cow<'a, str>, Raw<'a>)>);

impl<'a> Entries<'a> {
    fn of(mut entries: Vec<(Cow<'a, str>, Raw<'a>)>) -> Entries<'a> {
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        // The later of two goes, after it has given the earlier its value.
        entries.dedup_by(|(later, value), (earlier, kept)| {
            let same = later == earlier;
            if same {
                *kept = *value;
            }
            same
        });
        Entries(entries)
    }

    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<Raw<'a>> {
        let at = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| *value)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

/// Reads values and keeps nothing.
#[derive(Clone, Copy)]
struct Check<'a> {
    seen: &'a Cell<usize>,
    wanted: &'a Wanted,
}

impl Check<'_> {
    /// After so many values the client is looked after.
    const EVERY: usize = 1024;

    fn count<E: Error>(&self) -> Result<(), E> {
        self.seen.set(self.seen.get() + 1);
        if self.seen.get() > MOST_VALUES {
            return Err(E::custom("too many values"));
        }
        if self.seen.get().is_multiple_of(Check::EVERY) && self.wanted.check().is_err() {
            return Err(E::custom("not wanted"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        self.count()?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key_seed(Name)?.is_some() {
            entries.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// Reads a field's name and keeps nothing.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

mod place;

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Raw<'_>, String> {
        Raw::check(text, &Wanted::default()).map_err(|failure| match failure {
            Failure::BadRequest { message, .. } => message,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn parts_are_found_as_they_were_written() {
        let body =
            checked(" {\"a\": 1, \"t\" : [ {\"\\u0066\": { \"z\": 1.50,\n \"a\": 1e300 }}, 2 ,\"x\\n\"\t] , \"a\": 3, \"e\":[ ]}\n")
                .unwrap();
        let fields = body.fields().unwrap();
        assert_eq!(fields.get("a"), Some(Raw("3")));
        assert_eq!(fields.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "e", "t"]);
        assert!(fields.get("e").unwrap().items().unwrap().is_empty());
        let items: Vec<_> = fields.get("t").unwrap().items().unwrap().collect();
        let inner = items[0].fields().unwrap().get("f").unwrap();
        assert_eq!(inner.json().as_str(), r#"{"z":1.50,"a":1e300}"#);
        assert_eq!(items[1..], [Raw("2"), Raw("\"x\\n\"")]);
        assert_eq!(items[2].string(), Some(Cow::Owned("x\n".to_owned())));
        assert!(items[1].fields().is_none() && items[1].items().is_none() && items[1].string().is_none());
        assert!(fields.get("b").is_none());
    }

    #[test]
    fn escapes_are_read_as_serde_reads_them() {
        for inner in [
            "\\n\\t\\r\\b\\f\\\"\\\\\\/",
            "a\\u0000b\\u00e9\\u00E9c\\ud83d\\ude00\\uD83D\\uDE00é😀",
            "\\ud7ff\\ue000\\uffff\\udbff\\udfff\\ud800\\udc00",
            "\\\\n\\\\\\n\\\\u0041\\u0041",
            "\\u005c\\u0022\\u005cn",
        ] {
            let quoted = format!("\"{inner}\"");
            let expect: String = serde_json::from_str(&quoted).unwrap();
            let text = unescaped(inner).unwrap();
            assert_eq!(text, expect, "{inner}");
            assert_eq!(text.capacity(), text.len(), "{inner}");
        }
        // What was not checked is none.
        for inner in ["\\", "\\u", "\\u12", "\\ud800", "\\ud800\\n", "\\udc00", "\\é", "\\u00é0"] {
            assert_eq!(unescaped(inner), None, "{inner}");
        }
    }

    /// The same verdict, in the same words, as if the text were parsed into a `Value`.
    #[test]
    fn what_is_no_json_is_found_wherever_it_is() {
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for value in [
            "",
            "{",
            "[1 2]",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{1:2}",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\u{1}\"",
            "1e400",
            "01",
            "1.",
            "tru",
            "{} {}",
            "[] x",
            "nul",
            "-",
            "\"",
            "{\"\\ud800\":1}",
            &deep(127),
            &deep(128),
            "{\"a\":[{\"b\":1e400}]}",
            "1",
            "-1.5e3",
            "18446744073709551616",
            "\"\\ud83d\\ude00\"",
            "{\"a\":{\"a\":null,\"b\":[true,false]}}",
        ] {
            let parsed = serde_json::from_str::<serde_json::Value>(value);
            let said = |error: serde_json::Error| match place::explained(value, &error) {
                Failure::BadRequest { message, .. } => message,
                other => panic!("{other:?}"),
            };
            let expect = parsed.err().map(said);
            assert_eq!(checked(value).err(), expect, "{value}");
        }
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_values() {
        let list = |length: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(length - 3));
        assert!(checked(&list(MOST_VALUES)).is_ok());
        let refused = checked(&list(MOST_VALUES + 1)).unwrap_err();
        assert_eq!(refused, "The request body has more than 1000000 JSON values.");
        let text = serde_json::json!({"content": ",".repeat(MOST_VALUES + 1)}).to_string();
        assert!(checked(&text).is_ok());
    }

    #[test]
    fn what_nobody_waits_for_is_not_read() {
        let wanted = Wanted::default();
        drop(wanted.guard());
        assert!(matches!(Raw::check("{}", &wanted), Err(Failure::Internal { .. })));
        // Long before its end, where it is broken.
        let text = format!("[{}!", "0,".repeat(10 * Check::EVERY));
        assert!(matches!(Raw::check(&text, &wanted), Err(Failure::Internal { .. })));
        assert!(matches!(Raw::check(&text, &Wanted::default()), Err(Failure::BadRequest { .. })));
    }
}
