//! Which engine's file fits a GPU. One is built for each generation of GPUs, and its name says which.

use std::path::Path;

/// The engine for CPUs; the others' names begin like it.
pub(crate) const ENGINE: &str = "stoker-engine";

const CUDA: &str = "stoker-engine-cuda";

/// The engines for GPUs among file names.
pub(super) fn all(files: &[String]) -> impl Iterator<Item = &str> {
    files.iter().map(String::as_str).filter(|name| built_for(name).is_some())
}

/// The one for a compute capability: built for the same generation, as new as possible, but no newer.
pub(super) fn best(files: &[String], capability: u32) -> Option<&str> {
    let fits = |built: u32| built / 10 == capability / 10 && built <= capability;
    all(files)
        .filter_map(|name| Some((built_for(name)?, name)))
        .filter(|(built, _)| fits(*built))
        .max()
        .map(|(_, name)| name)
}

fn built_for(name: &str) -> Option<u32> {
    name.strip_prefix(CUDA)?.parse().ok()
}

/// Names in a folder; none where it cannot be read.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_the_same_generation_is_best() {
        let files = [
            "stoker-engine",
            "stoker-engine-cuda75",
            "stoker-engine-cuda80",
            "stoker-engine-cuda86",
            "stoker-engine-cuda90",
            "stoker-engine-cuda90.d",
        ]
        .map(str::to_owned);
        let best = |capability| best(&files, capability);
        assert_eq!(best(80), Some("stoker-engine-cuda80"));
        assert_eq!(best(89), Some("stoker-engine-cuda86"));
        assert_eq!(best(90), Some("stoker-engine-cuda90"));
        assert_eq!((best(100), best(70)), (None, None));
        assert_eq!(all(&files).count(), 4);
    }
}
