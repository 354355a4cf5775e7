//! Configuration in layers: command line over environment over file over defaults.

use std::path::Path;

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Serialize, de::DeserializeOwned};

/// A configuration that cannot be used. Shows every problem, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// An error from the problems that validation found.
    #[must_use]
    pub const fn new(problems: Vec<String>) -> Self {
        Self { problems }
    }
}

/// Prefix of environment variables; `__` separates section and key, e.g.
/// `CASTLOG_RTMP__LISTEN`.
const PREFIX: &str = "CASTLOG_";

/// Loads a configuration: the defaults of `T`, then the TOML file, then
/// `CASTLOG_<SECTION>__<KEY>` variables, then `overrides` of the form
/// `section.key=value`.
///
/// # Errors
/// The file cannot be read, a key is unknown, or a value has the wrong type.
pub fn load<T>(file: Option<&Path>, overrides: &[String]) -> Result<T, ConfigError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let mut figment = Figment::from(Serialized::defaults(T::default()));
    if let Some(file) = file {
        if !file.is_file() {
            return Err(ConfigError::new(vec![format!(
                "configuration file {} is not there",
                file.display()
            )]));
        }
        figment = figment.merge(Toml::file_exact(file));
    }
    // Variables without a section, such as those that scripts use, are not configuration.
    figment = figment.merge(
        Env::prefixed(PREFIX)
            .filter(|key| key.as_str().contains("__"))
            .split("__"),
    );
    for one in overrides {
        let Some((key, value)) = one.split_once('=') else {
            return Err(ConfigError::new(vec![format!(
                "--set {one:?} has no '=': the form is section.key=value"
            )]));
        };
        // A value is read as TOML reads it (numbers, booleans, lists), else as text.
        let value: figment::value::Value = value
            .parse()
            .map_err(|_| ConfigError::new(vec![format!("--set {key}: the value cannot be read")]))?;
        figment = figment.merge(Serialized::default(key.trim(), value));
    }
    figment
        .extract()
        .map_err(|errors| ConfigError::new(errors.into_iter().map(|e| e.to_string()).collect()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Whole {
        rtmp: Section,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Section {
        listen: String,
        max: u32,
    }

    impl Default for Section {
        fn default() -> Self {
            Self {
                listen: "127.0.0.1:1935".into(),
                max: 5,
            }
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn later_layers_win() {
        let file = file("[rtmp]\nmax = 7\nlisten = \"0.0.0.0:1\"\n");
        let whole: Whole = load(Some(file.path()), &["rtmp.listen=0.0.0.0:2".into()]).unwrap();
        assert_eq!(
            whole.rtmp,
            Section {
                listen: "0.0.0.0:2".into(),
                max: 7
            }
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = file("[rtmp]\nlisen = \"x\"\n");
        let error = load::<Whole>(Some(unknown.path()), &[]).unwrap_err().to_string();
        assert!(error.contains("lisen"), "{error}");
        let error = load::<Whole>(None, &["rtmp.max=many".into()]).unwrap_err().to_string();
        assert!(error.contains("max"), "{error}");
        assert!(load::<Whole>(None, &["rtmp.max".into()]).is_err());
        assert!(load::<Whole>(Some(Path::new("/nonexistent.toml")), &[]).is_err());
    }
}
