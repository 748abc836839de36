//! Reading a JSON object's fields with errors that name the field. Nothing is copied until it is kept:
//! see [`Raw`].

use std::borrow::Cow;

use crate::turn::{Failure, Json};

use super::dialect::Wanted;
use super::raw::{Entries, Items, Raw};

/// A JSON object and where it is in the request (`messages[0].`), for messages.
#[derive(Clone, Debug)]
pub(in crate::api) struct Fields<'a> {
    entries: Entries<'a>,
    place: String,
}

/// The error for a value of the wrong type.
pub(in crate::api) fn wrong(path: &str, expected: &str, value: Raw) -> Failure {
    Failure::bad_field(path, format!("{path} must be {expected}, not {}.", value.kind()))
}

/// The value of a number without a fraction.
fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| number.as_u64().map(|_| i64::MAX)).or_else(|| {
        // The conversion keeps to the nearest there is.
        number.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64)
    })
}

impl<'a> Fields<'a> {
    /// Checks a whole request body, which must be an object, and gives its fields.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] on the body as a whole; what `wanted` says.
    pub(in crate::api) fn body(text: &'a str, wanted: &Wanted) -> Result<Fields<'a>, Failure> {
        let body = Raw::check(text, wanted)?;
        match body.fields() {
            Some(entries) => Ok(Fields { entries, place: String::new() }),
            None => Err(Failure::BadRequest {
                at: None,
                message: format!("The request body must be a JSON object, not {}.", body.kind()),
            }),
        }
    }

    /// The fields of `value`, which must be an object. `place` ends with a dot, or is empty.
    pub(in crate::api) fn of(value: Raw<'a>, place: impl Into<String>) -> Result<Fields<'a>, Failure> {
        let place = place.into();
        match value.fields() {
            Some(entries) => Ok(Fields { entries, place }),
            None => Err(wrong(place.trim_end_matches('.'), "an object", value)),
        }
    }

    /// The full name of a field.
    pub(in crate::api) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }

    /// The value, unless it is absent or `null`, which SDKs send for "not set".
    pub(in crate::api) fn get(&self, key: &str) -> Option<Raw<'a>> {
        #[cfg(test)]
        seen::note(&self.path(key));
        self.entries.get(key).filter(|value| !value.is_null())
    }

