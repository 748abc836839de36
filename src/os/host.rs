//! What the machine calls itself.
#![allow(unsafe_code)]

use std::ffi::CStr;

/// This host's name as gethostname(2) gives it, lower case; empty if it has none.
pub fn host_name() -> String {
    // POSIX: at most 255 bytes; the last byte stays 0 even if the name was cut.
    let mut name = [0u8; 257];
    // SAFETY: the pointer is valid for the length given, one less than the array.
    let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0;
    match CStr::from_bytes_until_nul(&name) {
        Ok(text) if !failed => text.to_string_lossy().to_ascii_lowercase(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_name() {
        let name = host_name();
        assert!(!name.is_empty() && !name.contains('\0') && name == name.to_ascii_lowercase(), "{name:?}");
    }
}
