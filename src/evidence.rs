//! Stills that prove a defect, under a quota.
