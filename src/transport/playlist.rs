//! HLS playlists: pinned rendition, segments, staleness. Pure.
