//! Whether the runtime image is there and of this build.

use crate::config::Settings;
use crate::engine::{Engine, ImageFacts};
use crate::error::{Code, Error, Result};

/// Carries the build id of the binary inside the image.
const BUILD: &str = "anchorhold.build";

/// The image, or why it cannot be used.
pub(super) async fn check(engine: &Engine, settings: &Settings) -> Result<ImageFacts> {
    let name = &settings.image.name;
    let image = engine.inspect_image(name).await?.ok_or_else(|| {
        Error::new(Code::ImageMissing, format!("find the runtime image {name} on the engine"))
            .with_hint("build it with `anchorhold image build`")
            .with_detail("image", name.as_str())
    })?;
    match (option_env!("ANCHORHOLD_BUILD"), image.labels.get(BUILD)) {
        (Some(ours), Some(theirs)) if ours == theirs => Ok(image),
        (None, _) => Ok(image),
        _ => Err(Error::new(Code::ImageMismatch, format!("use the runtime image {name}: it was built by another version than this program"))
            .with_hint("build it again with `anchorhold image build`")
            .with_detail("image", name.as_str())),
    }
}
