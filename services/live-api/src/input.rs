//! What callers send, and the limits of it. Pure: bytes in, checked values or a
//! list of everything that is wrong out. The limits are those of the entry schema.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{model::Options, problem::FieldError};

/// Longest title in characters.
pub(crate) const MAX_TITLE: usize = 140;
/// Most tags of a broadcast.
pub(crate) const MAX_TAGS: usize = 16;
/// Longest tag in characters.
pub(crate) const MAX_TAG: usize = 32;
/// Longest category in characters.
const MAX_CATEGORY: usize = 64;
/// Longest language tag in characters: RFC 5646 says that this is enough for every real one.
const MAX_LANGUAGE: usize = 35;
/// Longest DVR window in seconds: what an edge can hold of segments.
const MAX_DVR_WINDOW: u32 = 4 * 3600;
/// Longest reconnect window in seconds: a broadcast without an encoder is not live for longer.
const MAX_RECONNECT_WINDOW: u32 = 300;
/// Most rungs of a ladder: each is one encoder.
const MAX_LADDER: usize = 6;
/// Lowest and highest rung in pixels.
const HEIGHTS: std::ops::RangeInclusive<u32> = 144..=4320;
/// Enclose matches in highlighted titles, so they cannot be part of a title.
pub(crate) const MARKS: [char; 2] = ['\u{E000}', '\u{E001}'];

/// A broadcast to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBroadcast {
    /// 1 to 140 characters.
    pub(crate) title: String,
    /// At most 16 tags of 1 to 32 characters.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) options: Options,
}

/// A new title.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTitle {
    /// 1 to 140 characters.
    pub(crate) title: String,
}

/// A new set of tags.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTags {
    /// The whole set: at most 16 tags of 1 to 32 characters.
    pub(crate) tags: Vec<String>,
}

/// Checked values of a new broadcast. Its JSON is what makes two requests the same.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) title: String,
    pub(crate) tags: Vec<String>,
    pub(crate) options: Options,
}

type Errors = Vec<FieldError>;

fn wrong(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
    FieldError {
        field: field.into(),
        detail: detail.into(),
    }
}

/// Checks everything, so that a caller hears of all that is wrong at once.
pub(crate) fn broadcast(new: NewBroadcast) -> Result<Checked, Errors> {
    let NewBroadcast {
        title: new_title,
        tags: new_tags,
        options: new_options,
    } = new;
    let mut errors = Errors::new();
    let title = title(&new_title).unwrap_or_else(|e| {
        errors.extend(e);
        String::new()
    });
    let tags = tags(new_tags).unwrap_or_else(|e| {
        errors.extend(e);
        Vec::new()
    });
    let options = options(new_options).unwrap_or_else(|e| {
        errors.extend(e.into_iter().map(|e| wrong(format!("options.{}", e.field), e.detail)));
        Options::default()
    });
    if errors.is_empty() {
        Ok(Checked { title, tags, options })
    } else {
        Err(errors)
    }
}

pub(crate) fn title(title: &str) -> Result<String, Errors> {
    let title = title.trim();
    line("title", title, 1, MAX_TITLE).map_err(|e| vec![e])?;
    if title.contains(MARKS) {
        return Err(vec![wrong("title", "the characters U+E000 and U+E001 are reserved")]);
    }
    Ok(title.to_owned())
}

pub(crate) fn tags(tags: Vec<String>) -> Result<Vec<String>, Errors> {
    let mut errors = Errors::new();
    let mut set: Vec<String> = Vec::new();
    // The bound on the body bounds the list; only distinct tags count.
    for (index, tag) in tags.into_iter().enumerate() {
        let tag = tag.trim();
        if let Err(error) = line(&format!("tags[{index}]"), tag, 1, MAX_TAG) {
            errors.push(error);
        } else if !set.iter().any(|known| known == tag) {
            set.push(tag.to_owned());
        }
        if set.len() > MAX_TAGS || errors.len() > MAX_TAGS {
            break;
        }
    }
    if set.len() > MAX_TAGS {
        errors.push(wrong("tags", format!("there are more than {MAX_TAGS} tags")));
    }
    if errors.is_empty() { Ok(set) } else { Err(errors) }
}

