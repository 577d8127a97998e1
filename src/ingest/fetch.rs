//! HTTP with limits: address policy, redirects, deadlines, body sizes, request pacing.
