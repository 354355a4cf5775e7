//! A bucket of an S3-compatible server.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use object_store::{
    BackoffConfig, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    prefix::PrefixStore,
};

use super::{
    MediaStore,
    config::{Bucket, MediaStoreConfig},
    http::Connector,
};

/// None: whoever uses the store tries again, as long as suits it.
const NO_RETRIES: usize = 0;

/// Opens a bucket; `environment` is where credentials and the region come from that
/// the configuration does not have.
pub(super) fn open(
    config: &MediaStoreConfig,
    bucket: &Bucket,
    environment: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<MediaStore> {
    let store = builder(config, &bucket.name, environment)
        .build()
        .context("cannot use the configuration of the media store")?;
    Ok(Arc::new(PrefixStore::new(store, bucket.prefix.clone())))
}

fn builder(
    config: &MediaStoreConfig,
    bucket: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> AmazonS3Builder {
    let own_key = !config.access_key_id.is_empty();
    let mut builder = AmazonS3Builder::new();
    for (name, value) in environment.filter(|(name, _)| name.starts_with("AWS_")) {
        let Ok(key) = name.to_ascii_lowercase().parse() else {
            continue;
        };
        // A key of the configuration stands alone: the token of another would spoil it.
        let of_another = own_key
            && matches!(
                key,
                AmazonS3ConfigKey::AccessKeyId | AmazonS3ConfigKey::SecretAccessKey | AmazonS3ConfigKey::Token
            );
        if !of_another && !value.is_empty() {
            builder = builder.with_config(key, value);
        }
    }
    if own_key {
        builder = builder
            .with_access_key_id(&config.access_key_id)
            .with_secret_access_key(config.secret_access_key.expose());
    }
    if !config.region.is_empty() {
        builder = builder.with_region(&config.region);
    }
    if !config.endpoint.is_empty() {
        builder = builder.with_endpoint(config.endpoint.trim_end_matches('/'));
    }
    builder
        .with_bucket_name(bucket)
        // Also where buckets have no host names: castlog needs no DNS entry per bucket.
        .with_virtual_hosted_style_request(false)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: NO_RETRIES,
            retry_timeout: Duration::ZERO,
        })
        .with_http_connector(Connector)
}

#[cfg(test)]
mod tests {
    use castlog_log::Secret;

    use super::*;

    fn read(config: &MediaStoreConfig, environment: &[(&str, &str)]) -> [Option<String>; 5] {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let builder = builder(config, "media", environment);
        [
            AmazonS3ConfigKey::AccessKeyId,
            AmazonS3ConfigKey::SecretAccessKey,
            AmazonS3ConfigKey::Token,
            AmazonS3ConfigKey::Region,
            AmazonS3ConfigKey::ConditionalPut,
        ]
        .map(|key| builder.get_config_value(&key))
    }

    const ENVIRONMENT: [(&str, &str); 6] = [
        ("AWS_ACCESS_KEY_ID", "env-id"),
        ("AWS_SECRET_ACCESS_KEY", "env-secret"),
        ("AWS_SESSION_TOKEN", "env-token"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_CONDITIONAL_PUT", "disabled"),
        ("PATH", "/bin"),
    ];

    #[test]
    fn the_configuration_comes_before_the_environment_and_mixes_no_keys() {
        let some = |text: &str| Some(text.to_owned());
        let none = MediaStoreConfig::default();
        assert_eq!(
            read(&none, &ENVIRONMENT),
            [
                some("env-id"),
                some("env-secret"),
                some("env-token"),
                some("eu-west-1"),
                some("etag")
            ]
        );
        let own = MediaStoreConfig {
            access_key_id: "id".to_owned(),
            secret_access_key: Secret::new("secret".to_owned()),
            region: "garage".to_owned(),
            ..none
        };
        assert_eq!(
            read(&own, &ENVIRONMENT),
            [some("id"), some("secret"), None, some("garage"), some("etag")]
        );
    }
}
