//! Images: pulled, imported, built.

use std::collections::HashMap;

use bollard::query_parameters as query;
use futures_util::{Stream, StreamExt};

use super::{Engine, UploadStream, failure, spec};
use crate::error::{Code, Error, Result};

/// A build by the engine's classic builder (BuildKit is not needed, and 20.10 has none behind its API).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// Name and tag of the result.
    pub name: String,
    /// The Dockerfile's name in the context.
    pub dockerfile: String,
    /// Build arguments.
    pub arguments: Vec<(String, String)>,
    /// Labels of the result.
    pub labels: Vec<(String, String)>,
    /// The network of its `RUN` steps; `host` also works where the engine has no bridge.
    pub network: String,
    /// Ignore cached layers.
    pub no_cache: bool,
}

impl Engine {
    /// Pulls an image by name and tag.
    pub async fn pull_image(&self, name: &str, progress: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        spec::check_image_name(name)?;
        let options = query::CreateImageOptionsBuilder::default().from_image(name).build();
        self.create_image("pull the image", options, None, progress).await
    }

    /// Makes an image of one layer from a tar stream of a root file system.
    pub async fn import_image(&self, name: &str, root: UploadStream, progress: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        spec::check_image_name(name)?;
        let (repo, tag) = split_tag(name);
        let options = query::CreateImageOptionsBuilder::default().from_src("-").repo(repo).tag(tag).build();
        self.create_image("import the image", options, Some(root), progress).await
    }

    async fn create_image(
        &self,
        what: &'static str,
        options: query::CreateImageOptions,
        root: Option<UploadStream>,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()> {
        let answers = self.docker.create_image(Some(options), root.map(bollard::body_try_stream), None);
        let lines = answers.map(|answer| {
            answer.map(|info| {
                let detail = info.progress_detail.is_some_and(|p| p.current.is_some());
                // Byte counts come many times a second; the plain states are enough.
                info.status.filter(|_| !detail)
            })
        });
        self.report(what, lines, progress).await
    }

    /// Builds an image from a tar stream.
    pub async fn build_image(&self, request: &BuildRequest, context: UploadStream, progress: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        const WHAT: &str = "build the image";
        spec::check_image_name(&request.name)?;
        let arguments: HashMap<String, String> = request.arguments.iter().cloned().collect();
        let labels: HashMap<String, String> = request.labels.iter().cloned().collect();
        let options = query::BuildImageOptionsBuilder::default()
            .t(&request.name)
            .dockerfile(&request.dockerfile)
            .buildargs(&arguments)
            .labels(&labels)
            .networkmode(&request.network)
            .nocache(request.no_cache)
            .rm(true)
            .forcerm(true)
            .build();
        let answers = self.docker.build_image(options, None, Some(bollard::body_try_stream(context)));
        let lines = answers.map(|answer| answer.map(|info| info.stream.or(info.status)));
        self.report(WHAT, lines, progress).await
    }

    /// Gives an image a further name.
    pub async fn tag_image(&self, name: &str, new_name: &str) -> Result<()> {
        const WHAT: &str = "tag the image";
        spec::check_image_name(name)?;
        spec::check_image_name(new_name)?;
        let (repo, tag) = split_tag(new_name);
        let options = query::TagImageOptionsBuilder::default().repo(repo).tag(tag).build();
        self.short(WHAT, self.docker.tag_image(name, Some(options))).await?.map_err(|e| self.failed(WHAT, e))
    }

    /// Removes an image that no name refers to and no container uses; `false`: it is still named or used, or gone.
    pub async fn remove_unnamed_image(&self, id: &str) -> Result<bool> {
        const WHAT: &str = "remove the old image";
        spec::check_image_name(id)?;
        match self.short(WHAT, self.docker.inspect_image(id)).await? {
            Ok(image) if image.repo_tags.as_ref().is_none_or(Vec::is_empty) => {}
            Ok(_) => return Ok(false),
            Err(e) if failure::not_found(&e) => return Ok(false),
            Err(e) => return Err(self.failed(WHAT, e)),
        }
        match self.short(WHAT, self.docker.remove_image(id, None::<query::RemoveImageOptions>, None)).await? {
            Ok(_) => Ok(true),
            Err(e) if matches!(failure::status(&e), Some(404 | 409)) => Ok(false),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    async fn report<S>(&self, what: &'static str, lines: S, progress: &mut (dyn FnMut(&str) + Send)) -> Result<()>
    where
        S: Stream<Item = Result<Option<String>, bollard::errors::Error>> + Send,
    {
        let mut lines = Box::pin(lines);
        while let Some(line) = lines.next().await {
            let text = line.map_err(|e| setup_failed(self.failed(what, e)))?;
            for line in text.as_deref().unwrap_or_default().lines().map(str::trim_end).filter(|l| tells_something(l)) {
                progress(&crate::display::line(line.as_bytes()));
            }
        }
        Ok(())
    }
}

/// A failed step of a build is a failed set-up; a lost engine stays what it is.
fn setup_failed(mut error: Error) -> Error {
    if error.code == Code::EngineError {
        error.code = Code::SetupFailed;
    }
    error
}

/// The classic builder names every intermediate image and container.
fn tells_something(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(" --->") && !line.starts_with("Removing intermediate container")
}

/// `repo:tag`; a colon before the last slash is a registry's port.
fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_tag("debian:bookworm-slim"), ("debian", "bookworm-slim"));
        assert_eq!(split_tag("host:5000/a"), ("host:5000/a", "latest"));
        assert_eq!(split_tag("host:5000/a:1"), ("host:5000/a", "1"));
    }
}
