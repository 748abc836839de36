//! Images that come inside a request: types and encoding, checked without a copy. Nothing is ever
//! fetched.

use std::borrow::Cow;
use std::io::{self, Read};

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;

use crate::turn::Image;

/// What Codex's upstream takes.
const TYPES: &[&str] = &["image/png", "image/jpeg", "image/gif", "image/webp"];

/// The image of a `data:` URL.
///
/// # Errors
/// Why it is none, to be written behind the field's name.
pub(super) fn of_url(url: Cow<str>) -> Result<Image, String> {
    let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    if !is_data {
        return Err("must be a data: URL with the image itself: this server fetches nothing".into());
    }
    let comma = url.find(',').ok_or("is not a data: URL: it has no comma")?;
    let mut words = url[5..comma].split(';');
    let media_type = words.next().unwrap_or_default().to_ascii_lowercase();
    if !words.any(|word| word.eq_ignore_ascii_case("base64")) {
        return Err("must be encoded in base64".into());
    }
    let base64 = match url {
        Cow::Borrowed(url) => Cow::Borrowed(&url[comma + 1..]),
        Cow::Owned(mut url) => {
            url.drain(..=comma);
            Cow::Owned(url)
        }
    };
    of_base64(&media_type, base64)
}

/// The image of a media type and its data in base64 (standard alphabet, padded).
///
/// # Errors
/// Why it is none, to be written behind the field's name.
pub(super) fn of_base64(media_type: &str, base64: Cow<str>) -> Result<Image, String> {
    let media_type = if media_type == "image/jpg" { "image/jpeg" } else { media_type };
    if !TYPES.contains(&media_type) {
        return Err(format!("must be of type {}", TYPES.join(", ")));
    }
    match decoded_len(&base64) {
        Ok(0) => Err("has no image data".into()),
        Ok(_) => Ok(Image { media_type: media_type.to_owned(), base64: base64.into_owned() }),
        Err(_) => Err("is not valid base64".into()),
    }
}

/// How many bytes it decodes to: looked at through a window, for nobody wants them yet.
fn decoded_len(base64: &str) -> io::Result<u64> {
    let mut window = [0; 8 << 10];
    let mut reader = DecoderReader::new(base64.as_bytes(), &STANDARD);
    let mut length = 0;
    loop {
        match reader.read(&mut window)? {
            0 => return Ok(length),
            some => length += some as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    #[test]
    fn base64_is_judged_as_if_it_were_decoded() {
        let long = STANDARD.encode(vec![7; 100_000]);
        let broken = |at: usize, with: &str| format!("{}{with}{}", &long[..at], &long[at + 1..]);
        for base64 in [
            "",
            "aGk=",
            "aGk",
            "aGk==",
            "aG=k",
            "a",
            "aGkx",
            "aGkxaGk=x",
            "=",
            "aGl=",
            "a Gk=",
            "aGk=\n",
            "aGk_",
            "é",
            &long,
            &long[1..],
            &broken(0, "!"),
            &broken(8191, "="),
            &broken(8192, "-"),
            &broken(99_999, "\n"),
            &format!("{long}a"),
        ] {
            let whole = STANDARD.decode(base64);
            assert_eq!(
                decoded_len(base64).ok(),
                whole.ok().map(|bytes| bytes.len() as u64),
                "{:.20}",
                base64
            );
        }
    }

    #[test]
    fn escaped_or_not_it_is_the_same_image() {
        let image = Image { media_type: "image/jpeg".into(), base64: "aG/k".into() };
        let url = "Data:image/JPG;x=y;BASE64,aG/k";
        assert_eq!(of_url(Cow::Borrowed(url)), Ok(image.clone()));
        assert_eq!(of_url(Cow::Owned(url.to_owned())), Ok(image));
    }
}
