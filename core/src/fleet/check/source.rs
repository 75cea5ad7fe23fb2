//! Where a model comes from, and what pins it.

use std::time::Duration;

use super::Source;
use crate::fleet::spec::ModelSpec;

const FORMS: &str = "write `file:/path/to/directory`, `hf:owner/name@revision` or \
                     `s3://bucket/folder` (gs://, az://)";

/// The checked source, or what is wrong with it.
pub(super) fn source(model: &ModelSpec) -> Result<Source, String> {
    match (model.task.is_builtin(), model.source.as_deref()) {
        (true, None) => {
            Ok(Source::Builtin { delay: model.delay.map_or(Duration::ZERO, Into::into) })
        }
        (true, Some(_)) => {
            Err(format!("the task `{}` loads nothing: remove it", model.task.name()))
        }
        (false, None) => Err(format!("is missing: {FORMS}")),
        (false, Some(text)) => match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Source::Directory(path.into())),
            Some(("hf", repository)) => hugging_face(repository)
                .ok_or_else(|| format!("`{text}` names no repository: {FORMS}")),
            Some(("s3" | "gs" | "az", rest)) if is_folder(rest) => {
                Ok(Source::Bucket { url: text.trim_end_matches('/').to_owned() })
            }
            Some(("s3" | "gs" | "az", _)) => {
                Err(format!("`{text}` names no folder in a bucket: {FORMS}"))
            }
            _ => Err(format!("`{text}` is not a source: {FORMS}")),
        },
    }
}

/// The checked digest of a model with this source, or what is wrong with it.
pub(super) fn digest(model: &ModelSpec, source: Option<&Source>) -> Result<Option<String>, String> {
    const FORM: &str = "write `sha256:` and 64 hex digits (see sha256sum)";
    let Some(text) = &model.digest else {
        return match source {
            Some(Source::Bucket { .. }) => {
                Err(format!("is missing: a bucket has no revisions, so it pins the model; {FORM}"))
            }
            Some(Source::Directory(_) | Source::HuggingFace { .. } | Source::Builtin { .. })
            | None => Ok(None),
        };
    };
    let hex = text.strip_prefix("sha256:").unwrap_or("");
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Some(hex.to_ascii_lowercase()));
    }
    Err(format!("`{text}` is not a digest: {FORM}"))
}

/// `//bucket/folder`, all parts of it plain.
fn is_folder(text: &str) -> bool {
    let Some(path) = text.strip_prefix("//") else { return false };
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=@+".contains(&b))
    };
    let path = path.trim_end_matches('/');
    path.contains('/') && path.split('/').all(plain)
}

fn hugging_face(text: &str) -> Option<Source> {
    let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !part.starts_with('.')
    };
    let (owner, name) = repository.split_once('/')?;
    (plain(owner) && plain(name) && plain(revision)).then(|| Source::HuggingFace {
        repository: repository.to_owned(),
        revision: revision.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::FleetSpec;
    use crate::ids::ModelName;

    const DIGEST: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

    fn check(source: &str, digest: Option<&str>) -> Result<Source, String> {
        let digest = digest.map_or_else(String::new, |hex| format!("digest = \"sha256:{hex}\""));
        let text = format!(
            "fleet = \"dev\"\n[classes.standard]\nmax-wait = \"60s\"\n[models.mini]\n\
             task = \"text-embedding\"\nsource = \"{source}\"\n{digest}\n\
             [pools.default]\nmodels = [\"mini\"]\n"
        );
        let spec: FleetSpec = toml::from_str(&text).unwrap();
        let problems = |problems: Vec<super::super::Problem>| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let fleet = spec.check().map_err(problems)?;
        Ok(fleet.models[&ModelName::new("mini").unwrap()].source.clone())
    }

    #[test]
    fn sources_cannot_escape_the_hub_or_their_bucket() {
        for bad in [
            "hf:../etc",
            "hf:a/b/c",
            "hf:a/../b",
            "hf:a/b@../x",
            "hf:",
            "file:",
            "s3:bucket/x",
            "s3://bucket",
            "s3://bucket/",
            "gs://bucket/../x",
            "az:///x",
            "s3://bucket//x",
            "s3://bucket/x?y",
            "ftp://bucket/x",
        ] {
            let error = check(bad, Some(DIGEST)).unwrap_err();
            assert!(error.starts_with("models.mini.source: ") && !error.contains('\n'), "{error}");
            assert!(error.contains(bad) && error.contains("s3://bucket/folder"), "{error}");
        }
    }

    #[test]
    fn a_model_in_a_bucket_is_pinned_by_its_digest() {
        for url in ["s3://bucket/models/mini", "gs://bucket/mini", "az://container/mini/v1"] {
            let found = check(&format!("{url}/"), Some(DIGEST));
            assert_eq!(found, Ok(Source::Bucket { url: url.to_owned() }));
            let error = check(url, None).unwrap_err();
            assert!(error.starts_with("models.mini.digest: is missing"), "{error}");
            let error = check(url, Some("12")).unwrap_err();
            assert!(error.starts_with("models.mini.digest: `sha256:12`"), "{error}");
        }
        assert!(check("hf:a/b@main", None).is_ok());
    }
}
