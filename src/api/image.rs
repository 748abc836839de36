//! Images that come inside a request: types and encoding, checked without a copy. Nothing is ever
//! fetched.

use std::borrow::Cow;
use std::io::{self, Read};

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;

use percent_encoding::percent_decode_str;

use crate::turn::{At, Failure, Image, Part};

mod picture;

/// What Codex's upstream takes.
const TYPES: &[&str] = &["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Why something is no image for Codex, to be written behind the field's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not sent in a way that is read.
    Form(String),
    /// Codex could not decode it, and would leave it out.
    Picture(&'static str),
}

impl Refused {
    fn form(why: &str) -> Refused {
        Refused::Form(why.to_owned())
    }

    /// For the field of that name.
    pub(super) fn at(self, path: &str) -> Failure {
        match self {
            Refused::Form(why) => Failure::bad_field(path, format!("{path} {why}.")),
            Refused::Picture(why) => {
                Failure::BadImage { at: At::Field(path.to_owned()), message: format!("{path} {why}.") }
            }
        }
    }
}

/// The image that the field of that name has as a `data:` URL.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::BadImage`] naming the field.
pub(super) fn part_of_url(url: Cow<str>, path: &str) -> Result<Part, Failure> {
    of_url(url).map(Part::from).map_err(|why| why.at(path))
}

/// The image of a `data:` URL, which is read as the URL standard reads one, and in the URL-safe alphabet
/// too.
///
/// # Errors
/// Why it is none.
pub(super) fn of_url(url: Cow<str>) -> Result<Image, Refused> {
    // What the standard takes off either end of any URL.
    let before = url.len() - url.trim_start_matches(|c: char| c <= ' ').len();
    let scheme = url.get(before..before + 5);
    if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return Err(Refused::form("must be a data: URL with the image itself: this server fetches nothing"));
    }
    let comma = url.find(',').ok_or_else(|| Refused::form("is not a data: URL: it has no comma"))?;
    let head = &url[before + 5..comma];
    let mut words = head.split(';').map(str::trim);
    let media_type = words.next().unwrap_or_default().to_ascii_lowercase();
    if !words.any(|word| word.eq_ignore_ascii_case("base64")) {
        return Err(Refused::form("must be encoded in base64"));
    }
    let base64 = match url {
        Cow::Borrowed(url) => Cow::Borrowed(&url[comma + 1..]),
        Cow::Owned(mut url) => {
            url.drain(..=comma);
            Cow::Owned(url)
        }
    };
    of_base64(&media_type, plain(base64))
}

/// The same in the standard alphabet, padded, without white space and percent signs.
fn plain(base64: Cow<str>) -> Cow<str> {
    let standard = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    if base64.len().is_multiple_of(4) && base64.bytes().all(standard) {
        return base64;
    }
    let mut plain = String::with_capacity(base64.len() + 3);
    for byte in percent_decode_str(&base64) {
        match byte {
            b'-' => plain.push('+'),
            b'_' => plain.push('/'),
            byte if byte.is_ascii_whitespace() => {}
            // Anything else is found to be none of the alphabet.
            byte => plain.push(char::from(byte)),
        }
    }
    if !plain.ends_with('=') {
        plain.push_str(&"==="[..(4 - plain.len() % 4) % 4]);
    }
    Cow::Owned(plain)
}

/// The image of a media type and its data in base64 (standard alphabet, padded). What it is, its own
/// bytes say: Codex goes by them alone.
///
/// # Errors
/// Why it is none.
pub(super) fn of_base64(media_type: &str, base64: Cow<str>) -> Result<Image, Refused> {
    if media_type != "image/jpg" && !TYPES.contains(&media_type) {
        return Err(Refused::Form(format!("must be of type {}", TYPES.join(", "))));
    }
    match decoded_len(&base64) {
        Ok(0) => Err(Refused::form("has no image data")),
        Ok(length) => {
            let media_type = picture::kind(&base64, length).map_err(Refused::Picture)?;
            Ok(Image { media_type: media_type.to_owned(), base64: base64.into_owned() })
        }
        Err(_) => Err(Refused::form("is not valid base64")),
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

    use picture::tests::{GIF, JPEG, PNG, WEBP};

    #[test]
    fn escaped_or_not_it_is_the_same_image() {
        let image = Image { media_type: "image/png".into(), base64: PNG.into() };
        let url = format!("Data:image/PNG;x=y;BASE64,{PNG}");
        assert_eq!(of_url(Cow::Borrowed(&url)), Ok(image.clone()));
        assert_eq!(of_url(Cow::Owned(url)), Ok(image));
    }

    #[test]
    fn data_urls_are_read_as_the_standard_reads_them() {
        let lines = |end: &str| {
            PNG.as_bytes()
                .chunks(76)
                .map(|line| format!("{}{end}", str::from_utf8(line).unwrap()))
                .collect::<String>()
        };
        let percent = PNG.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
        let safe = PNG.replace('+', "-").replace('/', "_");
        for data in [
            lines("\n"),
            lines("\r\n"),
            lines("%0A"),
            lines("%0d%0a"),
            lines(" \t"),
            format!(" {PNG} "),
            percent.clone(),
            safe.clone(),
            safe.replace('=', ""),
            PNG.replace('=', ""),
            percent.replace("%3D", ""),
        ] {
            for head in ["data:image/png;base64,", "\n DATA:image/png; charset=x ;Base64 ,"] {
                let image = of_url(Cow::Owned(format!("{head}{data}")));
                assert_eq!(image.map(|image| image.base64), Ok(PNG.to_owned()), "{head}{data}");
            }
        }
        for data in ["%", "%4", "%zz", "a", "aGk==", "=aGk", "aG=k", "aGk!", "é", "aGk%00"] {
            let why = Err(Refused::form("is not valid base64"));
            assert_eq!(of_url(Cow::Owned(format!("data:image/png;base64,{data}"))), why, "{data}");
        }
    }

    #[test]
    fn an_image_is_what_its_bytes_say() {
        for (kind, base64) in [("png", PNG), ("gif", GIF), ("jpeg", JPEG), ("webp", WEBP)] {
            for label in ["image/png", "image/jpg", "image/webp"] {
                let image = of_base64(label, Cow::Borrowed(base64)).unwrap();
                assert_eq!(image.media_type, format!("image/{kind}"));
            }
        }
    }
}
