//! Whether Codex could decode a picture, as far as that shows without decoding it (measured with 0.169):
//! what it is, that it has a size, and that it is not cut short. Codex itself says nothing of a picture
//! that it leaves out.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imagesize::ImageType;

const NONE: &str = "is no PNG, JPEG, GIF or WebP picture";
const EMPTY: &str = "is a picture of no width or height";
const CUT: &str = "is a picture that is cut short or damaged";

/// Whether a picture is all there.
type Whole = fn(&mut BufReader<Bytes>) -> io::Result<bool>;

/// The media type of the picture in valid base64, which decodes to so many bytes.
///
/// # Errors
/// Why it is none.
pub(super) fn kind(base64: &str, length: u64) -> Result<&'static str, &'static str> {
    let mut bytes = BufReader::new(Bytes { base64: base64.as_bytes(), length, at: 0 });
    let mut head = Vec::new();
    bytes.by_ref().take(64).read_to_end(&mut head).map_err(|_| NONE)?;
    let (media_type, whole): (_, Whole) = match imagesize::image_type(&head) {
        Ok(ImageType::Png) => ("image/png", png),
        // Codex takes the rest of one that is cut short for grey.
        Ok(ImageType::Jpeg) => ("image/jpeg", |_| Ok(true)),
        Ok(ImageType::Gif) => ("image/gif", gif),
        Ok(ImageType::Webp) => ("image/webp", webp),
        _ => return Err(NONE),
    };
    bytes.rewind().map_err(|_| CUT)?;
    let size = imagesize::reader_size(&mut bytes).map_err(|_| CUT)?;
    if size.width == 0 || size.height == 0 {
        return Err(EMPTY);
    }
    bytes.rewind().map_err(|_| CUT)?;
    if whole(&mut bytes).unwrap_or(false) { Ok(media_type) } else { Err(CUT) }
}

fn array<const N: usize>(bytes: &mut impl Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    bytes.read_exact(&mut array)?;
    Ok(array)
}

/// Chunks with their sums up to the last, of which the name is enough.
fn png(bytes: &mut BufReader<Bytes>) -> io::Result<bool> {
    bytes.seek(SeekFrom::Start(8))?;
    loop {
        let length = u32::from_be_bytes(array(bytes)?);
        let name: [u8; 4] = array(bytes)?;
        if &name == b"IEND" {
            return Ok(true);
        }
        let mut sum = crc32fast::Hasher::new();
        sum.update(&name);
        let mut left = u64::from(length);
        let mut window = [0; 4096];
        while left > 0 {
            let part = &mut window[..left.min(4096) as usize];
            bytes.read_exact(part)?;
            sum.update(part);
            left -= part.len() as u64;
        }
        if sum.finalize() != u32::from_be_bytes(array(bytes)?) {
            return Ok(false);
        }
    }
}

/// Blocks up to the end of the first picture.
fn gif(bytes: &mut BufReader<Bytes>) -> io::Result<bool> {
    let colours = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3i64 << ((flags & 7) + 1) };
    let screen: [u8; 13] = array(bytes)?;
    bytes.seek_relative(colours(screen[10]))?;
    loop {
        let [mark] = array(bytes)?;
        match mark {
            0x21 => {
                array::<1>(bytes)?;
            }
            0x2c => {
                let place: [u8; 9] = array(bytes)?;
                bytes.seek_relative(colours(place[8]))?;
                array::<1>(bytes)?;
            }
            _ => return Ok(false),
        }
        loop {
            // The end of the last block may be missing.
            let length = match array::<1>(bytes) {
                Ok([length]) => length,
                Err(_) if mark == 0x2c => 0,
                Err(error) => return Err(error),
            };
            if length == 0 {
                break;
            }
            let read = io::copy(&mut bytes.by_ref().take(length.into()), &mut io::sink())?;
            if read < u64::from(length) {
                return Ok(false);
            }
        }
        if mark == 0x2c {
            return Ok(true);
        }
    }
}

/// The length that the file says it has, less the byte that fills up the last chunk.
fn webp(bytes: &mut BufReader<Bytes>) -> io::Result<bool> {
    let head: [u8; 8] = array(bytes)?;
    let said = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]])) + 8;
    Ok(bytes.get_ref().length + 1 >= said)
}