pub(crate) fn options(options: Options) -> Result<Options, Errors> {
    let mut errors = Errors::new();
    let category = options.category.trim().to_owned();
    errors.extend(line("category", &category, 0, MAX_CATEGORY).err());
    let language = options.language.trim().to_owned();
    if !language.is_empty() && !is_language(&language) {
        errors.push(wrong(
            "language",
            "not a BCP 47 language tag such as \"ko\" or \"en-GB\"",
        ));
    }
    let mut at_most = |field: &str, value: u32, limit: u32| {
        if value > limit {
            errors.push(wrong(field, format!("{value} seconds are over the limit of {limit}")));
        }
    };
    at_most("dvr_window_s", options.dvr_window_s, MAX_DVR_WINDOW);
    at_most("reconnect_window_s", options.reconnect_window_s, MAX_RECONNECT_WINDOW);
    let mut ladder = options.ladder.clone();
    ladder.sort_unstable_by(|a, b| b.cmp(a));
    ladder.dedup();
    if ladder.len() > MAX_LADDER {
        errors.push(wrong(
            "ladder",
            format!("{} heights are over the limit of {MAX_LADDER}", ladder.len()),
        ));
    } else if let Some(height) = ladder.iter().find(|h| !HEIGHTS.contains(h) || **h % 2 != 0) {
        let (lowest, highest) = (HEIGHTS.start(), HEIGHTS.end());
        errors.push(wrong(
            "ladder",
            format!("{height} is not an even height within {lowest} to {highest}"),
        ));
    }
    if errors.is_empty() {
        Ok(Options {
            category,
            language,
            ladder,
            ..options
        })
    } else {
        Err(errors)
    }
}

/// One line of text, of which the whitespace around has been cut.
fn line(field: &str, text: &str, shortest: usize, longest: usize) -> Result<(), FieldError> {
    let length = text.chars().count();
    if length < shortest {
        return Err(wrong(field, "it is empty"));
    }
    if length > longest {
        return Err(wrong(
            field,
            format!("{length} characters are over the limit of {longest}"),
        ));
    }
    if text
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
    {
        return Err(wrong(field, "it contains control characters"));
    }
    Ok(())
}

/// The shape of a BCP 47 tag: subtags of 1 to 8 letters or digits, of which the
/// first is a language of 2 to 8 letters. Whether it is registered is not checked.
fn is_language(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let language = |s: &str| (2..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphabetic());
    tag.len() <= MAX_LANGUAGE
        && subtags.next().is_some_and(language)
        && subtags.all(|s| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric()))
        && tag.as_bytes().get(tag.len() - 2) != Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_line_of_limited_length() {
        assert_eq!(title("  롤 랭크  ").unwrap(), "롤 랭크");
        assert!(title(&"가".repeat(MAX_TITLE)).is_ok());
        for bad in ["", "   ", "a\nb", "a\u{0}b", "a\u{E000}b", &"x".repeat(MAX_TITLE + 1)] {
            assert!(title(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tags_are_a_set() {
        let given = [" a ", "A", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(tags(given).unwrap(), ["a", "A", "b"]);
        let many = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert!(tags(many(MAX_TAGS)).is_ok());
        assert!(tags(many(MAX_TAGS + 1)).is_err());
        assert!(tags(vec![" ".to_owned()]).is_err());
        assert!(tags(vec!["x".repeat(MAX_TAG + 1)]).is_err());
        assert!(tags(vec!["same".to_owned(); 1000]).is_ok());
    }

    #[test]
    fn languages_have_the_shape_of_bcp_47() {
        for good in ["ko", "en-GB", "zh-Hant-TW", "de-CH-1996", "es-419", "sl-rozaj-biske"] {
            assert!(is_language(good), "{good}");
        }
        for bad in [
            "k",
            "englishlanguage",
            "en_GB",
            "한국어",
            "en-",
            "-en",
            "en--GB",
            "1a",
            "en-x",
        ] {
            assert!(!is_language(bad), "{bad}");
        }
    }

    #[test]
    fn options_have_limits() {
        let set = |change: fn(&mut Options)| {
            let mut given = Options::default();
            change(&mut given);
            options(given)
        };
        assert_eq!(set(|o| o.ladder = vec![480, 720, 480]).unwrap().ladder, [720, 480]);
        assert_eq!(set(|o| o.language = " ko ".to_owned()).unwrap().language, "ko");
        assert!(set(|o| o.ladder = vec![143]).is_err());
        assert!(set(|o| o.ladder = vec![721]).is_err());
        assert!(set(|o| o.ladder = vec![4322]).is_err());
        assert!(set(|o| o.ladder = vec![144, 240, 360, 480, 720, 1080, 1440]).is_err());
        assert!(set(|o| o.dvr_window_s = 4 * 3600 + 1).is_err());
        assert!(set(|o| o.reconnect_window_s = 301).is_err());
        assert!(set(|o| o.category = "c".repeat(65)).is_err());
        assert!(set(|o| o.language = "english!".to_owned()).is_err());
    }

    #[test]
    fn all_errors_come_at_once() {
        let new = NewBroadcast {
            title: String::new(),
            tags: vec![String::new()],
            options: Options {
                dvr_window_s: u32::MAX,
                language: "?".to_owned(),
                ..Options::default()
            },
        };
        let fields: Vec<_> = broadcast(new).unwrap_err().into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["title", "tags[0]", "options.language", "options.dvr_window_s"]);
    }
}
