//! Progressive HTTP.
use super::{SourceContext, SourceEnd};

/// Run.
pub async fn run(cx: &SourceContext) -> SourceEnd {
    super::hls::run(cx).await
}