    /// The names of all fields that are set.
    pub(in crate::api) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name)
    }

    /// The error for a field that must be there.
    pub(in crate::api) fn missing(&self, key: &str) -> Failure {
        let path = self.path(key);
        Failure::bad_field(path.clone(), format!("{path} is required."))
    }

    /// The error for a value outside its range or list.
    pub(in crate::api) fn invalid(&self, key: &str, why: &str) -> Failure {
        let path = self.path(key);
        Failure::bad_field(path.clone(), format!("{path} {why}."))
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(Raw<'a>) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(wrong(&self.path(key), expected, value)),
            },
        }
    }

    pub(in crate::api) fn string(&self, key: &str) -> Result<Option<Cow<'a, str>>, Failure> {
        self.read(key, "a string", Raw::string)
    }

    pub(in crate::api) fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        self.read(key, "a boolean", Raw::boolean)
    }

    pub(in crate::api) fn array(&self, key: &str) -> Result<Option<Items<'a>>, Failure> {
        self.read(key, "an array", Raw::items)
    }

    pub(in crate::api) fn object(&self, key: &str) -> Result<Option<Raw<'a>>, Failure> {
        self.read(key, "an object", |value| (value.kind() == "an object").then_some(value))
    }

    /// `metadata.cwd`, where a client asks for a working directory.
    pub(in crate::api) fn cwd(&self) -> Result<Option<String>, Failure> {
        let Some(metadata) = self.object("metadata")? else { return Ok(None) };
        Ok(Fields::of(metadata, "metadata.")?.string("cwd")?.map(Cow::into_owned))
    }

    /// The name of a tool, which must be there.
    pub(in crate::api) fn tool_name(&self, key: &str) -> Result<Cow<'a, str>, Failure> {
        self.name_up_to(key, 64)
    }

    /// The same where it may have so many bytes.
    pub(in crate::api) fn name_up_to(&self, key: &str, longest: usize) -> Result<Cow<'a, str>, Failure> {
        let name = self.string(key)?.ok_or_else(|| self.missing(key))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || name.len() > longest || !name.bytes().all(plain) {
            let why = format!("must be 1 to {longest} letters, digits, dots, underscores or hyphens");
            return Err(self.invalid(key, &why));
        }
        Ok(name)
    }

    /// The schema of a function's arguments as it was written; without one it takes none.
    pub(in crate::api) fn parameters(&self, key: &str) -> Result<Json, Failure> {
        Ok(match self.object(key)? {
            None => r#"{"type":"object","properties":{}}"#.into(),
            Some(parameters) => parameters.json(),
        })
    }

    /// The id of a call, which must be there.
    pub(in crate::api) fn call_id(&self, key: &str) -> Result<Cow<'a, str>, Failure> {
        let id = self.string(key)?.ok_or_else(|| self.missing(key))?;
        if id.is_empty() || id.len() > 256 || id.chars().any(char::is_control) {
            return Err(self.invalid(key, "must be 1 to 256 characters without control characters"));
        }
        Ok(id)
    }

    /// A number inside a range.
    pub(in crate::api) fn number(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f64>, Failure> {
        let number = self.read(key, "a number", |value| value.number()?.as_f64())?;
        match number {
            Some(number) if !range.contains(&number) => {
                Err(self.invalid(key, &format!("must be between {} and {}", range.start(), range.end())))
            }
            number => Ok(number),
        }
    }

    /// A whole number inside a range, however it is written (`1.0`, `1e3`). One beyond 64 bits counts as
    /// the largest or smallest of them.
    pub(in crate::api) fn integer(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, Failure> {
        let Some(number) = self.read(key, "an integer", Raw::number)? else { return Ok(None) };
        let Some(whole) = whole(&number) else {
            return Err(self.invalid(key, &format!("must be a whole number, not {number}")));
        };
        let (unbounded_below, unbounded) = (*range.start() == i64::MIN, *range.end() == i64::MAX);
        if range.contains(&whole) {
            return Ok(Some(whole));
        }
        Err(match (unbounded_below, unbounded) {
            (_, true) => self.invalid(key, &format!("must be at least {}", range.start())),
            (true, false) => self.invalid(key, &format!("must be at most {}", range.end())),
            (false, false) => {
                self.invalid(key, &format!("must be between {} and {}", range.start(), range.end()))
            }
        })
    }

    /// One of a closed list of words.
    pub(in crate::api) fn choice<T>(
        &self,
        key: &str,
        names: &[&str],
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(word) = self.string(key)? else { return Ok(None) };
        match read(&word) {
            Some(choice) => Ok(Some(choice)),
            None => Err(self.invalid(key, &format!("must be one of {}", names.join(", ")))),
        }
    }
}

/// Which fields were looked for.
#[cfg(test)]
pub(in crate::api) mod seen {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static SEEN: RefCell<Option<BTreeSet<String>>> = const { RefCell::new(None) };
    }

    /// The paths of those that `read` looks for on this thread, `[]` standing for any index.
    pub(in crate::api) fn during(read: impl FnOnce()) -> BTreeSet<String> {
        SEEN.set(Some(BTreeSet::new()));
        read();
        SEEN.take().unwrap_or_default()
    }

    pub(super) fn note(path: &str) {
        SEEN.with_borrow_mut(|seen| {
            let Some(seen) = seen else { return };
            let mut digits = false;
            let plain = |c: &char| {
                digits = *c == '[' || digits && c.is_ascii_digit();
                !(digits && c.is_ascii_digit())
            };
            seen.insert(path.chars().filter(plain).collect());
        });
    }
}
