//! Parts of a JSON text as their author wrote them: keys in their order, numbers digit by digit.
//!
//! A parsed `Value` sorts keys and rounds numbers. What is checked may be read from that; what is
//! handed on is taken from here.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::turn::Json;

/// The text of one value of a JSON text that is known to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The whole text.
    pub(super) fn of(text: &'a str) -> Raw<'a> {
        Raw(text)
    }

    /// The value of a key, the last if there are several, as in a parsed `Value`; `None` if this is no
    /// object or has no such key.
    pub(super) fn get(self, key: &str) -> Option<Raw<'a>> {
        let mut fields: HashMap<String, &'a RawValue> = serde_json::from_str(self.0).ok()?;
        fields.remove(key).map(|value| Raw(value.get()))
    }

    /// The values of an array; none if this is none.
    pub(super) fn items(self) -> Vec<Raw<'a>> {
        let items: Vec<&'a RawValue> = serde_json::from_str(self.0).unwrap_or_default();
        items.into_iter().map(|item| Raw(item.get())).collect()
    }

    /// To be handed on.
    pub(super) fn json(self) -> Json {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_as_they_were_written() {
        let body =
            Raw::of("{\"a\": 1, \"t\": [ {\"\\u0066\": { \"z\": 1.50,\n \"a\": 1e400 }}, 2 ], \"a\": 3}");
        assert_eq!(body.get("a"), Some(Raw("3")));
        let items = body.get("t").unwrap().items();
        assert_eq!(items[0].get("f").unwrap().json().as_str(), r#"{"z":1.50,"a":1e400}"#);
        assert_eq!((items[1], items[1].get("x"), items[1].items()), (Raw("2"), None, vec![]));
        assert_eq!(body.get("b"), None);
    }
}
