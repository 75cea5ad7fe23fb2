//! The options of `stoker submit` for models that find faces.

use stoker_proto::v1;

/// Which faces are looked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Finding faces")]
pub(super) struct FaceArgs {
    /// Do not look for faces of fewer pixels, from 12 on; more take less time [default: 20]
    #[arg(long, value_name = "PIXELS")]
    smallest_face: Option<u32>,

    /// Most faces of each image, at most 1000: the largest [default: 100]
    #[arg(long, value_name = "N")]
    max_faces: Option<u32>,
}

impl FaceArgs {
    /// Whether nothing was said.
    pub(super) const fn is_empty(&self) -> bool {
        self.smallest_face.is_none() && self.max_faces.is_none()
    }

    /// 0 where nothing was said.
    pub(super) fn options(&self) -> v1::FaceOptions {
        let (smallest_face, max_faces) = (self.smallest_face, self.max_faces);
        v1::FaceOptions {
            smallest_face: smallest_face.unwrap_or_default(),
            max_faces: max_faces.unwrap_or_default(),
        }
    }
}
