//! A process that gets a model, for tests that end it: URL, digest and the cache's folder are its arguments. It says
//! how many bytes are there, then the model's folder, which it holds until its input ends.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use stoker_weights::{Bucket, Cache, Needs, Progress};

const NEEDS: Needs = Needs { files: &["config.json"], gguf: false };

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, sha256, folder] = arguments.as_slice() else { return Err("three arguments".into()) };
    let environment = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let bucket = Bucket::open(url, environment)?;
    let progress: Progress = Arc::new(|bytes, _| {
        // Nobody listens to a process that is about to be killed.
        let _ = writeln!(io::stdout(), "{bytes}");
    });
    let model = Cache::open(folder.into(), 1 << 30)?.get(&bucket, sha256, NEEDS, &progress).await?;
    writeln!(io::stdout(), "{}", model.directory.display())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
