//! A folder in object storage. Credentials, regions and endpoints come from variables, or from the machine's role; the
//! files and profiles of the clouds' own tools are not read.

use std::str::FromStr;
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectStore, RetryConfig};

use crate::error::WeightsError;
use crate::selection::{Listed, MAX_FILES};

/// For one request of at most a part.
const REQUEST_LIMIT: Duration = Duration::from_mins(5);
/// A connection over which nothing came for so long is given up.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The store's own repetitions of a request; the download repeats its parts besides.
const RETRIES: usize = 6;
const RETRY_LIMIT: Duration = Duration::from_secs(20);

/// Where a model is.
#[derive(Debug, Clone)]
pub struct Bucket {
    url: String,
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl Bucket {
    /// The folder that a URL names, with the credentials, region and endpoint of `environment`: the variables
    /// `AWS_*`, `GOOGLE_*` and `AZURE_*` that `object_store` knows, which mean there what they mean to the clouds' own
    /// tools. Not among them are `AWS_PROFILE` and files with credentials of several accounts. Nothing is asked yet.
    ///
    /// # Errors
    /// When the URL is of another form, or the environment has no usable settings for its cloud.
    pub fn open(
        url: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, WeightsError> {
        let unreadable = || WeightsError::Url { url: url.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(unreadable)?;
        let (bucket, folder) = rest.split_once('/').ok_or_else(unreadable)?;
        let folder = Path::parse(folder.trim_end_matches('/')).map_err(|_| unreadable())?;
        if bucket.is_empty() || folder.as_ref().is_empty() {
            return Err(unreadable());
        }
        choose_tls();
        let environment = environment.into_iter();
        let store = match scheme {
            "s3" => s3(bucket, environment),
            "gs" => gs(bucket, environment),
            "az" => az(bucket, environment),
            _ => return Err(unreadable()),
        };
        let store = store.map_err(|source| WeightsError::Setup { url: url.to_owned(), source })?;
        Ok(Self { url: url.to_owned(), store, folder })
    }

    /// A folder of any store, for tests.
    #[cfg(test)]
    pub(crate) fn of(url: &str, store: Arc<dyn ObjectStore>, folder: &str) -> Self {
        Self { url: url.to_owned(), store, folder: Path::from(folder) }
    }

    /// As it was named.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The files under the folder; of too many, as many as show it.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, object_store::Error> {
        let objects = self.store.list(Some(&self.folder)).take(MAX_FILES + 1);
        let objects = objects.try_collect::<Vec<_>>().await?;
        let listed = objects.into_iter().filter_map(|object| {
            let parts = object.location.prefix_match(&self.folder)?;
            let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            let tag = object.e_tag.or(object.version);
            (!name.is_empty()).then_some(Listed { name, size: object.size, tag })
        });
        Ok(listed.collect())
    }

    /// A range of a file, as long as it is still the one that was listed.
    pub(crate) async fn read_range(
        &self,
        file: &Listed,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, object_store::Error> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: file.tag.clone(),
            ..GetOptions::default()
        };
        self.store.get_opts(&self.at(&file.name)?, options).await?.bytes().await
    }

    /// The key as the store gave it: joining a path would encode what is unusual in a name once more.
    fn at(&self, name: &str) -> Result<Path, object_store::Error> {
        Ok(Path::parse(format!("{}/{name}", self.folder))?)
    }
}

// The name comes last in all of these: there are variables that name a bucket, and the fleet file's counts.

type Built = Result<Arc<dyn ObjectStore>, object_store::Error>;

fn s3(bucket: &str, environment: impl Iterator<Item = (String, String)>) -> Built {
    let builder = AmazonS3Builder::new().with_client_options(client_options());
    let mut builder = builder.with_retry(retry());
    for (key, value) in settings("AWS_", environment) {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
}

fn gs(bucket: &str, environment: impl Iterator<Item = (String, String)>) -> Built {
    let builder = GoogleCloudStorageBuilder::new().with_client_options(client_options());
    let mut builder = builder.with_retry(retry());
    for (key, value) in settings("GOOGLE_", environment) {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
}

fn az(container: &str, environment: impl Iterator<Item = (String, String)>) -> Built {
    let builder = MicrosoftAzureBuilder::new().with_client_options(client_options());
    let mut builder = builder.with_retry(retry());
    for (key, value) in settings("AZURE_", environment) {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_container_name(container).build()?))
}

/// The variables of a cloud that the library knows; others are somebody else's.
fn settings<K: FromStr>(
    prefix: &'static str,
    environment: impl Iterator<Item = (String, String)>,
) -> impl Iterator<Item = (K, String)> {
    environment
        .filter(move |(name, _)| name.starts_with(prefix))
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)))
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout(REQUEST_LIMIT)
        .with_read_timeout(SILENCE_LIMIT)
        .with_connect_timeout(CONNECT_LIMIT)
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_LIMIT, ..RetryConfig::default() }
}

/// TLS is rustls on ring, as everywhere in this workspace.
fn choose_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Somebody who was first has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_store_a_bucket_and_a_folder() {
        let open = |url: &str| {
            let region = ("AWS_REGION".to_owned(), "eu-central-1".to_owned());
            Bucket::open(url, [region, ("AWS_NONSENSE".to_owned(), "x".to_owned())])
        };
        for bad in ["", "s3:bucket/x", "s3://bucket", "s3://bucket/", "s3:///x", "http://b/x"] {
            assert!(matches!(open(bad), Err(WeightsError::Url { .. })), "{bad}");
        }
        assert_eq!(open("s3://bucket/models/mini/").unwrap().folder.as_ref(), "models/mini");
    }

    #[test]
    fn no_variable_replaces_the_bucket_that_was_named() {
        let names = ["AWS_BUCKET", "AWS_BUCKET_NAME", "GOOGLE_BUCKET", "GOOGLE_BUCKET_NAME"];
        let names = [&names[..], &["AZURE_CONTAINER_NAME"]].concat();
        let settings = [("AZURE_STORAGE_ACCOUNT_NAME", "us"), ("GOOGLE_SKIP_SIGNATURE", "true")];
        let variables = names.into_iter().map(|name| (name, "elsewhere")).chain(settings);
        let variables: Vec<_> =
            variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for scheme in ["s3", "gs", "az"] {
            let bucket = Bucket::open(&format!("{scheme}://ours/m"), variables.clone()).unwrap();
            let store = bucket.store.to_string();
            assert!(store.contains("ours") && !store.contains("elsewhere"), "{store}");
        }
    }
}
