//! Where media is, as users write it.

use std::{fmt, path::PathBuf};

use castlog_log::Secret;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use url::Url;

/// Where media is stored: in a folder, or in a bucket when `url` is set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaStoreConfig {
    /// Local folder of the media objects; created when missing. Default `.castlog/media`.
    pub path: PathBuf,
    /// Bucket in place of the folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`; empty = none.
    pub url: String,
    /// URL of the S3 server, in which buckets are paths; empty = that of AWS in `region`.
    pub endpoint: String,
    /// Region; empty = what `AWS_REGION` or `AWS_DEFAULT_REGION` says, else `us-east-1`.
    pub region: String,
    /// Id of the access key; empty, as its secret then is, = what the `AWS_*` variables
    /// say, or the role of the instance, task or pod.
    pub access_key_id: String,
    /// Secret of the access key.
    pub secret_access_key: Secret<String>,
}

impl Default for MediaStoreConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from(".castlog/media"),
            url: String::new(),
            endpoint: String::new(),
            region: String::new(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
        }
    }
}

/// A bucket, and where in it media is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) prefix: Path,
}

impl MediaStoreConfig {
    /// Media in a local folder.
    #[must_use]
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// All that is wrong with the values, each with its key; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(Err(problem)) = self.bucket() {
            problems.push(problem);
        }
        if !self.url.is_empty() && self.path != Self::default().path {
            problems.push(format!(
                "path and url are both set: media is in the folder {} or in {}, not in both",
                self.path.display(),
                self.url
            ));
        }
        if self.url.is_empty() {
            for (key, is_set) in [
                ("endpoint", !self.endpoint.is_empty()),
                ("region", !self.region.is_empty()),
                ("access_key_id", !self.access_key_id.is_empty()),
                ("secret_access_key", !self.secret_access_key.expose().is_empty()),
            ] {
                if is_set {
                    problems.push(format!("{key} is set, and url, which it is for, is not"));
                }
            }
        }
        if !self.endpoint.is_empty() && !is_server(&self.endpoint) {
            // Not repeated: it may hold a password.
            problems.push("endpoint is not the URL of a server, like https://s3.example.org:9000".to_owned());
        }
        if self.access_key_id.is_empty() != self.secret_access_key.expose().is_empty() {
            problems.push("access_key_id and secret_access_key go together: one of them is empty".to_owned());
        }
        problems
    }

    /// The bucket of `url`; `None` when media is in a folder.
    pub(super) fn bucket(&self) -> Option<Result<Bucket, String>> {
        if self.url.is_empty() {
            return None;
        }
        let wrong = || format!("url = {:?} is not s3://BUCKET or s3://BUCKET/PREFIX", self.url);
        let parse = || {
            let rest = self.url.strip_prefix("s3://")?;
            let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
            let prefix = Path::parse(prefix).ok()?;
            named.then(|| Bucket {
                name: name.to_owned(),
                prefix,
            })
        };
        Some(parse().ok_or_else(wrong))
    }

    /// Which bucket it is and where, for people: nothing of it is a secret.
    pub(super) fn place(&self) -> Place {
        Place {
            url: self.url.clone(),
            server: if self.endpoint.is_empty() {
                "AWS".to_owned()
            } else {
                self.endpoint.clone()
            },
        }
    }
}

fn is_server(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// A bucket and its server, as messages name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    url: String,
    server: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.url, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3() -> MediaStoreConfig {
        MediaStoreConfig {
            url: "s3://media/live".to_owned(),
            endpoint: "http://127.0.0.1:9000".to_owned(),
            access_key_id: "castlog".to_owned(),
            secret_access_key: Secret::new("hidden".to_owned()),
            ..MediaStoreConfig::default()
        }
    }

    #[test]
    fn a_folder_or_a_bucket_can_be_used() {
        for config in [
            MediaStoreConfig::default(),
            MediaStoreConfig::folder("/srv/media"),
            s3(),
            MediaStoreConfig {
                url: "s3://media".to_owned(),
                ..MediaStoreConfig::default()
            },
        ] {
            assert_eq!(config.validate(), Vec::<String>::new());
        }
        let bucket = s3().bucket().unwrap().unwrap();
        assert_eq!((bucket.name.as_str(), bucket.prefix.as_ref()), ("media", "live"));
    }

    #[test]
    fn a_folder_and_a_bucket_are_one_problem() {
        let config = MediaStoreConfig {
            path: "/srv/media".into(),
            ..s3()
        };
        let problems = config.validate();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("path and url are both set"), "{problems:?}");
    }

    #[test]
    fn all_problems_are_told_and_no_secret() {
        let config = MediaStoreConfig {
            url: "https://media".to_owned(),
            endpoint: "http://me:hidden@127.0.0.1".to_owned(),
            access_key_id: String::new(),
            ..s3()
        };
        let problems = config.validate();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            !format!("{problems:?} {config:?}")
                .replace("me:hidden@", "")
                .contains("hidden")
        );
        assert!(!format!("{problems:?}").contains("hidden"), "{problems:?}");
        let config = MediaStoreConfig {
            url: String::new(),
            ..s3()
        };
        assert_eq!(config.validate().len(), 3, "{:?}", config.validate());
    }

    #[test]
    fn what_names_no_bucket_is_told() {
        for url in [
            "s3://",
            "s3:///live",
            "media",
            "s3://me@media",
            "s3://media?x=1",
            "s3://media/a//b",
        ] {
            let config = MediaStoreConfig {
                url: url.to_owned(),
                ..MediaStoreConfig::default()
            };
            assert_eq!(config.validate().len(), 1, "{url}");
        }
    }
}
