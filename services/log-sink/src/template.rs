//! Names of indexes: which one an entry goes to, and which day an index is of.

use std::str::FromStr;

use castlog_log::Kind;
use chrono::NaiveDate;

/// Longest template in characters: with the longest kind and class the name
/// stays far below what Meilisearch allows (512 bytes).
const MAX_LENGTH: usize = 100;
/// How a day is written: Meilisearch refuses the dots of the placeholder.
const DAY: &str = "%Y-%m-%d";
const DAY_LENGTH: usize = 10;

/// A template of index names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Class,
    Kind,
    Day,
}

impl Template {
    /// The index of entries of `kind` on `day`.
    pub(crate) fn name(&self, kind: Kind, day: NaiveDate) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Class => kind.class().to_owned(),
            Piece::Kind => kind.token().to_owned(),
            Piece::Day => day.format(DAY).to_string(),
        };
        self.0.iter().map(piece).collect()
    }

    /// The day of an index that this template has named; `None` for any other index.
    pub(crate) fn day(&self, name: &str) -> Option<NaiveDate> {
        // What is made of the day that seems to be in the name has to be the name.
        let days = (0..name.len()).filter_map(|start| {
            let text = name.get(start..start + DAY_LENGTH)?;
            NaiveDate::parse_from_str(text, DAY).ok()
        });
        days.into_iter()
            .find(|day| Kind::ALL.iter().any(|kind| self.name(*kind, *day) == name))
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("{} characters are over the limit of {MAX_LENGTH}", text.len()));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, placeholder) = rest
                .split_once('{')
                .map_or((rest, None), |(plain, more)| (plain, Some(more)));
            if let Some(wrong) = plain
                .chars()
                .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
            {
                return Err(format!(
                    "{wrong:?} cannot be in the name of an index: Meilisearch takes letters, digits, '-' and '_'"
                ));
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(plain.to_owned()));
            }
            rest = "";
            if let Some(placeholder) = placeholder {
                let (name, more) = placeholder.split_once('}').ok_or("a '{' is not closed")?;
                pieces.push(match name {
                    "class" => Piece::Class,
                    "kind" => Piece::Kind,
                    "yyyy.MM.dd" => Piece::Day,
                    _ => return Err(format!("{{{name}}} is none of {{class}}, {{kind}} and {{yyyy.MM.dd}}")),
                });
                rest = more;
            }
        }
        if !pieces.contains(&Piece::Day) {
            return Err("{yyyy.MM.dd} is missing".to_owned());
        }
        Ok(Self(pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_tells_its_day() {
        for template in [
            "log-{class}-{yyyy.MM.dd}",
            "{kind}{yyyy.MM.dd}x",
            "2024-01-01-{yyyy.MM.dd}",
        ] {
            let template: Template = template.parse().unwrap();
            let name = template.name(Kind::PublishKey, day("2025-02-28"));
            assert_eq!(template.day(&name), Some(day("2025-02-28")), "{name}");
        }
        let template: Template = "log-{class}-{yyyy.MM.dd}".parse().unwrap();
        assert_eq!(
            template.name(Kind::Title, day("2025-02-28")),
            "log-broad_info-2025-02-28"
        );
        for other in [
            "broadcasts",
            "log-other-2025-02-28",
            "log-broad_info-2025-02-30",
            "log-broad_info-2025-02-28-",
            "한",
        ] {
            assert_eq!(template.day(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_template_is_told_why() {
        for (text, why) in [
            ("log", "{yyyy.MM.dd} is missing"),
            ("{day}", "{day} is none of {class}, {kind} and {yyyy.MM.dd}"),
            ("{class", "a '{' is not closed"),
        ] {
            assert_eq!(text.parse::<Template>().unwrap_err(), why);
        }
        assert!("x".repeat(101).parse::<Template>().is_err());
    }
}
