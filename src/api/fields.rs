//! Reading JSON with errors that name the field: each reader takes the object and the key.

use serde_json::{Map, Value};

use crate::turn::Failure;

/// The most JSON values in one body. A body of tiny values takes many times its size once read, so
/// that its length alone would not bound the memory; no conversation comes near this.
pub(in crate::api) const MOST_VALUES: usize = 1_000_000;

/// How many values a JSON text has, give or take one for each container: a glance, not a parser.
pub(in crate::api) fn values(body: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in body.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Reads a request body, which must be a JSON object.
///
/// # Errors
/// [`Failure::BadRequest`] on the body as a whole.
pub(in crate::api) fn parse(body: &str) -> Result<Value, Failure> {
    let bad = |message| Failure::BadRequest { at: None, message };
    if values(body) > MOST_VALUES {
        return Err(bad(format!("The request body has more than {MOST_VALUES} JSON values.")));
    }
    let value: Value = serde_json::from_str(body)
        .map_err(|error| bad(format!("The request body is not valid JSON: {error}.")))?;
    match value {
        Value::Object(_) => Ok(value),
        other => Err(bad(format!("The request body must be a JSON object, not {}.", kind(&other)))),
    }
}

/// A JSON object and where it is in the request (`messages[0].`), for messages.
#[derive(Clone, Copy)]
pub(in crate::api) struct Fields<'a> {
    map: &'a Map<String, Value>,
    place: &'a str,
}

/// What a value is, for messages.
pub(in crate::api) fn kind(value: &Value) -> &'static str {
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
pub(in crate::api) fn wrong(path: &str, expected: &str, value: &Value) -> Failure {
    Failure::bad_field(path, format!("{path} must be {expected}, not {}.", kind(value)))
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which must be an object. `place` ends with a dot, or is empty.
    pub(in crate::api) fn of(value: &'a Value, place: &'a str) -> Result<Fields<'a>, Failure> {
        match value {
            Value::Object(map) => Ok(Fields { map, place }),
            other => Err(wrong(place.trim_end_matches('.'), "an object", other)),
        }
    }

    /// The full name of a field.
    pub(in crate::api) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }

    /// The value, unless it is absent or `null`, which SDKs send for "not set".
    pub(in crate::api) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The names of all fields that are set.
    pub(in crate::api) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
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

    pub(in crate::api) fn string(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        self.read(key, "a string", Value::as_str)
    }

    pub(in crate::api) fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        self.read(key, "a boolean", Value::as_bool)
    }

    pub(in crate::api) fn array(&self, key: &str) -> Result<Option<&'a [Value]>, Failure> {
        self.read(key, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    pub(in crate::api) fn object(&self, key: &str) -> Result<Option<&'a Value>, Failure> {
        self.read(key, "an object", |value| value.is_object().then_some(value))
    }

    /// A number inside a range.
    pub(in crate::api) fn number(
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
    pub(in crate::api) fn integer(
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
    pub(in crate::api) fn choice<T>(
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
