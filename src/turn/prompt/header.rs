//! Whether a line of content reads as the header of a block, to a person or to a model.
//!
//! Decided by properties of Unicode, not by lists of characters: what prints nothing hides nothing,
//! and what looks like a bracket or a letter counts as one.

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::props::{BidiMirrored, DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Words that open a header.
const AUTHORS: &[&str] = &["system", "developer", "user", "assistant", "tool", "function"];

/// Where the line reads as a header, the place of its bracket.
///
/// A header is an author's name in square brackets that nothing but blanks, backslashes and further
/// brackets stand before. Counting backslashes in keeps the escape reversible.
pub(super) fn at(line: &str) -> Option<usize> {
    let prefix = |c: char| c == '\\' || blank(c) || opens(c);
    let name = line.trim_start_matches(prefix);
    let before = &line[..line.len() - name.len()];
    let bracket = before.find(opens)?;
    names_author(name).then_some(bracket)
}

/// What leaves no mark of its own: white space, controls, formats, marks that hang on something,
/// and whatever has no meaning yet.
fn blank(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_whitespace() || c.is_ascii_control();
    }
    c.is_whitespace()
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        // Prints nothing although no property says so: Braille without a dot.
        || c == '\u{2800}'
        || is(c, GeneralCategoryGroup::Separator)
        || is(c, GeneralCategoryGroup::Other)
        || is(c, GeneralCategoryGroup::Mark)
}

/// A square bracket, and every opening bracket that could pass for one: not round, not curly, in
/// whatever width or form, and no quotation mark, which has no mirror image.
fn opens(c: char) -> bool {
    if c.is_ascii() {
        return c == '[';
    }
    is(c, GeneralCategoryGroup::OpenPunctuation)
        && (CodePointSetData::new::<BidiMirrored>().contains(c) || folded(std::iter::once(c)).eq(['[']))
        && !folded(std::iter::once(c)).any(|c| matches!(c, '(' | '{'))
}

fn is(c: char, group: GeneralCategoryGroup) -> bool {
    group.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

/// Whether the text begins with an author's name, however it is dressed up. A letter beyond ASCII
/// may stand for any other (`ѕ` of Cyrillic looks like `s`), but not for all of a name: `[система]`
/// is a word of its own.
fn names_author(text: &str) -> bool {
    let mut open: Vec<(&str, bool)> = AUTHORS.iter().map(|author| (*author, false)).collect();
    for c in folded(text.chars()) {
        open.retain_mut(|(rest, sure)| {
            let Some(expected) = rest.chars().next() else { return false };
            *rest = &rest[expected.len_utf8()..];
            *sure |= c == expected;
            c == expected || (!c.is_ascii() && c.is_alphabetic())
        });
        if open.is_empty() {
            return false;
        }
        if open.iter().any(|(rest, sure)| rest.is_empty() && *sure) {
            return true;
        }
    }
    false
}

/// The letters without case, width, font and accents, and without what prints nothing.
fn folded(text: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    let plain = DecomposingNormalizerBorrowed::new_nfkd().normalize_iter(text);
    plain.filter(|c| !blank(*c)).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_under_whatever_hides_them() {
        let hidden = [
            // Zero width, bidi, variation selectors, tags, fillers, soft hyphen, byte order mark.
            "\u{200b}",
            "\u{200c}",
            "\u{200d}",
            "\u{2060}",
            "\u{2063}",
            "\u{feff}",
            "\u{ad}",
            "\u{180e}",
            "\u{200e}",
            "\u{200f}",
            "\u{202a}",
            "\u{202e}",
            "\u{2066}",
            "\u{2069}",
            "\u{61c}",
            "\u{206a}",
            "\u{fe00}",
            "\u{fe0f}",
            "\u{e0100}",
            "\u{180b}",
            "\u{e0001}",
            "\u{e0073}",
            "\u{e007f}",
            "\u{115f}",
            "\u{1160}",
            "\u{3164}",
            "\u{ffa0}",
            "\u{34f}",
            "\u{17b4}",
            "\u{1d173}",
            "\u{fff9}",
            "\u{2800}",
            "\u{1bca0}",
            "\u{fff0}",
            "\u{e0fff}",
            // Spaces, controls, marks, private use.
            " ",
            "\t",
            "\u{a0}",
            "\u{1680}",
            "\u{2003}",
            "\u{202f}",
            "\u{205f}",
            "\u{3000}",
            "\u{8}",
            "\u{1b}",
            "\u{7f}",
            "\u{9f}",
            "\u{301}",
            "\u{20dd}",
            "\u{e000}",
            // Several.
            "\u{200b}\u{202e} \u{fe0f}",
        ];
        for mark in hidden {
            for line in [
                format!("{mark}[system]"),
                format!("[{mark}system]"),
                format!("[s{mark}y{mark}stem]"),
                format!("{mark}[{mark}u{mark}s{mark}e{mark}r{mark}]"),
            ] {
                // A control or space within the name only over-escapes.
                let at = line.find('[');
                assert_eq!(super::at(&line), at, "{line:?}");
            }
        }
    }

    #[test]
    fn look_alikes_are_headers_and_other_lines_are_not() {
        for (line, place) in [
            ("[system]", Some(0)),
            ("[SyStEm]", Some(0)),
            ("［system］", Some(0)),
            ("［ｓｙｓｔｅｍ］", Some(0)),
            ("【user】", Some(0)),
            ("〔Tool result x〕", Some(0)),
            ("⟦assistant⟧", Some(0)),
            ("⁅user⁆", Some(0)),
            ("﹇user﹈", Some(0)),
            ("[[system]]", Some(0)),
            ("\\[system]", Some(1)),
            ("\\\u{200b}\\ [system]", Some(6)),
            ("[𝐬𝐲𝐬𝐭𝐞𝐦]", Some(0)),
            ("[ⓤⓢⓔⓡ]", Some(0)),
            ("[s\u{332}y\u{332}s\u{332}t\u{332}e\u{332}m\u{332}]", Some(0)),
            ("[sýstèm]", Some(0)),
            ("[ſystem]", Some(0)),
            ("[ѕуѕtem]", Some(0)),
            ("[аѕѕіstant]", Some(0)),
            ("[users are nice]", Some(0)),
            ("see [user]", None),
            ("> [user]", None),
            ("(user) x", None),
            ("{user: 1}", None),
            ("（user）", None),
            ("｛user｝", None),
            ("„user“", None),
            ("[\"user\", 1]", None),
            ("[система]", None),
            ("[備考欄] x", None),
            ("[other]", None),
            ("[us]", None),
            ("[", None),
            ("", None),
            ("user]", None),
            ("[ü", None),
            ("＼[user]", None),
        ] {
            assert_eq!(at(line), place, "{line:?}");
        }
    }

    #[test]
    fn long_prefixes_cost_time_in_proportion() {
        for mark in ["\u{200b}", "[", "\\", "\u{301}"] {
            let line = mark.repeat(200_000) + "[user]";
            assert!(at(&line).is_some(), "{mark:?}");
        }
    }
}
