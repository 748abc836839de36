//! The two macros behind the settings table, and the bridge between a field's Rust type and a layer's value.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;

use super::Secret;

/// Declares an enum of named choices (`names!`) that a setting may have.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($variants:tt)* }) => {
        $crate::names::names! { $(#[$doc])* $name { $($variants)* } }
        impl $crate::config::table::Field for $name {
            fn read(value: Option<&figment::value::Value>) -> Option<$name> {
                $name::from_name(value?.as_str()?)
            }
            fn write(&self) -> Option<figment::value::Value> {
                Some(self.name().into())
            }
        }
    };
}
pub(super) use choices;

/// Declares every setting once. A row is `/// doc`, then
/// `key: Type = initial, shape [, flag "name"] [, hide How] [, engine Kind] [, restart When];`
/// and becomes a field of `Config` and an entry of `SETTINGS`.
macro_rules! settings {
    ($($group:literal {
        $( $(#[doc = $doc:literal])+ $key:ident: $type:ty = $initial:expr, $shape:expr
           $(, flag $flag:literal)? $(, hide $hide:ident)? $(, engine $engine:ident)? $(, restart $restart:ident)? ; )*
    })*) => {
        /// The settings in force, checked and resolved.
        #[derive(Clone, PartialEq)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $key: $type, )*)*
            /// Every accepted key: `api_key` and those of `api_key_file`, without repeats. Not a setting.
            pub keys: Vec<$crate::config::Key>,
            /// `$STATE_DIRECTORY`, else `~/.codex-api-proxy`. Not a setting.
            pub state_dir: std::path::PathBuf,
            /// The files and folders that settings and keys are read from, there or not. Not a setting.
            pub read_from: Vec<std::path::PathBuf>,
        }

        impl Config {
            /// Builds the settings from checked values; `Err` names the row whose shape does not fit its type.
            pub(super) fn from_values(
                value: impl Fn(&'static str) -> Option<figment::value::Value>,
                state_dir: std::path::PathBuf,
            ) -> Result<Config, &'static str> {
                Ok(Config {
                    $($( $key: $crate::config::table::Field::read(value(stringify!($key)).as_ref())
                        .ok_or(stringify!($key))?, )*)*
                    keys: Vec::new(),
                    state_dir,
                    read_from: Vec::new(),
                })
            }

            /// Makes one setting what it is in `other`.
            pub fn copy(&mut self, key: &str, other: &Config) {
                match key {
                    $($( stringify!($key) => self.$key.clone_from(&other.$key), )*)*
                    _ => {}
                }
            }

            /// The value of a setting as a layer would give it; `None` if it is not set.
            pub fn value(&self, key: &str) -> Option<figment::value::Value> {
                match key {
                    $($( stringify!($key) => $crate::config::table::Field::write(&self.$key), )*)*
                    _ => None,
                }
            }
        }

        /// Every setting, in the order of the documentation.
        pub static SETTINGS: &[Setting] = &[$($(
            Setting {
                key: stringify!($key),
                group: $group,
                doc: concat!($($doc),+),
                shape: $shape,
                initial: $initial,
                flag: settings!(@flag $key $($flag)?),
                one_entry: settings!(@given $($flag)?),
                hide: settings!(@hide $($hide)?),
                engine: settings!(@engine $($engine)?),
                restart: settings!(@restart $($restart)?),
            },
        )*)*];
    };
    (@flag $key:ident) => {{
        const KEY: &str = stringify!($key);
        const DASHED: &[u8; KEY.len()] = &$crate::config::table::dashed(KEY);
        match std::str::from_utf8(DASHED) { Ok(flag) => flag, Err(_) => KEY }
    }};
    (@flag $key:ident $flag:literal) => { $flag };
    (@given) => { false };
    (@given $flag:literal) => { true };
    (@engine) => { None };
    (@engine $engine:ident) => { Some(EngineKind::$engine) };
    (@restart) => { Restart::Never };
    (@restart $restart:ident) => { Restart::$restart };
    (@hide) => { Hide::Nothing };
    (@hide $hide:ident) => { Hide::$hide };
}
pub(super) use settings;

/// `max_queue_size` as `max-queue-size`.
pub(super) const fn dashed<const N: usize>(key: &str) -> [u8; N] {
    let mut dashed = [0; N];
    let mut at = 0;
    while at < N {
        let byte = key.as_bytes()[at];
        dashed[at] = if byte == b'_' { b'-' } else { byte };
        at += 1;
    }
    dashed
}

/// A Rust type a setting may have. The shape has checked the value before `read` sees it.
pub(super) trait Field: Sized {
    /// `None` if the value is of another type.
    fn read(value: Option<&Value>) -> Option<Self>;
    /// `None` if the setting is not set.
    fn write(&self) -> Option<Value>;
}

macro_rules! fields {
    ($($type:ty: $value:ident => $read:expr, $this:ident => $write:expr;)*) => {$(
        impl Field for $type {
            fn read(value: Option<&Value>) -> Option<$type> {
                let $value = value?;
                $read
            }
            fn write(&self) -> Option<Value> {
                let $this = self;
                Some($write)
            }
        }
    )*};
}

fields! {
    bool: value => value.to_bool(), this => (*this).into();
    u16: value => value.to_u128()?.try_into().ok(), this => u64::from(*this).into();
    u64: value => value.to_u128()?.try_into().ok(), this => (*this).into();
    usize: value => value.to_u128()?.try_into().ok(), this => (*this as u64).into();
    Duration: value => Duration::try_from_secs_f64(value.to_f64()?).ok(), this => this.as_secs_f64().into();
    String: value => Some(value.as_str()?.to_owned()), this => this.as_str().into();
    PathBuf: value => Some(value.as_str()?.into()), this => this.to_string_lossy().as_ref().into();
    Secret: value => Some(Secret::new(value.as_str()?)), this => this.expose().into();
    (String, String): value => match value.as_array()? {
        [name, target] => Some((name.as_str()?.to_owned(), target.as_str()?.to_owned())),
        _ => None,
    }, this => vec![this.0.as_str(), this.1.as_str()].into();
}

impl<T: Field> Field for Option<T> {
    fn read(value: Option<&Value>) -> Option<Option<T>> {
        match value {
            None => Some(None),
            Some(_) => T::read(value).map(Some),
        }
    }
    fn write(&self) -> Option<Value> {
        self.as_ref().and_then(T::write)
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(value: Option<&Value>) -> Option<Vec<T>> {
        value?.as_array()?.iter().map(|entry| T::read(Some(entry))).collect()
    }
    fn write(&self) -> Option<Value> {
        Some(self.iter().filter_map(T::write).collect::<Vec<_>>().into())
    }
}
