//! A bucket of Amazon S3, or of a server that speaks like it.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Config, Region, RequestChecksumCalculation, StalledStreamProtectionConfig,
};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use url::Url;

use super::upload::{BucketError, PutError, Vault};
use crate::aws::{self, Connector, Failure};
use crate::config::S3;
use crate::ingest::fetch::client::client;
use crate::ingest::fetch::policy::check_url;

/// A bucket.
pub struct Bucket {
    config: S3,
    http: reqwest::Client,
    /// With the credentials of the chain as it was evaluated last.
    client: Mutex<Option<Client>>,
}

impl Bucket {
    /// Checks the endpoint and builds the HTTP client. Credentials are asked for when something is uploaded.
    ///
    /// # Errors
    /// It cannot be used like that.
    pub fn new(config: &S3) -> Result<Self, BucketError> {
        if let Some(endpoint) = &config.endpoint {
            let url = Url::parse(endpoint.expose()).map_err(|_| BucketError::Endpoint)?;
            check_url(&url, config.allow_private).map_err(|_| BucketError::Endpoint)?;
        }
        let connect = aws::CONNECT_TIMEOUT.min(config.timeout);
        Ok(Self {
            http: client(config.allow_private, connect).map_err(|_| BucketError::Client)?,
            config: config.clone(),
            client: Mutex::default(),
        })
    }

    async fn client(&self) -> Result<Client, PutError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let chain = (aws::credentials(&self.config.region, None).await).map_err(|_| PutError {
            what: "credentials".to_owned(),
        })?;
        let config = Config::builder()
            .behavior_version(aws::behavior())
            .region(Region::new(self.config.region.clone()))
            .credentials_provider(chain)
            .http_client(Connector::new(self.http.clone()))
            // Attempts are the queue's.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .read_timeout(self.config.timeout)
                    .build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // The signature covers the bytes already, and not every server knows newer checksums.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        let config = match &self.config.endpoint {
            Some(endpoint) => config
                .endpoint_url(endpoint.expose())
                .force_path_style(true),
            // No certificate fits a name of several labels.
            None => config.force_path_style(self.config.bucket.contains('.')),
        };
        Ok(client.insert(Client::from_conf(config.build())).clone())
    }

    async fn keep(
        &self,
        key: &str,
        media_type: &'static str,
        bytes: Bytes,
    ) -> Result<(), PutError> {
        let client = self.client().await?;
        let put = client
            .put_object()
            .bucket(&self.config.bucket)
            .key(key)
            .content_type(media_type)
            .body(bytes.into());
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let failure = Failure::of(&error);
                if failure.is_about_credentials() {
                    *self.client.lock().await = None;
                }
                let what = failure.to_string();
                Err(PutError { what })
            }
        }
    }
}

impl Vault for Bucket {
    fn put<'a>(
        &'a self,
        key: &'a str,
        media_type: &'static str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), PutError>> {
        self.keep(key, media_type, bytes).boxed()
    }

    fn place(&self) -> String {
        format!("s3://{}", self.config.bucket)
    }
}
