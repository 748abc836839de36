//! Reading JSON with errors that name the field: each reader takes the object and the key.

use serde_json::{Map, Value};

use crate::turn::Failure;

/// A JSON object and where it is in the request (`messages[0].`), for messages.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    place: &'a str,
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The error for a value of the wrong type.
pub(super) fn wrong(path: &str, expected: &str, value: &Value) -> Failure {
    Failure::bad(path, format!("{path} must be {expected}, not {}.", kind(value)))
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which must be an object. `place` ends with a dot, or is empty.
    pub(super) fn of(value: &'a Value, place: &'a str) -> Result<Fields<'a>, Failure> {
        match value {
            Value::Object(map) => Ok(Fields { map, place }),
            other => Err(wrong(place.trim_end_matches('.'), "an object", other)),
        }
    }

    /// The full name of a field.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }

    /// The value, unless it is absent or `null`, which SDKs send for "not set".
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The names of all fields that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }

    /// The error for a field that must be there.
    pub(super) fn missing(&self, key: &str) -> Failure {
        let path = self.path(key);
        Failure::bad(path.clone(), format!("{path} is required."))
    }

    /// The error for a value outside its range or list.
    pub(super) fn invalid(&self, key: &str, why: &str) -> Failure {
        let path = self.path(key);
        Failure::bad(path.clone(), format!("{path} {why}."))
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(wrong(&self.path(key), expected, value)),
            },
        }
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        self.read(key, "a string", Value::as_str)
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        self.read(key, "a boolean", Value::as_bool)
    }

    pub(super) fn array(&self, key: &str) -> Result<Option<&'a [Value]>, Failure> {
        self.read(key, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Value>, Failure> {
        self.read(key, "an object", |value| value.is_object().then_some(value))
    }

    /// A number inside a range.
    pub(super) fn number(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f64>, Failure> {
        let number = self.read(key, "a number", Value::as_f64)?;
        match number {
            Some(number) if !range.contains(&number) => {
                Err(self.invalid(key, &format!("must be between {} and {}", range.start(), range.end())))
            }
            number => Ok(number),
        }
    }

    /// A whole number inside a range.
    pub(super) fn integer(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, Failure> {
        let number = self.read(key, "an integer", Value::as_i64)?;
        match number {
            Some(number) if !range.contains(&number) && *range.end() == i64::MAX => {
                Err(self.invalid(key, &format!("must be at least {}", range.start())))
            }
            Some(number) if !range.contains(&number) => {
                Err(self.invalid(key, &format!("must be between {} and {}", range.start(), range.end())))
            }
            number => Ok(number),
        }
    }

    /// One of a closed list of words.
    pub(super) fn choice<T>(
        &self,
        key: &str,
        names: &[&str],
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(word) = self.string(key)? else { return Ok(None) };
        match read(word) {
            Some(choice) => Ok(Some(choice)),
            None => Err(self.invalid(key, &format!("must be one of {}", names.join(", ")))),
        }
    }
}