/// Valid base64 read as the bytes it stands for, from any place.
struct Bytes<'a> {
    base64: &'a [u8],
    length: u64,
    at: u64,
}

impl Read for Bytes<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        const WINDOW: usize = 1024;
        let (first, skip) = ((self.at / 3) as usize, (self.at % 3) as usize);
        let text = self.base64.get(first * 4..).unwrap_or_default();
        let text = &text[..text.len().min(WINDOW * 4)];
        let mut window = [0; WINDOW * 3];
        let decoded = STANDARD.decode_slice(text, &mut window).map_err(io::Error::other)?;
        let found = window.get(skip..decoded).unwrap_or_default();
        let count = found.len().min(to.len());
        to[..count].copy_from_slice(&found[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Bytes<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::api) const PNG: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
    pub(in crate::api) const GIF: &str = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
    pub(in crate::api) const WEBP: &str = "UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA";
    pub(in crate::api) const JPEG: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////////////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AN//Z";

    fn judged(bytes: &[u8]) -> Result<&'static str, &'static str> {
        kind(&STANDARD.encode(bytes), bytes.len() as u64)
    }

    /// As Codex 0.169 judged each of them.
    #[test]
    fn what_codex_leaves_out_is_refused() {
        let [png, gif, webp, jpeg] = [PNG, GIF, WEBP, JPEG].map(|picture| STANDARD.decode(picture).unwrap());
        assert_eq!(judged(&png), Ok("image/png"));
        assert_eq!(judged(&gif), Ok("image/gif"));
        assert_eq!(judged(&webp), Ok("image/webp"));
        assert_eq!(judged(&jpeg), Ok("image/jpeg"));
        for bytes in
            [&b"hello"[..], b"BM\0\0\0\0", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", b"\x89PN", b"RIFF"]
        {
            assert_eq!(judged(bytes), Err(NONE), "{bytes:?}");
        }
        assert_eq!(judged(&png[..8]), Err(NONE));
        for cut in [20, 40, png.len() / 2, png.len() - 12] {
            assert_eq!(judged(&png[..cut]), Err(CUT), "{cut}");
        }
        assert_eq!(judged(&png[..png.len() - 1]), Ok("image/png"));
        for flipped in [30, 45] {
            let mut png = png.clone();
            png[flipped] ^= 0xff;
            assert_eq!(judged(&png), Err(CUT), "{flipped}");
        }
        let mut flat = png.clone();
        flat[16..24].fill(0);
        assert_eq!(judged(&flat), Err(EMPTY));
        assert_eq!(judged(&gif[..13]), Err(CUT));
        assert_eq!(judged(&gif[..gif.len() / 2]), Err(CUT));
        assert_eq!(judged(&gif[..gif.len() - 2]), Ok("image/gif"));
        assert_eq!(judged(&webp[..webp.len() / 2]), Err(CUT));
        assert_eq!(judged(&webp[..webp.len() - 1]), Ok("image/webp"));
        assert_eq!(judged(&jpeg[..30]), Err(CUT));
        assert_eq!(judged(&jpeg[..jpeg.len() - 2]), Ok("image/jpeg"));
        for picture in [&png, &gif, &webp, &jpeg] {
            assert!(judged(&[picture, &b"junk"[..]].concat()).is_ok());
        }
    }

    #[test]
    fn bytes_are_found_at_any_place() {
        let all: Vec<u8> = (0..10_000u32).map(|number| ((number * 31) >> 3) as u8).collect();
        for length in [0, 1, 2, 3, 4, 3071, 3072, 3073, 10_000] {
            let base64 = STANDARD.encode(&all[..length]);
            for at in [0, 1, 2, 3, 100, 3071, 3072, 3073, 9_999, 10_001] {
                let mut bytes = Bytes { base64: base64.as_bytes(), length: length as u64, at: 0 };
                bytes.seek(SeekFrom::Start(at)).unwrap();
                let mut read = Vec::new();
                bytes.read_to_end(&mut read).unwrap();
                assert_eq!(read, all[..length].get(at as usize..).unwrap_or_default(), "{length} {at}");
            }
        }
    }
}
